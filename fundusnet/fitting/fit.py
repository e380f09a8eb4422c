"""Fitting one network: the Trainer that every run shares, whatever its task."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback

from fundusnet.errors import NotFiniteError, UserError
from fundusnet.fitting.history import History
from fundusnet.fitting.loggers import make_loggers
from fundusnet.fitting.processes import fit_in_ranks, processes, start_fit, under_torchrun
from fundusnet.fitting.progress import FitProgress
from fundusnet.fitting.resume import Checkpoints, Reseed, last_complete
from fundusnet.fitting.sanity import SanityWarnings
from fundusnet.fitting.step_metrics import Pictures, StepMetrics
from fundusnet.fitting.tasks import task_of
from fundusnet.runs.checkpoints import CheckpointFiles
from fundusnet.system.devices import uses_gpu
from fundusnet.system.log_level import quiet_lightning

FITTED = "fit.json"


def fit(cfg: DictConfig, folder: Path) -> None:
    """Fit the network that ``cfg`` describes; leaves ``checkpoints/``, ``history.csv``, ``fit.json`` in ``folder``.

    ``cfg`` is resolved and whole: all that a process started for this fit alone would need. A fit that was cut short
    goes on from its last complete checkpoint; one that is done already is left as it is.

    Raises:
        UserError: the config or the data cannot be fitted.
        RankError: one of the several processes of this fit raised or was killed.
        Interrupted: the process was asked to end, and the checkpoint to go on from is written.
    """
    if (folder / FITTED).is_file():
        return
    count = processes(cfg.trainer)
    precision(cfg.trainer)  # what the device cannot do is said before several processes find out
    if under_torchrun():
        start_fit(cfg, folder, fit_here)
    elif count > 1:
        fit_in_ranks(cfg, folder, count)
    else:
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
    with quiet_lightning():
        trainer = make_trainer(cfg, folder, checkpoints, Pictures(task, cfg.logger.pictures))
        try:
            trainer.fit(module, datamodule, ckpt_path=last_complete(checkpoints.folder), weights_only=True)
        except NotFiniteError as error:
            prepared: Any = getattr(datamodule, "prepared")  # noqa: B009 - that of either task
            ids = prepared.manifest.images["image_id"].iloc[error.rows]
            raise UserError(error.message_for(", ".join(str(name) for name in ids))) from error
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


def make_trainer(cfg: DictConfig, folder: Path, checkpoints: Checkpoints, *more: Callback) -> pl.Trainer:
    """Lightning's Trainer with what every fit has: history, best and last checkpoint, repeatable chance."""
    options = cfg.trainer
    world, local = (int(os.environ[n]) if under_torchrun() else 1 for n in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    chosen = OmegaConf.is_list(options.devices) and len(options.devices) == local
    # Never what Lightning detects by itself: under SLURM it would take over signals and requeueing.
    place: ClusterEnvironment = TorchElasticEnvironment() if under_torchrun() else LightningEnvironment()
    own = [
        History(folder / "history.csv"),
        Reseed(cfg.seed),
        FitProgress(),
        SanityWarnings(),
        StepMetrics(cfg.logger.every),
    ]
    return pl.Trainer(
        max_epochs=options.max_epochs,
        accelerator=options.accelerator,
        devices=list(options.devices) if chosen else local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision=precision(options),
        # The statistics of a small share of the batch are poor; torch offers whole ones on GPUs only.
        sync_batchnorm=world > 1 and uses_gpu(options.accelerator),
        deterministic=options.deterministic,
        gradient_clip_val=options.gradient_clip,
        callbacks=[*own, *more, checkpoints],
        plugins=[CheckpointFiles(), place],
        logger=make_loggers(cfg, folder),
        log_every_n_steps=1,
        default_root_dir=folder,
        use_distributed_sampler=False,  # the loaders know their shares
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def precision(options: DictConfig) -> Any:
    """``auto`` is bf16 where the device computes with it: a GPU, or a processor with AVX-512 bf16 or AMX.

    Raises:
        UserError: the device does not know the precision asked for.
    """
    wanted = options.precision
    if wanted == "16-mixed" and not uses_gpu(options.accelerator):
        raise UserError("trainer.precision=16-mixed needs a GPU; on a processor use bf16-mixed or 32-true")
    if wanted != "auto":
        return wanted
    if uses_gpu(options.accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if platform.machine() == "x86_64" and cpuinfo.exists() else ""
    return "bf16-mixed" if "avx512_bf16" in flags or "amx_bf16" in flags else "32-true"
