"""The progress bar of a fit, over all of its epochs, and a line for each epoch."""

from __future__ import annotations

import logging
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from fundusnet.system.progress import progress_bar

log = logging.getLogger(__name__)


class FitProgress(Callback):
    """Shows epoch, batches, time left and what the module logs with ``prog_bar``."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        batches = int(trainer.num_training_batches)
        self.bar = progress_bar()
        # A resumed fit starts where the other one stopped.
        self.task = self.bar.add_task(
            "training", total=batches * (trainer.max_epochs or 1), completed=trainer.global_step, remark=""
        )
        self.bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar.update(self.task, description=f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            self.bar.advance(self.task)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            values = sorted(trainer.progress_bar_metrics.items())
            remark = "  ".join(f"{name} {float(value):.3f}" for name, value in values)
            self.bar.update(self.task, remark=remark)
            line = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}  {remark}"
            if self.bar.disable:
                log.info("%s", line)
            else:  # above the bar
                self.bar.console.print(line, highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and hasattr(self, "bar"):
            self.bar.stop()
