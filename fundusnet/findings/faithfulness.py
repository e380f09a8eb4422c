"""The faithfulness of the activation maps of findings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fundusnet.evaluation.faithfulness import Explanation, Faithfulness, measure_faithfulness, sample_rows
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.module import GuidedModule


def map_faithfulness(
    module: GuidedModule, datamodule: FindingsDataModule, split: str, findings: list[str]
) -> dict[str, tuple[pd.DataFrame, Faithfulness]]:
    """Return for each finding a sample of the present images of ``split``, and the faithfulness of their maps."""
    explanation = Explanation(module.network.eval(), _score, _maps)
    images, measured = datamodule.prepared.manifest.images, {}
    for finding in findings:
        column = module.findings.index(finding)
        rows = datamodule.rows[split]
        rows = sample_rows(rows[datamodule.labels.label[rows, column] == 1])
        if len(rows):
            pictures = [np.asarray(datamodule.prepared.pixels[row]) for row in rows]
            measured[finding] = images.iloc[rows], measure_faithfulness(explanation, pictures, [column] * len(rows))
    return measured


def _score(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    logit: Tensor = network(pictures)[1]
    return logit.sigmoid()[torch.arange(len(targets)), targets]


def _maps(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    # Logits, which order the cells as their sigmoid does and do not saturate.
    logit_map: Tensor = network(pictures)[0]
    return logit_map[torch.arange(len(targets)), targets]
