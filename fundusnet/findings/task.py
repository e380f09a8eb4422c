"""Findings as a task: from a config to a fitted, scored and reported run (S1.5, S1.6)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fundusnet.data.appearance import training_appearance
from fundusnet.data.augment import augment_from_ranges
from fundusnet.data.relabel import relabelling
from fundusnet.evaluation.binary_tasks import fit_on_validation
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.module import GuidedModule, map_size
from fundusnet.findings.panels import validation_panels as validation_panels
from fundusnet.findings.report import write_report as write_report
from fundusnet.findings.scoring import score, write_results
from fundusnet.findings.statistics import FINDINGS, finding_tasks, operating_points
from fundusnet.fitting.processes import Fit
from fundusnet.runs.checkpoints import load_module, read_metadata, update_metadata
from fundusnet.system.devices import choose_device

log = logging.getLogger(__name__)
SYSTEM = FINDINGS


def fit_and_score(cfg: DictConfig, run: Path, fit: Fit) -> dict[str, object]:
    """Fit by ``fit``, choose operating point and temperature on validation for the checkpoint, score the test split."""
    fit(cfg, run)
    best = run / "checkpoints" / "best.ckpt"
    module, datamodule = load_module(best, GuidedModule), make_datamodule(cfg)
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    validation = score(module, datamodule, "val", device)
    validation.predictions.to_csv(run / "predictions_val.csv", index=False)
    chosen = validation if cfg.evaluation.operating_point == "val" else score(module, datamodule, "test", device)
    points = {name: float(point.threshold) for name, point in operating_points(chosen.predictions).items()}
    update_metadata(
        best,
        {
            "task": "findings",
            "findings": list(module.findings),
            "size": datamodule.prepared.size,
            "operating_points": points,
            "validation": fit_on_validation(finding_tasks(validation.predictions)),
            **training_appearance(datamodule.prepared.pixels, datamodule.rows["train"]),
        },
    )
    return score_again(cfg, run, "test", run, cfg.evaluation)


def score_again(cfg: DictConfig, run: Path, split: str, folder: Path, options: DictConfig) -> dict[str, object]:
    """Score the best checkpoint of ``run`` on ``split`` of the data of ``cfg`` into ``folder``, as ``options`` say."""
    best = run / "checkpoints" / "best.ckpt"
    stored = read_metadata(best)
    module, datamodule = load_module(best, GuidedModule), make_datamodule(cfg)
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    return write_results(
        folder, module, datamodule, split, stored["operating_points"], options, device, stored.get("validation")
    )


def run_name(cfg: DictConfig) -> str:
    """What tables call a run: its findings and what its network was taught with."""
    names = {"guided": "", "guided_timm": f" ({cfg.model.network.backbone})", "inception_cam": " Inception-v3"}
    guidance = f" λ={cfg.model.loss.weight:g}" if cfg.model.network.name != "inception_cam" else ""
    findings = "+".join(cfg.finding.names) if len(cfg.finding.names) < 3 else f"{len(cfg.finding.names)} findings"
    return findings + names[cfg.model.network.name] + guidance


def make_datamodule(cfg: DictConfig) -> FindingsDataModule:
    """The DataModule of a config whose set is prepared already."""
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    network: Any = OmegaConf.to_container(cfg.model.network, resolve=True)
    return FindingsDataModule(
        folder=data["folder"],
        findings=list(cfg.finding.names),
        feature_size=map_size(data["size"], len(cfg.finding.names), **network),
        cue=data["cue"],
        present=data["present"],
        batch_size=data["batch_size"],
        num_workers=data["num_workers"],
        augment=data["augment"] and augment_from_ranges(**data["augment"]),
        fractions=tuple(data["fractions"]),
        split_by=data["split_by"],
        seed=cfg.seed,
        relabel=relabelling(cfg),
    )


def make_module(cfg: DictConfig, datamodule: FindingsDataModule) -> GuidedModule:
    """The LightningModule of a config, its class weights taken from the training labels."""
    model: Any = OmegaConf.to_container(cfg.model, resolve=True)
    positive_weight = None
    if model["loss"]["balance"] == "inverse":
        labels = datamodule.labels.label[datamodule.rows["train"]]
        positive_weight = [float(np.sum(c == 0) / max(np.sum(c == 1), 1)) for c in labels.T]
    module = GuidedModule(
        findings=list(cfg.finding.names),
        size=int(cfg.data.size),
        network=model["network"],
        loss=model["loss"],
        optimizer=model["optimizer"],
        max_epochs=int(cfg.trainer.max_epochs),
        positive_weight=positive_weight,
        channels_last=bool(cfg.trainer.channels_last),
    )
    log.info("%s starts from weights: %s", run_name(cfg), module.network.initial_weights)
    return module
