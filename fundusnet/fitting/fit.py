"""Fitting one network: the Trainer that every run shares, whatever its task."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from fundusnet.config.conf import select
from fundusnet.config.monitors import Mode
from fundusnet.config.objects import build
from fundusnet.config.ranges import Count, NonNegative
from fundusnet.data.augment import build_augment
from fundusnet.data.datamodule import FundusDataModule, whole_picture
from fundusnet.data.features import stored_features
from fundusnet.data.loading import end_workers
from fundusnet.errors import NotFiniteError, UserError
from fundusnet.fitting.history import History
from fundusnet.fitting.leaks import SPLITS, warn_of_leak
from fundusnet.fitting.loggers import make_loggers
from fundusnet.fitting.memory import warn_if_too_large
from fundusnet.fitting.module_arguments import module_arguments
from fundusnet.fitting.precision import Precision, check_precision, choose_precision
from fundusnet.fitting.processes import fit_in_ranks, processes, start_fit, under_torchrun
from fundusnet.fitting.resume import Checkpoints, Reseed, last_complete
from fundusnet.fitting.tasks import task_of
from fundusnet.networks.backbones import check_backbone
from fundusnet.runs.checkpoints import CheckpointFiles, best_checkpoint, load_checkpoint, start_from
from fundusnet.system.devices import choose_device, uses_gpu
from fundusnet.system.files import write_json, write_text
from fundusnet.system.log_level import quiet_lightning

log = logging.getLogger(__name__)
FITTED = "fit.json"
MEASURED = 224  # pixels of a side, a multiple of every patch and stride in use


def check_objects(cfg: DictConfig) -> None:
    """Build what needs no data, so that a wrong argument is reported before photographs are prepared.

    Raises:
        UserError: An object cannot be built.
    """
    build_augment(cfg.data.augment, cfg.data.get("augment_on", "cpu"))
    module_arguments(cfg.model)
    make_callbacks(cfg)
    for group in ("model.network", "model.stage1.network"):
        if name := select(cfg, f"{group}.backbone"):
            check_backbone(name, f"{group}.backbone")
        if (file := select(cfg, f"{group}.weights")) and not Path(file).is_file():
            raise UserError(f"{group}.weights={file} does not exist; give a file or null")
    if weights := select(cfg, "weights"):
        load_checkpoint(best_checkpoint(Path(weights)))


def make_callbacks(cfg: DictConfig) -> list[Callback]:
    """The callbacks of ``cfg.callbacks``, without those that are null."""
    return [build(node) for node in (cfg.get("callbacks") or {}).values() if node]


def fit(cfg: DictConfig, folder: Path, datamodule: FundusDataModule | None = None) -> None:
    """Fit the network that ``cfg`` describes; leaves ``checkpoints/``, ``history.csv``, ``fit.json`` in ``folder``.

    A fit that was interrupted continues from its last complete checkpoint; a finished one is left as it is.

    Args:
        cfg: Resolved and complete: all that a process started for this fit alone would need.
        folder: Where to write.
        datamodule: The data of ``cfg``, if it is open already; processes that share the work open it again.

    Raises:
        UserError: The config or the data cannot be fitted.
        RankError: One of the several processes of this fit raised or was killed.
        Interrupted: SIGTERM arrived, and the checkpoint to resume from is written.
    """
    if (folder / FITTED).is_file():
        return
    count = processes(cfg.trainer)
    check_precision(cfg.trainer.precision, cfg.trainer.accelerator)  # before processes start
    if under_torchrun():
        start_fit(cfg, folder, fit_here)
    elif count > 1:
        fit_in_ranks(cfg, folder, count)
    else:
        fit_here(cfg, folder, datamodule)


def fit_here(cfg: DictConfig, folder: Path, datamodule: FundusDataModule | None = None) -> None:
    """Fit in this process, alone or as one of several that share the work."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    task = task_of(cfg)
    data: Any = task.make_datamodule(cfg) if datamodule is None else datamodule
    data.setup("fit")
    if not len(data.rows["val"]) and cfg.trainer.monitor.startswith("val/"):
        raise UserError(
            f"no photograph is left to validate with, and trainer.monitor={cfg.trainer.monitor} needs some; give "
            "validation a share, as in data.fractions=[0.7,0.1,0.2]"
        )
    module: Any = task.make_module(cfg, data)
    initial = getattr(module.network, "initial_weights", "its own")
    if earlier := select(cfg, "weights"):
        initial = start_from(module, Path(earlier))
        warn_of_leak(Path(earlier), data)
    log.info("%s starts from weights: %s", cfg.name, initial)
    if data.augment is not None and data.augment.batch is not None and not uses_gpu(cfg.trainer.accelerator):
        log.warning("data.augment_on=device is for a GPU; here it takes nine times as long as data.augment_on=cpu")
    # Masks that a first stage makes of every batch change the picture; stored ones are part of it.
    fixed = getattr(module, "input", "image") == "image" or data.masks is not None
    if getattr(module.network, "frozen", False) and fixed:
        device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
        inputs_of = getattr(module, "network_inputs", whole_picture)
        data.store_features(module.to(device).eval().network, device, inputs_of)
        module.train()
    if data.features is None:
        image = torch.zeros(2, 3, data.prepared.size, data.prepared.size)
        device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
        warn_if_too_large(module.cpu().network, image, data.batch_size, device)
    precision = _precision(cfg, folder, module, data)
    callbacks = make_callbacks(cfg)
    with quiet_lightning():
        loggers = make_loggers(cfg, folder)
        made = {"callbacks": callbacks, "loggers": loggers, "precision": precision}
        try:
            trainer = build(cfg.trainer, folder=folder, seed=cfg.seed, **made)
        except MisconfigurationException as error:
            raise UserError(" ".join(str(error).split())) from error
        (checkpoints,) = (each for each in trainer.callbacks if isinstance(each, Checkpoints))
        try:
            trainer.fit(module, data, ckpt_path=last_complete(checkpoints.folder), weights_only=True)
        except (MisconfigurationException, ModuleNotFoundError) as error:  # of a callback, a profiler or a logger
            raise UserError(" ".join(str(error).split())) from error
        except NotFiniteError as error:
            ids = data.prepared.manifest.images["image_id"].iloc[error.rows]
            raise UserError(error.message_for(", ".join(str(name) for name in ids))) from error
        finally:
            for loader in (trainer.train_dataloader, trainer.val_dataloaders):
                end_workers(loader)
    if trainer.is_global_zero:
        fitted = {
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "monitor": checkpoints.monitor,
            "best": checkpoints.best,
            "best_epoch": checkpoints.best_epoch,
        }
        _write_splits(folder / SPLITS, data)
        write_json(folder / FITTED, fitted)


