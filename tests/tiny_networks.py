"""Checkpoints of untrained networks, as a finished training leaves them; no test depends on what they predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from fundusnet.data.appearance import training_appearance
from fundusnet.data.prepared import PreparedSet
from fundusnet.findings.module import GuidedModule
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage
from fundusnet.runs.checkpoints import KEY, write_checkpoint

NETWORK = {"name": "GuidedCAM", "width": 4, "max_width": 8, "reductions": 3, "residual_units": 1, "pyramid_width": 4}
STAGE = {"backbone": "test_resnet", "cam_stride": 32, "hidden": 8, "dropout": 0.5, "pretrained": False}


def findings_checkpoint(
    file: Path,
    findings: Sequence[str] = ("drusen", "hemorrhage"),
    *,
    seed: int = 0,
    size: int = 64,
    threshold: float = 0.5,
    seen: PreparedSet | None = None,
) -> Path:
    """A network for these findings; ``seen`` is what it would have been trained on."""
    network = {**NETWORK, "dilations": [1, 2], "pool": 1}
    pl.seed_everything(seed, verbose=False)
    module = GuidedModule(list(findings), size, network)
    points = dict.fromkeys(findings, threshold)
    stored = {"task": "findings", "findings": list(findings), "operating_points": points, "size": size}
    return written(file, module, stored, seen)


def grading_checkpoint(
    file: Path,
    classes: Sequence[str],
    *,
    stages: int = 2,
    head: str = "ranking",
    hidden: int | None = 8,
    seed: int = 0,
    size: int = 64,
    seen: PreparedSet | None = None,
) -> Path:
    """A system of one stage or two with these grades."""
    pl.seed_everything(seed, verbose=False)
    network = {**STAGE, "head": head, "hidden": hidden}
    if stages == 2:
        first = {**STAGE, "head": head, "hidden": None}
        module: RankingStage = TwoStage(len(classes), network, first, {"kind": "predicted"})
    else:
        module = RankingStage(len(classes), network)
    return written(file, module, {"task": "grading", "classes": list(classes), "size": size}, seen)


def written(file: Path, module: pl.LightningModule, stored: dict[str, Any], seen: PreparedSet | None) -> Path:
    """Write the checkpoint; running means of batch normalisation are those of noise, not 0 and 1."""
    module.train()
    with torch.no_grad():
        for number in range(3):
            noise = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(number))
            module(noise)
    if seen is not None:
        stored = {**stored, **training_appearance(seen.pixels, np.arange(len(seen)))}
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), KEY: stored}
    write_checkpoint(file, content)
    return file
