"""Training: from a composed config to a run folder with a scored network."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar

from fundusnet.data.datamodule import FindingsDataModule
from fundusnet.errors import UserError
from fundusnet.evaluating import evaluate_run, write_run_report
from fundusnet.findings.module import GuidedModule
from fundusnet.history import History
from fundusnet.preparing import prepare_set

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a training leaves: its folder and the content of its ``metrics.json``."""

    run_dir: Path
    metrics: dict[str, object]


def train(cfg: DictConfig) -> Result:
    """Fit, choose the operating point on validation, score the test split, write the report.

    Raises
    ------
    UserError: something in the config or the data that the user can put right.
    """
    run = run_folder(cfg)
    run.mkdir(parents=True, exist_ok=True)
    if (run / "checkpoints").exists():
        raise UserError(f"run_dir={run} holds a run already; choose another folder or remove it")
    cfg = cfg.copy()
    OmegaConf.resolve(cfg)  # the run's own copy, without interpolations
    cfg.run_dir = str(run)
    cfg.name = cfg.name or run_name(cfg)
    with _status(run):
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        prepared = prepare_set(cfg)
        cfg.data.folder = str(prepared.folder.resolve())
        OmegaConf.save(cfg, run / "config.yaml")
        datamodule = make_datamodule(cfg)
        datamodule.setup("fit")
        module = make_module(cfg, datamodule)
        trainer = make_trainer(cfg, run)
        trainer.fit(module, datamodule)
        metrics = evaluate_run(run, datamodule, cfg)
        write_run_report(run)
    return Result(run, metrics)


def run_folder(cfg: DictConfig) -> Path:
    """``cfg.run_dir``, or a new folder named by the task and the time."""
    if cfg.run_dir:
        return Path(cfg.run_dir)
    return Path("outputs", cfg.task, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3])


def run_name(cfg: DictConfig) -> str:
    """What tables call a run: its findings and what its network was taught with."""
    names = {"guided": "", "guided_timm": f" ({cfg.model.network.backbone})", "inception_cam": " Inception-v3"}
    guidance = f" λ={cfg.model.loss.weight:g}" if cfg.model.network.name != "inception_cam" else ""
    return "+".join(cfg.finding.names) + names[cfg.model.network.name] + guidance


def make_datamodule(cfg: DictConfig) -> FindingsDataModule:
    """The DataModule of a config whose set is prepared already."""
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    return FindingsDataModule(
        folder=data["folder"],
        findings=list(cfg.finding.names),
        feature_size=data["size"] // stride(cfg),
        cue=data["cue"],
        present=data["present"],
        batch_size=data["batch_size"],
        num_workers=data["num_workers"],
        augment=data["augment"],
        fractions=tuple(data["fractions"]),
        split_by=data["split_by"],
        seed=cfg.seed,
    )


def stride(cfg: DictConfig) -> int:
    """Pixels a cell of the activation map stands for."""
    network = cfg.model.network
    return int(2**network.reductions) if network.name == "guided" else 32


def make_module(cfg: DictConfig, datamodule: FindingsDataModule) -> GuidedModule:
    """The LightningModule of a config, its class weights taken from the training labels."""
    model: Any = OmegaConf.to_container(cfg.model, resolve=True)
    positive_weight = None
    if model["loss"]["balance"] == "inverse":
        labels = datamodule.labels.label[datamodule.rows["train"]]
        positive_weight = [float(np.sum(c == 0) / max(np.sum(c == 1), 1)) for c in labels.T]
    return GuidedModule(
        findings=list(cfg.finding.names),
        size=int(cfg.data.size),
        network=model["network"],
        loss=model["loss"],
        optimizer=model["optimizer"],
        max_epochs=int(cfg.trainer.max_epochs),
        positive_weight=positive_weight,
        channels_last=bool(cfg.trainer.channels_last),
    )


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


@contextmanager
def _status(run: Path) -> Iterator[None]:
    """Keep ``status.json`` true: running, then done, failed with its reason, or interrupted."""
    start = time.time()

    def write(state: str, error: str | None = None) -> None:
        status = {
            "state": state,
            "error": error,
            "seconds": round(time.time() - start, 1),
            "git": _git(),
            "versions": {name: version(name) for name in ("fundusnet", "torch", "pytorch-lightning")},
        }
        partial = run / "status.partial"
        partial.write_text(json.dumps(status, indent=2) + "\n")
        partial.replace(run / "status.json")

    write("running")
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
        write("interrupted" if stopped else "failed", f"{type(error).__name__}: {error}")
        raise
    write("done")


def _git() -> str | None:
    """Commit of the folder the command runs in, where it is a git checkout."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
