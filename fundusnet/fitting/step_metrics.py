"""Callbacks for loggers: losses, learning rate, speed and memory by step, and images by epoch."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from fundusnet.config.ranges import Count, NonNegativeInt
from fundusnet.fitting.tasks import task_named


class StepMetrics(Callback):
    """Logs ``train/loss_step``, ``lr``, ``images_per_second`` and ``memory_gb`` every ``every`` steps.

    Images are those of all processes; memory is the peak of the device of the first, of the process on a CPU.
    """

    def __init__(self, every: Count = 10) -> None:
        self.every = every
        self._images = 0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reset()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch["index"])
        if trainer.global_step % self.every or not trainer.is_global_zero:
            return
        values = {
            "train/loss_step": float(outputs["loss"]),  # waits for the device, so that the time below is right
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "images_per_second": self._images * trainer.world_size / (time.perf_counter() - self._since),
            "memory_gb": _memory(pl_module.device),
            "epoch": float(trainer.current_epoch),
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        self._reset()

    def _reset(self) -> None:
        self._images, self._since = 0, time.perf_counter()


class Pictures(Callback):
    """Shows the same few validation images after every epoch, with the network's activation over them.

    Args:
        task: "findings" or "grading".
        count: Number of images; 0 = none.
    """

    def __init__(self, task: str, count: NonNegativeInt = 4) -> None:
        self.task = task_named(task)
        self.count = count

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        watchers = [each for each in trainer.loggers if isinstance(each, (WandbLogger, TensorBoardLogger))]
        if not trainer.is_global_zero or not watchers or not self.count or trainer.sanity_checking:
            return
        panels = self.task.validation_panels(pl_module, trainer.datamodule, self.count)  # type: ignore[attr-defined]
        for logger in watchers:
            for name, figure in panels.items():
                key = f"validation/{name}"
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(key, figure, trainer.global_step)
                else:
                    logger.log_image(key, [figure], step=trainer.global_step)


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes, on Linux
