"""The activation maps of findings, put to the tests of faithfulness."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fundusnet.evaluation.faithfulness import Explained, Tested, faithfulness
from fundusnet.evaluation.faithfulness_report import IMAGES
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.module import GuidedModule


def tested_maps(
    module: GuidedModule, datamodule: FindingsDataModule, split: str, findings: list[str]
) -> dict[str, tuple[pd.DataFrame, Tested]]:
    """For each finding some present images of ``split``, and how their maps of it fare."""
    explained = Explained(module.network.eval(), _score, _maps)
    table, tested = datamodule.prepared.manifest.images, {}
    for finding in findings:
        column = module.findings.index(finding)
        rows = datamodule.rows[split]
        rows = rows[datamodule.labels.label[rows, column] == 1]
        if len(rows) > IMAGES:
            rows = np.sort(np.random.default_rng(0).choice(rows, IMAGES, replace=False))
        if len(rows):
            pictures = [np.asarray(datamodule.prepared.pixels[row]) for row in rows]
            tested[finding] = (table.iloc[rows], faithfulness(explained, pictures, [column] * len(rows)))
    return tested


def _score(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    logit: Tensor = network(pictures)[1]
    return logit.sigmoid()[torch.arange(len(targets)), targets]


def _maps(network: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    # Logits, which order the cells as their sigmoid does and do not saturate.
    logit_map: Tensor = network(pictures)[0]
    return logit_map[torch.arange(len(targets)), targets]
