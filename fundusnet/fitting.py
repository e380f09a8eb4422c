"""Fitting one network: the Trainer that every run shares, whatever its task."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar

from fundusnet.history import History
from fundusnet.tasks import task_of


def fit(cfg: DictConfig, folder: Path) -> None:
    """Fit the network that ``cfg`` describes; leaves ``checkpoints/`` and ``history.csv`` in ``folder``.

    ``cfg`` is resolved and whole: all that a process started for this fit alone would need.
    """
    task = task_of(cfg)
    datamodule = task.make_datamodule(cfg)
    datamodule.setup("fit")
    module = task.make_module(cfg, datamodule)
    make_trainer(cfg, folder).fit(module, datamodule)


def make_trainer(cfg: DictConfig, run: Path) -> pl.Trainer:
    """Lightning's Trainer with what every run has: history, best and last checkpoint, early stop."""
    options = cfg.trainer
    mode = "max" if "auroc" in options.monitor else "min"
    callbacks: list[Callback] = [
        History(run / "history.csv"),
        ModelCheckpoint(
            run / "checkpoints",
            filename="best",
            monitor=options.monitor,
            mode=mode,
            save_last=True,
            enable_version_counter=False,
        ),
        EarlyStopping(options.monitor, patience=options.patience, mode=mode),
    ]
    if os.isatty(2):
        callbacks.append(RichProgressBar())
    return pl.Trainer(
        max_epochs=options.max_epochs,
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=options.strategy,
        precision=precision(options.precision),
        deterministic=options.deterministic,
        gradient_clip_val=options.gradient_clip,
        callbacks=callbacks,
        logger=False,
        default_root_dir=run,
        enable_progress_bar=os.isatty(2),
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def precision(wanted: str) -> Any:
    """``auto`` is bf16 where the device computes with it: a GPU, or a processor with AVX-512 bf16 or AMX."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if platform.machine() == "x86_64" and cpuinfo.exists() else ""
    return "bf16-mixed" if "avx512_bf16" in flags or "amx_bf16" in flags else "32-true"
