"""``fundusnet.load``: from checkpoints to the predictor of their task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fundusnet.errors import UserError
from fundusnet.prediction.findings import FindingsPredictor
from fundusnet.prediction.grading import GradingPredictor
from fundusnet.prediction.networks import open_networks


def load(checkpoint: str | Path | Sequence[str | Path], device: str = "auto") -> FindingsPredictor | GradingPredictor:
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
    place = torch_device(device)
    if networks[0].task == "findings":
        return FindingsPredictor(networks, place)
    return GradingPredictor(networks, place)


def every_device() -> list[str]:
    """The names of all GPUs that can be seen; where there is none, that of the processor."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def torch_device(name: str) -> torch.device:
    """The device of this name; raises UserError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} cannot be used: {str(error).splitlines()[0]}; use auto or cpu") from error
    return device
