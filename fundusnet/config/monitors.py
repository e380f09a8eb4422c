"""Which way a monitored value improves."""

from __future__ import annotations

from typing import Literal

Mode = Literal["min", "max"]
HIGHER = ("auroc", "accuracy", "kappa", "recall")
LOWER = ("loss", "error", "classification", "guidance")


def higher_is_better(monitor: str) -> bool | None:
    """Whether a higher value is better, for values that the package logs; None for others.

    Example:
        >>> higher_is_better("val/auroc/drusen"), higher_is_better("val/loss_gt_1"), higher_is_better("val/f1")
        (True, False, None)
    """
    if any(word in monitor for word in HIGHER):
        return True
    return False if any(word in monitor for word in LOWER) else None
