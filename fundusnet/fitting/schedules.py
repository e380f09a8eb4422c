"""Learning-rate schedules over the length of a fit."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from pytorch_lightning import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler

from fundusnet.config.ranges import Share


def build_schedule(schedule: Callable[..., LRScheduler], optimizer: Optimizer, trainer: Trainer) -> dict[str, Any]:
    """Build a schedule for an optimiser, as Lightning takes it; a parameter for the length of the fit is set.

    The stages of a run differ in length, so no key of the configuration can give it. A schedule with a parameter
    ``epochs`` moves on after every epoch, one with ``steps`` after every step.
    """
    known = inspect.signature(schedule).parameters
    if "steps" in known:
        steps = int(trainer.estimated_stepping_batches)
        return {"scheduler": schedule(optimizer, steps=steps), "interval": "step"}
    extra: dict[str, Any] = {"epochs": trainer.max_epochs or 1} if "epochs" in known else {}
    return {"scheduler": schedule(optimizer, **extra), "interval": "epoch"}


def cosine(optimizer: Optimizer, epochs: int) -> LRScheduler:
    """From the learning rate to 0 along half a cosine."""
    return CosineAnnealingLR(optimizer, T_max=epochs)


def exponential(optimizer: Optimizer, epochs: int, final: Share = 0.01) -> LRScheduler:
    """From the learning rate to ``final`` times it, by the same factor every epoch."""
    return ExponentialLR(optimizer, gamma=final ** (1 / epochs))


def warmup_cosine(optimizer: Optimizer, steps: int, warmup: Share = 0.1) -> LRScheduler:
    """Linearly up to the learning rate over the share ``warmup`` of all steps, then to 0 along half a cosine."""
    rising = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return LambdaLR(optimizer, factor)
