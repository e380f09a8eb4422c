"""``fundusnet.load``: from checkpoints to a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fundusnet.prediction.findings import FindingsPredictor
from fundusnet.prediction.grading import GradingPredictor
from fundusnet.prediction.landmarks import LandmarksPredictor
from fundusnet.prediction.predictor import PredictionPrecision
from fundusnet.prediction.trained_network import open_networks
from fundusnet.system.devices import named_device


def load(
    checkpoint: str | Path | Sequence[str | Path],
    device: str | torch.device = "auto",
    network: type[nn.Module] | None = None,
    points: Literal["auto", "given"] = "auto",
    precision: PredictionPrecision = "32-true",
) -> FindingsPredictor | GradingPredictor | LandmarksPredictor:
    """A predictor from a checkpoint that ``fundusnet train`` wrote, or from several that predict together.

    Args:
        checkpoint: A ``.ckpt`` file, a run folder (its best checkpoint), or a list of these. Networks of different
            findings are used side by side; the probabilities of networks of the same findings are averaged.
            "landmarks" is the network that comes with the package and finds disc and fovea.
        device: auto (the first GPU if there is one), cpu, cuda or cuda:1.
        network: Class of the network, if it is your own; a checkpoint holds names of our classes only.
        points: Of findings: "auto" finds disc and fovea where they are not given, so that regions are known.
        precision: "bf16-mixed" is faster on devices that compute in bf16, but for depthwise networks on a processor;
            probabilities then differ in the third decimal.

    Raises:
        UserError: A checkpoint is missing, damaged, unfinished or of an unknown kind, or they do not fit together.

    Examples:
        >>> predictor = fundusnet.load("outputs/findings/2026-01-31_12-00-00")  # doctest: +SKIP
        >>> predictor.predict("eye.jpg").probability  # doctest: +SKIP
        {'hard_exudate': 0.93}
    """
    networks = open_networks(checkpoint, network)
    chosen = named_device(device) if isinstance(device, str) else device
    if networks[0].task == "findings":
        return FindingsPredictor(networks, chosen, points, precision)
    if networks[0].task == "landmarks":
        return LandmarksPredictor(networks, chosen, precision)
    return GradingPredictor(networks, chosen, precision)
