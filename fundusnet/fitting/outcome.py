"""Reporting a scored run to its loggers: metrics, curves, confusion matrices, predictions with images, the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from omegaconf import DictConfig

from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.evaluation.binary_tasks import BinaryTask
from fundusnet.evaluation.runs import Run, read_runs
from fundusnet.fitting.loggers import TENSORBOARD, WANDB, logger_node, open_wandb
from fundusnet.fitting.tasks import task_of

THUMBNAIL = 96  # pixels: side of a picture in the table
ROWS = 500  # rows of the table; predictions.csv has all


def log_outcome(cfg: DictConfig, run: Path) -> None:
    """Report the metrics and predictions of a scored run to the loggers that ``cfg.logger`` names."""
    if logger_node(cfg, TENSORBOARD):
        _to_tensorboard(run)
    if node := logger_node(cfg, WANDB):
        _to_wandb(cfg, run, node)


def flat_metrics(run: Path) -> dict[str, float]:
    """Return the values of all defined metrics by ``test/<metric>``."""
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    return {f"test/{name}": entry["value"] for name, entry in metrics.items() if entry["value"] is not None}


def _to_tensorboard(run: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run / "tensorboard")) as writer:
        for name, value in flat_metrics(run).items():
            writer.add_scalar(name, value)


def _to_wandb(cfg: DictConfig, folder: Path, node: DictConfig) -> None:
    import wandb

    watched = open_wandb(cfg)
    (run,) = read_runs([folder], task_of(cfg).SYSTEM)
    watched.summary.update(flat_metrics(folder))
    for name, point in run.results.get("operating_points", {}).items():
        watched.summary[f"operating_point/{name}"] = point
    watched.log(_charts(run))
    ids = {"image_id": str, "patient_id": str}
    predictions = pd.read_csv(folder / "predictions.csv", dtype=ids)
    watched.log({"predictions": _table(predictions, open_prepared(Path(cfg.data.folder)))})
    if node.artifact:
        artifact = wandb.Artifact(f"model-{node.id}", type="model", metadata=flat_metrics(folder))
        artifact.add_file(str(folder / "checkpoints" / "best.ckpt"))
        watched.log_artifact(artifact)


def _charts(run: Run) -> dict[str, Any]:
    """Return ROC and precision-recall curves of every yes-or-no task, and the confusion matrix of every target."""
    import wandb

    charts: dict[str, Any] = {}
    for target, rows in run.predictions.items():
        for task in run.binary_tasks(target).values():
            charts.update(_curves(task, run.question(task.name)))
        decided = rows.dropna(subset=[run.system.truth])
        charts[f"confusion/{target}"] = wandb.plot.confusion_matrix(
            y_true=decided[run.system.truth].astype(int).tolist(),
            preds=decided["predicted"].astype(int).tolist(),
            class_names=run.system.class_names(run.results),
            title=f"Confusion, {target}",
        )
    return charts


def _curves(task: BinaryTask, title: str) -> dict[str, Any]:
    import wandb

    decided = ~np.isnan(task.label)
    truth, score = task.label[decided].astype(int).tolist(), task.probability[decided]
    if len(set(truth)) < 2:
        return {}  # undefined: metrics.json gives the reason
    both = np.stack([1 - score, score], axis=1).tolist()
    shared: Any = {"y_true": truth, "y_probas": both, "classes_to_plot": [1], "labels": ["no", "yes"]}
    return {
        f"roc/{title}": wandb.plot.roc_curve(**shared, title=f"ROC, {title}"),
        f"pr/{title}": wandb.plot.pr_curve(**shared, title=f"Precision and recall, {title}"),
    }


def _table(predictions: pd.DataFrame, prepared: PreparedSet) -> Any:
    """Return the predictions, each with its photograph."""
    import wandb

    row_of = {str(name): row for row, name in enumerate(prepared.manifest.images["image_id"])}
    shown = predictions.head(ROWS)
    pictures: dict[str, Any] = {}
    for name in dict.fromkeys(shown["image_id"]):
        pixels = np.asarray(prepared.pixels[row_of[name]])
        pictures[name] = wandb.Image(cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
    columns = [str(name) for name in shown]
    cells = shown.astype(object).where(shown.notna(), None).itertuples(index=False)
    return wandb.Table(["picture", *columns], [[pictures[str(row[0])], *row] for row in cells])
