"""Resumable fits: checkpoints at the right moments, and random numbers that depend on the step alone."""

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

from fundusnet.config.monitors import Mode, higher_is_better
from fundusnet.errors import UserError
from fundusnet.runs.checkpoints import BEST, load_checkpoint
from fundusnet.runs.folder import Interrupted

log = logging.getLogger(__name__)


def last_complete(folder: Path) -> Path | None:
    """The newest intact checkpoint in ``folder``: ``last.ckpt``, else ``previous.ckpt``; None if there is none."""
    for name in ("last.ckpt", "previous.ckpt"):
        file = folder / name
        if not file.exists():
            continue
        try:
            load_checkpoint(file)
        except UserError as torn:
            log.warning("%s; resuming from the one before it", torn)
            continue
        return file
    return None


class Checkpoints(Checkpoint):
    """Writes ``best.ckpt``, and ``last.ckpt`` for resuming; until the fit ends, the one before it is ``previous.ckpt``.

    ``last.ckpt`` is written after every epoch, every ``every`` steps within one, and on SIGTERM, which then raises
    ``fundusnet.runs.folder.Interrupted`` in all processes after the same step. Stops the fit after ``patience`` epochs
    without a better one.

    Args:
        folder: Where to write.
        monitor: Name of the logged validation value that decides which epoch is best.
        patience: In epochs.
        every: In steps; None = only at the end of epochs.
        mode: Whether the best value is the highest; None = as for values of our own.
    """

    def __init__(self, folder: Path, monitor: str, patience: int, every: int | None, mode: Mode | None = None) -> None:
        self.folder = folder
        self.monitor = monitor
        self.higher = mode == "max" if mode else bool(higher_is_better(monitor))
        self.patience = patience
        self.every = every
        self.best: float | None = None
        self.best_epoch = 0
        self._asked_to_end = False
        self._validated = False
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning's own handler communicates with the other processes whatever they are doing. It restores the
        # earlier handlers after the fit.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: self._ask_to_end())
        # A fit that was killed after its last epoch is finished.
        trainer.should_stop |= self._out_of_patience(trainer.current_epoch - 1)
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # validation and the end of the epoch come next, and belong in the checkpoint
        if trainer.global_step == self._step:
            return  # accumulated gradients are in no checkpoint
        self._step = trainer.global_step
        ending = self._all_asked_to_end(trainer)
        if ending or (self.every and trainer.global_step % self.every == 0):
            self._save_last(trainer)
        if ending:
            raise Interrupted

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not every epoch has a new value: trainer.check_val_every_n_epoch, trainer.max_steps.
        value = self._monitored(trainer) if self._validated or not self.monitor.startswith("val/") else None
        self._validated = False
        if value is not None and self._is_better(value):
            self.best, self.best_epoch = value, trainer.current_epoch
            # Before last.ckpt, so that a fit that is killed between the two repeats this epoch.
            # Whole: callbacks that average weights put the validated averages into whole checkpoints only.
            trainer.save_checkpoint(self.folder / BEST, weights_only=False)
        self._save_last(trainer)
        if self._all_asked_to_end(trainer):
            raise Interrupted
        trainer.should_stop |= self._out_of_patience(trainer.current_epoch)  # another callback may have asked, too

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.best is None:
            raise UserError(
                "the fit ended before its first validation, so no epoch is the best; train longer, or check "
                "trainer.max_steps, trainer.limit_val_batches and trainer.check_val_every_n_epoch"
            )
        if trainer.is_global_zero:
            (self.folder / "previous.ckpt").unlink(missing_ok=True)  # a third of the space that a sweep takes

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def _is_better(self, value: float) -> bool:
        return self.best is None or (value > self.best if self.higher else value < self.best)

    def _out_of_patience(self, epoch: int) -> bool:
        return self.best is not None and epoch - self.best_epoch >= self.patience

    def _save_last(self, trainer: pl.Trainer) -> None:
        last = self.folder / "last.ckpt"
        fresh = last.with_name("fresh.ckpt")
        # With optimiser and loops, which resuming needs; still plain values, which load without unpickling code.
        trainer.save_checkpoint(fresh, weights_only=False)
        if trainer.is_global_zero:
            if last.exists():
                last.replace(last.with_name("previous.ckpt"))
            fresh.replace(last)

    def _monitored(self, trainer: pl.Trainer) -> float:
        values = trainer.callback_metrics
        if self.monitor not in values:
            there = ", ".join(sorted(name for name in values if name.startswith("val/"))) or "nothing"
            raise UserError(f"trainer.monitor={self.monitor} is not logged on this validation split; use {there}")
        value = float(values[self.monitor])
        if not math.isfinite(value):
            raise UserError(f"{self.monitor} is {value} after epoch {trainer.current_epoch}; lower model.optimizer.lr")
        return value

    def _ask_to_end(self) -> None:
        self._asked_to_end = True

    def _all_asked_to_end(self, trainer: pl.Trainer) -> bool:
        """Whether SIGTERM reached any process: it arrives at different moments, and all must stop at the same step."""
        return trainer.strategy.reduce_boolean_decision(self._asked_to_end, all=False)


class Reseed(Callback):
    """Makes random numbers within a step (dropout) depend on seed and step alone; a resumed fit repeats them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        state = np.random.SeedSequence((self.seed, trainer.global_step, trainer.global_rank)).generate_state(1)
        torch.manual_seed(int(state[0]))
