"""What a run's terminal shows of the libraries below: warnings that concern the user, and nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Lightning greets with the devices it found and with products to try, and says that the last epoch was the last.
_TALKATIVE = ("pytorch_lightning", "lightning_fabric")
_INTERNAL = (
    # Lightning's own business with torch, once a batch of dicts is moved.
    r".*isinstance\(treespec, LeafSpec\).*",
    # Our modules put together themselves what several processes measured, as Lightning's means do not hold there.
    r".*sync_dist=True.*",
    # The second stage of grading keeps the first within it, frozen and in eval mode; `SanityWarnings` names it.
    r"Found \d+ module\(s\) in eval mode at the start of training.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Within it, Lightning's greetings and warnings about its own insides are left out; afterwards all is as before."""
    with log_level(logging.WARNING, *_TALKATIVE), warnings.catch_warnings():
        for message in _INTERNAL:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """Within it, the loggers of these names and those below them say only what is of this level or above."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
