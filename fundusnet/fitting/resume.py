"""What makes a fit resumable: checkpoints at the right moments, and chance that depends on the step alone."""

from __future__ import annotations

import logging
import math
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from fundusnet.errors import UserError
from fundusnet.runs.checkpoints import load_checkpoint
from fundusnet.runs.folder import Interrupted

log = logging.getLogger(__name__)
RISING = ("auroc", "accuracy", "kappa", "recall")


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder`` that is whole: ``last.ckpt``, else ``previous.ckpt``; None without either."""
    for name in ("last.ckpt", "previous.ckpt"):
        file = folder / name
        if not file.exists():
            continue
        try:
            load_checkpoint(file)
        except UserError as torn:
            log.warning("%s; going on from the one before it", torn)
            continue
        return file
    return None


class Checkpoints(Checkpoint):
    """Writes ``best.ckpt``, and ``last.ckpt`` with all a resumed fit needs; the one before stays as ``previous.ckpt``.

    ``last.ckpt`` is written after every epoch, every ``every`` steps within one, and when the process is asked to end
    (SIGTERM), which then raises :class:`~fundusnet.runs.folder.Interrupted` in all processes after the same step.
    Stops the fit when no epoch has been better for long.

    Parameters
    ----------
    folder: where checkpoints go.
    monitor: name of the logged validation value that tells the best epoch.
    patience: epochs without a better one before the fit ends.
    every: steps between two checkpoints within an epoch; None = none there.
    """

    def __init__(self, folder: Path, monitor: str, patience: int, every: int | None) -> None:
        self.folder = folder
        self.monitor = monitor
        self.patience = patience
        self.every = every
        self.best: float | None = None
        self.best_epoch = 0
        self._asked_to_end = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning's own handler talks to the other processes in the midst of whatever they are at; it puts back
        # what it found when the fit is over.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: self._ask_to_end())
        # A fit that was killed after its last epoch has nothing left to do.
        trainer.should_stop = self._out_of_patience(trainer.current_epoch - 1)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # validation and the end of the epoch come next, and belong into the checkpoint
        ending = self._all_asked_to_end(trainer)
        if ending or (self.every and trainer.global_step % self.every == 0):
            self._save_last(trainer)
        if ending:
            raise Interrupted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = self._monitored(trainer)
        if self.best is None or (value > self.best if rises(self.monitor) else value < self.best):
            self.best, self.best_epoch = value, trainer.current_epoch
            # Before last.ckpt: a fit that is killed between the two finds this epoch still to do.
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=True)
        self._save_last(trainer)
        if self._all_asked_to_end(trainer):
            raise Interrupted
        trainer.should_stop = self._out_of_patience(trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def _out_of_patience(self, epoch: int) -> bool:
        return self.best is not None and epoch - self.best_epoch >= self.patience

    def _save_last(self, trainer: pl.Trainer) -> None:
        last = self.folder / "last.ckpt"
        fresh = last.with_name("fresh.ckpt")
        # With optimiser and loops, which resuming needs. It is still plain values: loading never unpickles code.
        trainer.save_checkpoint(fresh, weights_only=False)
        if trainer.is_global_zero:
            if last.exists():
                last.replace(last.with_name("previous.ckpt"))
            fresh.replace(last)

    def _monitored(self, trainer: pl.Trainer) -> float:
        values = trainer.callback_metrics
        if self.monitor not in values:
            there = ", ".join(sorted(name for name in values if name.startswith("val/"))) or "nothing"
            raise UserError(f"trainer.monitor={self.monitor} is not measured on this validation split; use {there}")
        value = float(values[self.monitor])
        if not math.isfinite(value):
            raise UserError(f"{self.monitor} is {value} after epoch {trainer.current_epoch}; lower model.optimizer.lr")
        return value

    def _ask_to_end(self) -> None:
        self._asked_to_end = True

    def _all_asked_to_end(self, trainer: pl.Trainer) -> bool:
        """Whether any process was asked to end: the signal reaches them at different moments, and all must agree."""
        return trainer.strategy.reduce_boolean_decision(self._asked_to_end, all=False)


class Reseed(Callback):
    """Chance within a step (dropout) is a function of the seed and the step, so that a resumed fit repeats it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        state = np.random.SeedSequence((self.seed, trainer.global_step, trainer.global_rank)).generate_state(1)
        torch.manual_seed(int(state[0]))


def rises(monitor: str) -> bool:
    """Whether more of a logged value is better."""
    return any(word in monitor for word in RISING)
