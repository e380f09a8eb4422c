"""One line where a fit waits for its images and not for its network."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from fundusnet.system.workers import cores

log = logging.getLogger(__name__)
FEWEST = 10  # batches of an epoch, below which the start of the loader's processes decides
SHARE = 0.2  # of the time, from which the wait is reported


class LoaderWait(Callback):
    """Reports once, after an epoch, that the network waited for images, and what to change."""

    def __init__(self) -> None:
        self._reported = False
        self._restart()  # a fit that is resumed within an epoch does not start it

    def _restart(self) -> None:
        self._batches, self._waited, self._since, self._first = 0, 0.0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._batches:  # what comes before the first is the start of the processes
            self._waited += time.perf_counter() - self._since

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._since = time.perf_counter()
        if not self._batches:
            self._first = self._since
        self._batches += 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        # Stored features are read in no time by the process itself; only the first epoch computes labels beside them.
        if self._reported or self._batches < FEWEST or not trainer.is_global_zero or data.features is not None:
            return
        share = self._waited / max(self._since - self._first, 1e-9)
        if share > SHARE:
            self._reported = True
            most = cores() // trainer.world_size
            idle = pl_module.device.type == "cuda" and data.augment is not None and data.augment.batch is None
            what = remedy(data.num_workers, most, idle)
            log.warning("the network waited for images %.0f %% of the time: %s", 100 * share, what)


def remedy(workers: int, most: int, can_augment: bool) -> str:
    """What to change.

    Args:
        workers: Processes that load images now, per training process.
        most: Cores there are for each training process.
        can_augment: Whether a GPU could augment the images and does not.
    """
    if workers < most:
        return f"raise data.num_workers from {workers} to {most}"
    return (
        f"data.num_workers={workers} already uses every core; "
        + ("augment on the GPU (data.augment_on=device), " if can_augment else "")
        + "leave transforms out of data.augment, keep the prepared set on a local disk (data.folder), or repeat views "
        "of a frozen backbone (data.views)"
    )
