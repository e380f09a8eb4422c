"""A few validation photographs with the masks of the network as it is now."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from fundusnet.evaluation import figures
from fundusnet.grading.cam import upsampled
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage, first_stage


@torch.no_grad()
def validation_panels(module: RankingStage, datamodule: GradingDataModule, count: int) -> dict[str, Figure]:
    """``count`` panels by image id, the same in every epoch, with photographs of every grade in turn."""
    rows = datamodule.rows["val"]
    grade = datamodule.grade[rows]
    nth = np.array([np.sum(grade[:i] == grade[i]) for i in range(len(rows))])  # how many of its grade came before
    training = module.training
    module.eval()
    panels = {}
    for row in rows[np.lexsort((grade, nth))][:count]:
        pixels = np.asarray(datamodule.prepared.pixels[row])
        picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(module.device)
        tiles = {"photograph": pixels}
        if isinstance(module, TwoStage):
            mask = module.look(picture).mask
            predicted = int(module(picture).grade)
        elif module.input == "image" and module.network.has_maps:
            answer = first_stage(module.network, module.picture(picture))
            mask, predicted = answer.mask, int(answer.grade)
        else:
            continue  # nothing of it can be shown
        heat = upsampled(mask, pixels.shape[:2])[0, 0].float().cpu().numpy()
        tiles["mask"] = figures.overlay(pixels, heat)
        image_id = str(datamodule.prepared.manifest.images["image_id"].iloc[row])
        names = datamodule.classes
        title = f"{names[int(datamodule.grade[row])]}, predicted {names[predicted]}"
        panels[image_id] = figures.panel(tiles, title=title)
    module.train(training)
    return panels
