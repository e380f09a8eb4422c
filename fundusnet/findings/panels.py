"""Validation photographs with the activation maps of the network during training."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from fundusnet.evaluation.figures import panel
from fundusnet.evaluation.overlays import Pixels
from fundusnet.evaluation.panels import draw_panels
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.figures import panel_tiles
from fundusnet.findings.module import GuidedModule


def validation_panels(module: GuidedModule, datamodule: FindingsDataModule, count: int) -> dict[str, Figure]:
    """Return ``count`` panels by image id, the same in every epoch: half with the first finding, half without."""
    prepared, labels, rows = datamodule.prepared, datamodule.labels, datamodule.rows["val"]
    label = labels.label[rows, 0]
    present, absent = rows[label == 1][: count - count // 2], rows[label == 0][: count // 2]

    def draw(row: int, pixels: Pixels, picture: Tensor) -> Figure:
        activation, probability = (values[0].float().cpu().numpy() for values in module(picture))
        names = [f"{name} {p:.2f}" for name, p in zip(module.findings, probability, strict=True)]
        image_id = str(prepared.manifest.images["image_id"].iloc[row])
        tiles = panel_tiles(
            pixels,
            dict(zip(names, activation, strict=True)),
            cue=labels.cue(row)[0] if labels.cue_known[row, 0] and labels.label[row, 0] == 1 else None,
            lesion=prepared.lesion_mask(image_id, module.findings[0]),
        )
        return panel(tiles, scale="activation")

    return draw_panels(module, prepared, [*present, *absent], draw)
