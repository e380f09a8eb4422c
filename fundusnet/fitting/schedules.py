"""Learning-rate schedules over the length of a fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler

from fundusnet.config.ranges import Share


def build_schedule(schedule: Callable[..., LRScheduler], optimizer: Optimizer, epochs: int) -> LRScheduler:
    """Build a schedule for an optimiser; a parameter ``epochs`` is set to the length of the fit.

    The stages of a run differ in length, so no key of the configuration can give it.
    """
    extra: dict[str, Any] = {"epochs": epochs} if "epochs" in inspect.signature(schedule).parameters else {}
    return schedule(optimizer, **extra)


def cosine(optimizer: Optimizer, epochs: int) -> LRScheduler:
    """From the learning rate to 0 along half a cosine."""
    return CosineAnnealingLR(optimizer, T_max=epochs)


def exponential(optimizer: Optimizer, epochs: int, final: Share = 0.01) -> LRScheduler:
    """From the learning rate to ``final`` times it, by the same factor every epoch."""
    return ExponentialLR(optimizer, gamma=final ** (1 / epochs))
