"""The end of a training for its loggers: curves, confusion matrix, predictions with pictures, metrics, the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from omegaconf import DictConfig

from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.fitting.loggers import open_wandb

THUMBNAIL = 96  # pixels: side of a picture in the table
ROWS = 500  # of the table; all predictions are in predictions.csv


def log_outcome(cfg: DictConfig, run: Path) -> None:
    """Report the metrics and predictions of a scored run to W&B and TensorBoard, as ``cfg.logger`` says."""
    if cfg.logger.tensorboard:
        _to_tensorboard(run)
    if cfg.logger.wandb:
        _to_wandb(cfg, run)


def flat_metrics(run: Path) -> dict[str, float]:
    """``test/<metric>`` → value, of those that are defined."""
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    return {f"test/{name}": entry["value"] for name, entry in metrics.items() if entry["value"] is not None}


def _to_tensorboard(run: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run / "tensorboard")) as writer:
        for name, value in flat_metrics(run).items():
            writer.add_scalar(name, value)


def _to_wandb(cfg: DictConfig, run: Path) -> None:
    import wandb

    watched = open_wandb(cfg)
    ids = {"image_id": str, "patient_id": str}
    predictions = pd.read_csv(run / "predictions.csv", dtype=ids, keep_default_na=True)
    results = json.loads((run / "metrics.json").read_text())
    watched.summary.update(flat_metrics(run))
    for name, point in results.get("operating_points", {}).items():
        watched.summary[f"operating_point/{name}"] = point
    watched.log(_finding_charts(predictions) if "finding" in predictions else _grading_charts(predictions))
    watched.log({"predictions": _table(predictions, open_prepared(Path(cfg.data.folder)))})
    if cfg.logger.artifact:
        artifact = wandb.Artifact(f"model-{cfg.logger.id}", type="model", metadata=flat_metrics(run))
        artifact.add_file(str(run / "checkpoints" / "best.ckpt"))
        watched.log_artifact(artifact)


def _finding_charts(predictions: pd.DataFrame) -> dict[str, Any]:
    charts: dict[str, Any] = {}
    for finding, rows in predictions.dropna(subset=["label"]).groupby("finding"):
        truth = rows["label"].astype(int).tolist()
        charts.update(_binary_charts(str(finding), truth, rows["probability"].to_numpy()))
        charts[f"confusion/{finding}"] = _confusion(
            truth, rows["predicted"].astype(int).tolist(), ["absent", "present"], str(finding)
        )
    return charts


def _grading_charts(predictions: pd.DataFrame) -> dict[str, Any]:
    rows = predictions.dropna(subset=["grade"])
    grade = rows["grade"].astype(int)
    charts: dict[str, Any] = {}
    columns = [str(name) for name in rows if str(name).startswith("p_gt_")]
    for k, column in enumerate(columns):
        charts.update(_binary_charts(f"grade > {k}", (grade > k).astype(int).tolist(), rows[column].to_numpy()))
    names = [str(k) for k in range(len(columns) + 1)]
    charts["confusion/grade"] = _confusion(grade.tolist(), rows["predicted"].astype(int).tolist(), names, "grade")
    return charts


def _binary_charts(name: str, truth: list[int], score: Any) -> dict[str, Any]:
    import wandb

    if len(set(truth)) < 2:
        return {}  # no curve: metrics.json gives the reason
    both = np.stack([1 - score, score], axis=1).tolist()
    of: Any = {"y_true": truth, "y_probas": both, "classes_to_plot": [1], "labels": ["no", "yes"]}
    return {
        f"roc/{name}": wandb.plot.roc_curve(**of, title=f"ROC, {name}"),
        f"pr/{name}": wandb.plot.pr_curve(**of, title=f"Precision and recall, {name}"),
    }


def _confusion(truth: list[int], predicted: list[int], names: list[str], title: str) -> Any:
    import wandb

    return wandb.plot.confusion_matrix(y_true=truth, preds=predicted, class_names=names, title=f"Confusion, {title}")


def _table(predictions: pd.DataFrame, prepared: PreparedSet) -> Any:
    """The predictions, each with its photograph."""
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