def _write_splits(file: Path, data: FundusDataModule) -> None:
    """Which photograph was in which split."""
    images = data.prepared.manifest.images
    parts = [images.iloc[rows][["image_id", "patient_id"]].assign(split=name) for name, rows in data.rows.items()]
    write_text(file, pd.concat(parts).to_csv(index=False))


def _precision(cfg: DictConfig, folder: Path, module: Any, data: FundusDataModule) -> Precision:
    """The precision of this fit; where it is measured, on two images or their stored features.

    A corner of each image is enough: that bf16 is faster does not depend on the size, and the time to find out does.
    """

    def inputs() -> Any:
        batch = next(iter(data.in_order(data.rows["train"][:2])))
        features = stored_features(batch)
        if features is not None:
            return features
        corner = batch["image"][..., :MEASURED, :MEASURED]
        return corner.float().div(255).contiguous(memory_format=module.memory_format)

    return choose_precision(cfg.trainer.precision, cfg.trainer.accelerator, module.network, inputs, folder)


def make_trainer(
    folder: Path,
    seed: int,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    max_epochs: Count = 40,
    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = "auto",
    devices: int | str | list[int] = 1,
    precision: Precision = "auto",
    deterministic: bool | Literal["warn"] = False,
    gradient_clip_val: NonNegative | None = None,
    monitor: str = "val/loss",
    mode: Mode | None = None,
    patience: Count = 15,
    checkpoint_every: Count | None = 1000,
    **trainer: Any,
) -> pl.Trainer:
    """Lightning's Trainer with what every fit has: history, best and last checkpoint, repeatable random numbers.

    Lightning's ``EarlyStopping`` and ``ModelCheckpoint`` are not used: resumed after its last epoch, a fit with the
    first would train one epoch more; the second neither keeps the checkpoint before the last nor lets all processes
    agree on the step at which SIGTERM ends a fit.

    Args:
        folder: Where the fit writes.
        seed: Seed of the random numbers within a step, such as dropout's.
        callbacks: Further callbacks.
        loggers: Where metrics are reported.
        max_epochs, deterministic, gradient_clip_val: As Lightning's.
        accelerator: "auto" (a GPU if there is one), "cpu" or "gpu".
        devices: How many, "auto" for all GPUs, or the numbers of some.
        precision: As Lightning's; "auto" as ``choose_precision`` chooses.
        monitor: Logged validation value that decides which epoch is best.
        mode: "max" or "min", which decides the best of a value of the user's own; None for values that are known.
        patience: Epochs without a better one after which the fit ends.
        checkpoint_every: Steps between two checkpoints within an epoch; None = only at the end of each.
        **trainer: What ``pytorch_lightning.Trainer`` takes besides.
    """
    world, local = (int(os.environ[n]) if under_torchrun() else 1 for n in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    chosen = not isinstance(devices, (int, str)) and len(devices) == local
    # Never what Lightning detects by itself: under SLURM it would take over signals and requeueing.
    place: ClusterEnvironment = TorchElasticEnvironment() if under_torchrun() else LightningEnvironment()
    checkpoints = Checkpoints(folder / "checkpoints", monitor, patience, checkpoint_every, mode)
    return pl.Trainer(
        max_epochs=max_epochs,
        accelerator=accelerator,
        devices=list(devices) if chosen else local,  # type: ignore[arg-type]
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision=cast(Any, precision),
        deterministic=deterministic,
        gradient_clip_val=gradient_clip_val,
        callbacks=[History(folder / "history.csv"), Reseed(seed), *callbacks, checkpoints],
        plugins=[CheckpointFiles(), place],
        logger=list(loggers),
        default_root_dir=folder,
        use_distributed_sampler=False,  # the loaders know their shares
        **{
            # The statistics of a small share of the batch are poor; torch offers whole ones on GPUs only.
            "sync_batchnorm": world > 1 and uses_gpu(accelerator),
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **trainer,
        },
    )
