"""Restricting what libraries log to warnings that concern the user."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Lightning announces devices and products, and the end of the last epoch.
_TALKATIVE = ("pytorch_lightning", "lightning_fabric")
_INTERNAL = (
    # Between Lightning and torch, when a batch of dicts is moved.
    r".*isinstance\(treespec, LeafSpec\).*",
    # Our modules reduce metrics over processes themselves.
    r".*sync_dist=True.*",
    # The second stage of grading contains the first, frozen and in eval mode, which `SanityWarnings` reports.
    r"Found \d+ module\(s\) in eval mode at the start of training.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's announcements and internal warnings."""
    with log_level(logging.WARNING, *_TALKATIVE), warnings.catch_warnings():
        for message in _INTERNAL:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """Set the level of these loggers, and restore it at the end."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
