"""Landmarks as a task: from a config to a fitted, scored and reported run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor, nn

from fundusnet.data.augment import build_augment
from fundusnet.data.decode import Pixels
from fundusnet.evaluation.figures import panel
from fundusnet.evaluation.panels import draw_panels
from fundusnet.fitting.module_arguments import module_arguments
from fundusnet.fitting.needs import PlannedFit
from fundusnet.fitting.processes import Fit
from fundusnet.landmarks.datamodule import LandmarkDataModule
from fundusnet.landmarks.figures import with_points
from fundusnet.landmarks.module import LandmarkModule
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.landmarks.report import write_paper as write_paper
from fundusnet.landmarks.report import write_report as write_report
from fundusnet.landmarks.scoring import confidence_thresholds, score, write_results
from fundusnet.landmarks.statistics import LANDMARK_SYSTEM
from fundusnet.networks.build import network_spec
from fundusnet.runs.checkpoints import load_module, read_metadata, update_metadata
from fundusnet.system.devices import choose_device

SYSTEM = LANDMARK_SYSTEM


def fit_and_score(cfg: DictConfig, run: Path, fit: Fit) -> dict[str, object]:
    """Fit by ``fit``, choose on validation from which confidence on a point is sure, score the test split."""
    datamodule = make_datamodule(cfg)
    fit(cfg, run, datamodule)
    best = run / "checkpoints" / "best.ckpt"
    module = load_module(best, LandmarkModule, network=network_spec(cfg.model.network)[1])
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    thresholds = dict.fromkeys(LANDMARKS, 0.5)
    if len(datamodule.rows["val"]):
        validation = score(module, datamodule, "val", device)
        validation.to_csv(run / "predictions_val.csv", index=False)
        thresholds = confidence_thresholds(validation)
    update_metadata(best, {"task": "landmarks", "size": datamodule.prepared.size, "thresholds": thresholds})
    return write_results(run, module, datamodule, datamodule.scored_split(), thresholds, cfg.evaluation, device)


def trained(
    cfg: DictConfig, run: Path, network: type[nn.Module] | None = None
) -> tuple[LandmarkModule, LandmarkDataModule]:
    """The best checkpoint of ``run``, and the data of ``cfg`` to score it on."""
    module = load_module(run / "checkpoints" / "best.ckpt", LandmarkModule, network=network)
    return module, LandmarkDataModule.from_config(cfg, augment=None)


def score_again(
    cfg: DictConfig, run: Path, split: str, folder: Path, module: LandmarkModule, datamodule: LandmarkDataModule
) -> dict[str, object]:
    """Score what ``trained`` returned for ``cfg`` and ``run`` on ``split`` into ``folder``."""
    thresholds = dict(read_metadata(run / "checkpoints" / "best.ckpt")["thresholds"])
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    return write_results(folder, module, datamodule, split, thresholds, cfg.evaluation, device)


def run_name(cfg: DictConfig) -> str:
    """What tables call a run: its backbone and the size of its pictures."""
    return f"landmarks ({cfg.model.network.get('backbone')}, {cfg.data.size} px)"


def make_datamodule(cfg: DictConfig) -> LandmarkDataModule:
    """The data that ``cfg`` trains on; its set is prepared already."""
    return LandmarkDataModule.from_config(
        cfg, augment=build_augment(cfg.data.augment, cfg.data.get("augment_on", "cpu"))
    )


def planned_fits(cfg: DictConfig) -> list[PlannedFit]:
    """The one fit of a run."""
    return [PlannedFit(_make_module(cfg), int(cfg.trainer.max_epochs))]


def make_module(cfg: DictConfig, datamodule: LandmarkDataModule) -> LandmarkModule:
    """The LightningModule of ``cfg``."""
    return _make_module(cfg)


def _make_module(cfg: DictConfig) -> LandmarkModule:
    return LandmarkModule(int(cfg.data.size), sigma=float(cfg.model.sigma), **module_arguments(cfg.model))


def validation_panels(module: LandmarkModule, datamodule: LandmarkDataModule, count: int) -> dict[str, Figure]:
    """Return ``count`` validation photographs by image id, with the points that are given and those found."""
    points = datamodule.points

    def draw(row: int, pixels: Pixels, picture: Tensor) -> Figure:
        found, confidence = (values[0].float().cpu().numpy() for values in module(picture))
        title = f"disc {confidence[0]:.2f}, fovea {confidence[1]:.2f}"
        return panel({title: with_points(pixels, np.asarray(points[row]), found)})

    return draw_panels(module, datamodule.prepared, datamodule.rows["val"][:count], draw)
