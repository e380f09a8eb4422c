"""Warnings early in a fit: parameters that do not learn, classes that batches lack."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

log = logging.getLogger(__name__)


class SanityWarnings(Callback):
    """Logs frozen and unused parameters, and after the first epoch the classes that most batches lacked."""

    def __init__(self) -> None:
        self._lacking: Counter[str] = Counter()
        self._batches = 0
        self._seen_gradients = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        frozen = [name for name, parameter in pl_module.named_parameters() if not parameter.requires_grad]
        if frozen:
            log.info("frozen, not trained: %s", _summary(frozen))

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._seen_gradients:
            return
        self._seen_gradients = True
        named = pl_module.named_parameters()
        unused = [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]
        if unused:
            log.warning("the loss does not depend on these parameters, which will not be trained: %s", _summary(unused))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        if trainer.current_epoch > 0:
            return
        self._batches += 1
        self._lacking.update(_lacking(batch, trainer.datamodule))  # type: ignore[attr-defined]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch > 0:
            return
        for what, count in self._lacking.items():
            if count > self._batches / 2:
                log.warning(
                    "%d of %d batches of the first epoch held no %s; raise data.batch_size", count, self._batches, what
                )


def _lacking(batch: dict[str, Tensor], datamodule: Any) -> list[str]:
    """Classes without an image in the batch."""
    if "label" in batch:
        label = batch["label"].cpu()
        words = ((1, "picture with"), (0, "picture without"))
        return [
            f"{word} {finding}"
            for column, finding in enumerate(datamodule.findings)
            for value, word in words
            if not (label[:, column] == value).any()
        ]
    if "grade" not in batch:
        return []
    there = set(torch.unique(batch["grade"]).tolist())
    return [f"picture of grade {name}" for grade, name in enumerate(datamodule.classes) if grade not in there]


def _summary(names: list[str]) -> str:
    """Parts of the network by name, with the number of parameter tensors in each."""
    parts = Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{part} ({count})" for part, count in parts.items())
