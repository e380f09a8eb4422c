"""A few validation photographs with the maps of the network as it is now."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from fundusnet.evaluation import figures
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.module import GuidedModule


@torch.no_grad()
def validation_panels(module: GuidedModule, datamodule: FindingsDataModule, count: int) -> dict[str, Figure]:
    """``count`` panels by image id, the same in every epoch: half with the first finding, half without."""
    rows = datamodule.rows["val"]
    label = datamodule.labels.label[rows, 0]
    present, absent = rows[label == 1][: count - count // 2], rows[label == 0][: count // 2]
    training = module.training
    module.eval()
    panels = {}
    for row in [*present, *absent]:
        pixels = np.asarray(datamodule.prepared.pixels[row])
        picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(module.device)
        activation, probability = (values[0].float().cpu().numpy() for values in module(picture))
        known = datamodule.labels.cue_known[row, 0] and datamodule.labels.label[row, 0] == 1
        names = [f"{name} {p:.2f}" for name, p in zip(module.findings, probability, strict=True)]
        tiles = figures.panel_tiles(
            pixels,
            dict(zip(names, activation, strict=True)),
            cue=datamodule.labels.cue(row)[0] if known else None,
            lesion=datamodule.prepared.lesion_mask(_image_id(datamodule, row), module.findings[0]),
        )
        panels[_image_id(datamodule, row)] = figures.panel(tiles)
    module.train(training)
    return panels


def _image_id(datamodule: FindingsDataModule, row: int) -> str:
    return str(datamodule.prepared.manifest.images["image_id"].iloc[row])
