"""Validation photographs with the masks of the network during training."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from fundusnet.evaluation.figures import panel
from fundusnet.evaluation.overlays import Pixels, overlay
from fundusnet.evaluation.panels import draw_panels
from fundusnet.grading.cam import upsampled
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage, first_stage


def validation_panels(module: RankingStage, datamodule: GradingDataModule, count: int) -> dict[str, Figure]:
    """Return ``count`` panels by image id, the same in every epoch, with photographs of every grade in turn."""
    rows, names = datamodule.rows["val"], datamodule.classes
    grade = datamodule.grade[rows]
    nth = np.array([np.sum(grade[:i] == grade[i]) for i in range(len(rows))])  # how many of its grade came before

    def draw(row: int, pixels: Pixels, picture: Tensor) -> Figure | None:
        if isinstance(module, TwoStage):
            mask = module.look(picture).mask
            predicted = int(module(picture).grade)
        elif module.input == "image" and module.network.has_maps:
            answer = first_stage(module.network, module.picture(picture))
            mask, predicted = answer.mask, int(answer.grade)
        else:
            return None  # it has no maps
        heat = upsampled(mask, pixels.shape[:2])[0, 0].float().cpu().numpy()
        title = f"{names[int(datamodule.grade[row])]}, predicted {names[predicted]}"
        return panel({"photograph": pixels, "mask": overlay(pixels, heat)}, title=title, scale="mask")

    return draw_panels(module, datamodule.prepared, rows[np.lexsort((grade, nth))][:count], draw)
