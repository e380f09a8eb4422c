"""The masks of predicted grades, put to the tests of faithfulness."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fundusnet.evaluation.faithfulness import Explained, Tested, faithfulness
from fundusnet.evaluation.faithfulness_report import IMAGES
from fundusnet.grading import cam
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.network import GradingNetwork
from fundusnet.grading.ranking import class_probabilities, predicted_grade, probabilities
from fundusnet.grading.stage import RankingStage, scaled
from fundusnet.grading.two_stage import TwoStage


def tested_maps(
    module: RankingStage, datamodule: GradingDataModule, split: str
) -> dict[str, tuple[pd.DataFrame, Tested]]:
    """Some images of ``split``, and how the masks of their predicted grades fare; nothing of a stage without maps.

    Of two stages it is the first that makes the masks, and its probability of the grade it predicts that they explain.
    """
    network = module.stage1 if isinstance(module, TwoStage) else module.network
    if not network.has_maps:
        return {}
    rows = datamodule.rows[split]
    if len(rows) > IMAGES:
        rows = np.sort(np.random.default_rng(0).choice(rows, IMAGES, replace=False))
    grades: list[int] = []
    device = next(network.parameters()).device
    with torch.no_grad():
        for batch in datamodule.in_order(rows):
            logits = network(scaled(batch["image"].to(device)))
            grades += predicted_grade(network.head, logits).tolist()
    pictures = [np.asarray(datamodule.prepared.pixels[row]) for row in rows]
    tested = faithfulness(Explained(network.eval(), _score, _maps), pictures, grades)
    return {"grade": (datamodule.prepared.manifest.images.iloc[rows], tested)}


def _score(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    graded = cast(GradingNetwork, network)
    p = class_probabilities(probabilities(graded.head, graded(pictures)))
    return p[torch.arange(len(targets)), targets]


def _maps(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    graded = cast(GradingNetwork, network)
    _, cams = graded.with_maps(pictures)
    of_grade = cam.class_mask if graded.head == "multiclass" else cam.grade_mask
    return of_grade(cams, targets, (cams.shape[-2], cams.shape[-1]))[:, 0]
