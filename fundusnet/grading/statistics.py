"""From a table of predicted grades to the numbers of S2.6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fundusnet.evaluation import intervals
from fundusnet.evaluation.intervals import Statistic
from fundusnet.findings.statistics import column, counted, patient_clusters
from fundusnet.findings.statistics import read_predictions as read_table
from fundusnet.grading.metrics import accuracy, confusion_matrix, grading_statistics
from fundusnet.system.progress import track

COLUMNS = ("image_id", "patient_id", "grade", "predicted", "stage1_predicted", "p_gt_0")


def grading_metrics(
    predictions: pd.DataFrame, classes: Sequence[str], *, split: str = "test", n: int = 2000, seed: int = 0
) -> dict[str, object]:
    """Return the contents of ``metrics.json`` for a table with a row an image.

    ``grade`` is 0 … K-1, ``predicted`` likewise, ``p_gt_k`` the probability of "grade > k", ``stage1_predicted`` the
    grade that chose the mask, NaN where there is no first stage. ``classes`` names the K grades. Every metric is
    ``{"value", "ci95": [low, high]}`` with a ``reason`` where undefined, ``unreliable`` where fewer than ten patients
    bear it, and ``redrawn`` resamples. ``confusion`` has a row for each true grade, a column for each predicted one.
    """
    patients = patient_clusters(predictions)
    statistics = run_statistics(predictions, classes)
    grade = column(predictions, "grade").astype(int)
    predicted = column(predictions, "predicted").astype(int)
    return {
        "task": "grading",
        "split": split,
        **counted(predictions),
        "classes": list(classes),
        "counts": dict(zip(classes, np.bincount(grade, minlength=len(classes)).tolist(), strict=True)),
        "confusion": confusion_matrix(grade, predicted, len(classes)).astype(int).tolist(),
        "metrics": {
            name: intervals.bootstrap(statistic, patients, n=n, seed=seed).as_metric()
            for name, statistic in track(statistics.items(), f"intervals {split}", total=len(statistics))
        },
    }


def run_statistics(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Statistic]:
    """Return every metric of a run by name: S2.6, and the accuracy of the grade that chose the mask where there is one.

    ``recall_<class>`` are the paper's Sp, SeS and SeG.
    """
    grade, predicted = column(rows, "grade").astype(int), column(rows, "predicted").astype(int)
    p = rows[[f"p_gt_{k}" for k in range(len(classes) - 1)]].to_numpy(dtype=np.float64)
    found = grading_statistics(grade, predicted, p, classes)
    first = column(rows, "stage1_predicted")
    if np.isfinite(first).all():
        found["stage1_accuracy"] = accuracy(grade, first)
    return found


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a grading run's ``predictions.csv``; ids stay text, an empty ``stage1_predicted`` becomes NaN."""
    return read_table(path, COLUMNS)
