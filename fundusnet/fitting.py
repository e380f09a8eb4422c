"""Fitting one network: the Trainer that every run shares, whatever its task."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, RichProgressBar

from fundusnet.checkpoints import CheckpointFiles
from fundusnet.history import History
from fundusnet.resuming import Checkpoints, Reseed, last_complete
from fundusnet.tasks import task_of

FITTED = "fit.json"


def fit(cfg: DictConfig, folder: Path) -> None:
    """Fit the network that ``cfg`` describes; leaves ``checkpoints/``, ``history.csv``, ``fit.json`` in ``folder``.

    ``cfg`` is resolved and whole: all that a process started for this fit alone would need. A fit that was cut short
    goes on from its last complete checkpoint; one that is done already is left as it is.

    Raises
    ------
    Interrupted: the process was asked to end, and the checkpoint to go on from is written.
    """
    if (folder / FITTED).is_file():
        return
    fit_here(cfg, folder)


def fit_here(cfg: DictConfig, folder: Path) -> None:
    """Fit in this process, alone or as one of several that share the work."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    task = task_of(cfg)
    datamodule = task.make_datamodule(cfg)
    datamodule.setup("fit")
    module = task.make_module(cfg, datamodule)
    checkpoints = Checkpoints(
        folder / "checkpoints", cfg.trainer.monitor, cfg.trainer.patience, cfg.trainer.checkpoint_every
    )
    trainer = make_trainer(cfg, folder, checkpoints)
    trainer.fit(module, datamodule, ckpt_path=last_complete(checkpoints.folder), weights_only=True)
    if trainer.is_global_zero:
        write_fitted(folder, checkpoints, trainer)


def write_fitted(folder: Path, checkpoints: Checkpoints, trainer: pl.Trainer) -> None:
    """Say that the fit is done, and which epoch was best."""
    done = {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "monitor": checkpoints.monitor,
        "best": checkpoints.best,
        "best_epoch": checkpoints.best_epoch,
    }
    partial = folder / f"{FITTED}.partial"
    partial.write_text(json.dumps(done, indent=2) + "\n")
    partial.replace(folder / FITTED)


def make_trainer(cfg: DictConfig, folder: Path, checkpoints: Checkpoints) -> pl.Trainer:
    """Lightning's Trainer with what every fit has: history, best and last checkpoint, repeatable chance."""
    options = cfg.trainer
    callbacks: list[Callback] = [History(folder / "history.csv"), Reseed(cfg.seed), checkpoints]
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
        plugins=[CheckpointFiles()],
        logger=False,
        default_root_dir=folder,
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
