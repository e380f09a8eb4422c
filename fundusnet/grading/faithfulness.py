"""The faithfulness of the masks of predicted grades."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fundusnet.evaluation.faithfulness import Explanation, Faithfulness, measure_faithfulness, sample_rows
from fundusnet.grading import cam
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.network import GradingNetwork
from fundusnet.grading.ranking import class_probabilities, predicted_grade, probabilities
from fundusnet.grading.stage import RankingStage, scaled
from fundusnet.grading.statistics import GRADE
from fundusnet.grading.two_stage import TwoStage


def mask_faithfulness(
    module: RankingStage, datamodule: GradingDataModule, split: str
) -> dict[str, tuple[pd.DataFrame, Faithfulness]]:
    """Return a sample of the images of ``split``, and the faithfulness of the masks of their predicted grades.

    Of two stages the first is measured: it makes the masks, and they explain its probability of the grade it predicts.
    Empty for a stage without maps.
    """
    network = module.stage1 if isinstance(module, TwoStage) else module.network
    if not network.has_maps:
        return {}
    rows = sample_rows(datamodule.rows[split])
    grades: list[int] = []
    device = next(network.parameters()).device
    with torch.no_grad():
        for batch in datamodule.in_order(rows, images=True):
            logits = network(scaled(batch["image"].to(device)))
            grades += predicted_grade(network.head, logits, network.decision).tolist()
    pictures = [np.asarray(datamodule.prepared.pixels[row]) for row in rows]
    measured = measure_faithfulness(Explanation(network.eval(), _score, _maps), pictures, grades)
    return {GRADE: (datamodule.prepared.manifest.images.iloc[rows], measured)}


def _score(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    graded = cast(GradingNetwork, network)
    p = class_probabilities(probabilities(graded.head, graded(pictures)))
    return p[torch.arange(len(targets)), targets]


def _maps(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    graded = cast(GradingNetwork, network)
    _, cams = graded.with_maps(pictures)
    of_grade = cam.class_mask if graded.head == "multiclass" else cam.grade_mask
    return of_grade(cams, targets, (cams.shape[-2], cams.shape[-1]))[:, 0]
