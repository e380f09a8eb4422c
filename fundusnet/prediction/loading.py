"""``fundusnet.load``: from checkpoints to the predictor of their task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fundusnet.prediction.findings import FindingsPredictor
from fundusnet.prediction.grading import GradingPredictor
from fundusnet.prediction.networks import open_networks
from fundusnet.system.devices import named_device


def load(
    checkpoint: str | Path | Sequence[str | Path], device: str | torch.device = "auto"
) -> FindingsPredictor | GradingPredictor:
    """A predictor from a checkpoint that ``fundusnet train`` wrote, or from several that answer together.

    Args:
        checkpoint: a ``.ckpt`` file, a run folder (its best checkpoint), or a list of these: networks of different
            findings side by side; probabilities of networks of the same are averaged.
        device: auto (a GPU where there is one), cpu, cuda or cuda:1.

    Raises:
        UserError: a checkpoint is missing, torn, unfinished or of an unknown kind, or they do not go together.

    Examples:
        >>> predictor = fundusnet.load("outputs/findings/2026-01-31_12-00-00")  # doctest: +SKIP
        >>> predictor.predict("eye.jpg").probability  # doctest: +SKIP
        {'hard_exudate': 0.93}
    """
    networks = open_networks(checkpoint)
    chosen = named_device(device) if isinstance(device, str) else device
    if networks[0].task == "findings":
        return FindingsPredictor(networks, chosen)
    return GradingPredictor(networks, chosen)
