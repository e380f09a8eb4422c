"""The metrics of S2.6, from a table of predicted grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fundusnet.evaluation import intervals
from fundusnet.evaluation.binary_tasks import BinaryTask
from fundusnet.evaluation.intervals import Statistic
from fundusnet.evaluation.predictions import column, count_images, patient_clusters, read_predictions
from fundusnet.evaluation.runs import System
from fundusnet.grading.metrics import accuracy, confusion_matrix, grading_statistics
from fundusnet.system.progress import track

COLUMNS = ("image_id", "patient_id", "grade", "predicted", "stage1_predicted", "p_gt_0")
GRADE = "grade"  # the one target of a grading run
TITLES = {
    "accuracy": "Accuracy",
    "kappa_quadratic": "Kappa",
    "mae": "Mean error",
    "auroc_macro": "AUROC",
    "rank_violations": "Rank violations",
    "stage1_accuracy": "Accuracy of stage 1",
}

OF_GRADE = {"recall": "Recall", "ppv": "PPV", "npv": "NPV", "f1": "F1"}  # each grade against all others


def grading_metrics(
    predictions: pd.DataFrame, classes: Sequence[str], *, split: str = "test", n: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        predictions: One row per image. ``grade`` and ``predicted`` are 0 … K-1, ``p_gt_k`` is the probability of
            "grade > k", ``stage1_predicted`` the grade that chose the mask (NaN without a first stage).
        classes: Names of the K grades.
        split: What the images are.
        n: Number of resamples.
        seed: Of the resampling.

    Returns:
        Counts, ``confusion`` (a row for each true grade, a column for each predicted one) and ``metrics``. A metric is
        ``{"value", "ci95": [low, high]}`` with a ``reason`` where undefined, ``unreliable`` where it rests on fewer
        than ten patients, and the number of ``redrawn`` resamples.
    """
    patients = patient_clusters(predictions)
    statistics = run_statistics(predictions, classes)
    grade = column(predictions, "grade").astype(int)
    predicted = column(predictions, "predicted").astype(int)
    return {
        "task": "grading",
        "split": split,
        **count_images(predictions),
        "classes": list(classes),
        "counts": dict(zip(classes, np.bincount(grade, minlength=len(classes)).tolist(), strict=True)),
        "confusion": confusion_matrix(grade, predicted, len(classes)).astype(int).tolist(),
        "metrics": {
            name: intervals.bootstrap(statistic, patients, n=n, seed=seed).as_metric()
            for name, statistic in track(statistics.items(), f"intervals {split}", total=len(statistics))
        },
    }


def run_statistics(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Statistic]:
    """Return every metric of a run by name: those of S2.6, and the accuracy of the first stage where there is one.

    ``recall_<class>`` are the paper's Sp, SeS and SeG.
    """
    grade, predicted = column(rows, "grade").astype(int), column(rows, "predicted").astype(int)
    p = rows[[f"p_gt_{k}" for k in range(len(classes) - 1)]].to_numpy(dtype=np.float64)
    found = grading_statistics(grade, predicted, p, classes)
    first = column(rows, "stage1_predicted")
    if np.isfinite(first).all():
        found["stage1_accuracy"] = accuracy(grade, first)
    return found


def subgroup_statistics(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Statistic]:
    """Return the metrics that subgroups have: accuracy and the recall of each grade."""
    every = run_statistics(rows, classes)
    return {name: every[name] for name in ("accuracy", *(f"recall_{name}" for name in classes))}


def grading_tasks(predictions: pd.DataFrame, chosen: Mapping[str, Any] | None = None) -> list[BinaryTask]:
    """Return the yes-or-no tasks "is the grade above k?": ``gt_0`` … ``gt_{K-2}``.

    ``chosen`` is what ``fit_on_validation`` returned.
    """
    names = [str(name).removeprefix("p_") for name in predictions if str(name).startswith("p_gt_")]
    grade = column(predictions, "grade")
    return [
        BinaryTask(
            target=GRADE,
            name=name,
            label=np.where(np.isnan(grade), np.nan, grade > k).astype(np.float64),
            probability=column(predictions, f"p_{name}"),
            patients=patient_clusters(predictions),
            chosen=(chosen or {}).get(name) or {},
        )
        for k, name in enumerate(names)
    ]


def tasks_of(classes: Sequence[str]) -> list[str]:
    """The names of the tasks of ``grading_tasks``."""
    return [f"gt_{k}" for k in range(len(classes) - 1)]


def question(task: str, classes: Sequence[str]) -> str:
    """What charts call a task of ``grading_tasks``.

    Examples:
        >>> question("gt_0", ["normal", "suspicious", "glaucoma"])
        'above normal'
    """
    return f"above {classes[int(task.removeprefix('gt_'))].replace('_', ' ')}"


def read_grades(path: Path) -> dict[str, pd.DataFrame]:
    """Read a grading run's ``predictions.csv``; an empty ``stage1_predicted`` becomes NaN."""
    return {GRADE: read_predictions(path, COLUMNS, ("image_id", "patient_id"))}


def title(name: str) -> str:
    """Return the title of a metric in tables."""
    kind, _, grade = name.partition("_")
    return TITLES.get(name) or f"{OF_GRADE[kind]} of {grade.replace('_', ' ')}"


GRADING = System(
    read=read_grades,
    statistics=lambda rows, results: run_statistics(rows, results.get("classes", [])),
    subgroup_statistics=lambda rows, results: subgroup_statistics(rows, results["classes"]),
    binary_tasks=grading_tasks,
    question=question,
    results=lambda rows, results, split, n: grading_metrics(rows, results["classes"], split=split, n=n),
    title=title,
    truth="grade",
    class_names=lambda results: list(results.get("classes", [])),
    own_keys=("model.stage1.checkpoint",),
)
