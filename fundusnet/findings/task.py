"""Findings as a task: from a config to a fitted, scored and reported run (S1.5, S1.6)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from fundusnet.data.appearance import training_appearance
from fundusnet.data.augment import Augment, build_augment
from fundusnet.evaluation.binary_tasks import fit_on_validation
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.module import GuidedModule, map_size
from fundusnet.findings.network import pooling_windows
from fundusnet.findings.panels import validation_panels as validation_panels
from fundusnet.findings.paper import write_paper as write_paper
from fundusnet.findings.report import write_report as write_report
from fundusnet.findings.scoring import score, write_results
from fundusnet.findings.statistics import FINDINGS, finding_tasks, operating_points
from fundusnet.fitting.module_arguments import module_arguments
from fundusnet.fitting.needs import PlannedFit
from fundusnet.fitting.processes import Fit
from fundusnet.networks.build import network_spec
from fundusnet.networks.joint import short_name
from fundusnet.runs.checkpoints import load_module, read_metadata, update_metadata
from fundusnet.system.devices import choose_device

SYSTEM = FINDINGS
log = logging.getLogger(__name__)


def fit_and_score(cfg: DictConfig, run: Path, fit: Fit) -> dict[str, object]:
    """Fit by ``fit``, choose operating point and temperature on validation for the checkpoint, score the test split."""
    datamodule = make_datamodule(cfg)
    fit(cfg, run, datamodule)
    best = run / "checkpoints" / "best.ckpt"
    module = load_module(best, GuidedModule, network=network_spec(cfg.model.network)[1])
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    validation = score(module, datamodule, "val", device)
    validation.predictions.to_csv(run / "predictions_val.csv", index=False)
    on_test = cfg.evaluation.operating_point == "test" and len(datamodule.rows["test"])
    chosen = score(module, datamodule, "test", device) if on_test else validation
    points = {name: float(point.threshold) for name, point in operating_points(chosen.predictions).items()}
    calibrated = fit_on_validation(finding_tasks(validation.predictions))
    update_metadata(
        best,
        {
            "task": "findings",
            "findings": list(module.findings),
            "size": datamodule.prepared.size,
            "operating_points": points,
            "validation": calibrated,
            **training_appearance(datamodule.prepared.pixels, datamodule.rows["train"]),
        },
    )
    split = datamodule.scored_split()
    return write_results(run, module, datamodule, split, points, cfg.evaluation, device, calibrated)


def trained(
    cfg: DictConfig, run: Path, network: type[nn.Module] | None = None
) -> tuple[GuidedModule, FindingsDataModule]:
    """The best checkpoint of ``run``, and the data of ``cfg`` to score it on."""
    module = load_module(run / "checkpoints" / "best.ckpt", GuidedModule, network=network)
    cells = map_size(int(cfg.data.size), len(module.findings), module.hparams["network"], network)
    return module, _datamodule(cfg, cells, augment=None)


def score_again(
    cfg: DictConfig,
    run: Path,
    split: str,
    folder: Path,
    module: GuidedModule,
    datamodule: FindingsDataModule,
) -> dict[str, object]:
    """Score what ``trained`` returned for ``cfg`` and ``run`` on ``split`` into ``folder``."""
    stored = read_metadata(run / "checkpoints" / "best.ckpt")
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    points, chosen = stored["operating_points"], stored.get("validation")
    return write_results(folder, module, datamodule, split, points, cfg.evaluation, device, chosen)


def run_name(cfg: DictConfig) -> str:
    """What tables call a run: its findings, its network and lambda."""
    name = str(cfg.model.network._target_).rpartition(".")[2]
    backbone = short_name(cfg.model.network.get("backbone", ""))
    names = {"GuidedCAM": "", "InceptionCAM": " Inception-v3", "GuidedTimm": f" ({backbone})"}
    weight = cfg.model.loss.get("weight")
    guidance = f" λ={weight:g}" if weight is not None and name != "InceptionCAM" else ""
    guidance += " pixels" if weight and cfg.data.get("cue") == "pixels" else ""
    network = cfg.model.network
    linear = " linear" if network.get("dilations", [1]) == [] and network.get("reduction") is None else ""
    findings = "+".join(cfg.finding.names) if len(cfg.finding.names) < 3 else f"{len(cfg.finding.names)} findings"
    return findings + names.get(name, f" ({name})") + linear + guidance


def make_datamodule(cfg: DictConfig) -> FindingsDataModule:
    """The data that ``cfg`` trains on; its set is prepared already."""
    network: Any = OmegaConf.to_container(cfg.model.network, resolve=True)
    cells = map_size(int(cfg.data.size), len(cfg.finding.names), *network_spec(network))
    return _datamodule(cfg, cells, build_augment(cfg.data.augment, cfg.data.get("augment_on", "cpu")))


def planned_fits(cfg: DictConfig) -> list[PlannedFit]:
    """The one fit of a run."""
    return [PlannedFit(_blank_module(cfg), int(cfg.trainer.max_epochs))]


def _blank_module(cfg: DictConfig) -> GuidedModule:
    return GuidedModule(list(cfg.finding.names), int(cfg.data.size), **module_arguments(cfg.model))


def make_module(cfg: DictConfig, datamodule: FindingsDataModule) -> GuidedModule:
    """The LightningModule of ``cfg``, its loss fitted to the training labels."""
    module = _blank_module(cfg)
    if getattr(module.loss, "weight", 0):
        _warn_of_missing_cues(datamodule)
    if fit_to := getattr(module.loss, "fit_to", None):
        labels = datamodule.labels.label[datamodule.rows["train"]]
        fit_to(labels, pooling_windows(module.network, len(module.findings), datamodule.feature_size**2))
    return module


def _warn_of_missing_cues(datamodule: FindingsDataModule) -> None:
    """Warn of findings that guidance cannot help: no present training image has a cue."""
    rows = datamodule.rows["train"]
    for column, finding in enumerate(datamodule.findings):
        present = datamodule.labels.label[rows, column] == 1
        if not datamodule.labels.cue_known[rows, column][present].any():
            log.warning(
                "none of the %d training images with %s has a cue, so it is trained without guidance; regions need "
                "marks, disc and fovea, and data.cue=pixels needs lesion masks",
                int(present.sum()),
                finding,
            )


def _datamodule(cfg: DictConfig, cells: int, augment: Augment | None) -> FindingsDataModule:
    return FindingsDataModule.from_config(cfg, findings=list(cfg.finding.names), feature_size=cells, augment=augment)
