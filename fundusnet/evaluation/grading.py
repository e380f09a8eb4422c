"""From a table of predicted grades to the numbers of S2.6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fundusnet.evaluation import intervals
from fundusnet.evaluation.findings import column, patient_clusters
from fundusnet.evaluation.findings import read_predictions as read_table
from fundusnet.evaluation.intervals import Floats, Statistic
from fundusnet.grading.ranking import class_probabilities
from fundusnet.progress import track

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
    statistics = grading_statistics(predictions, classes)
    grade = column(predictions, "grade").astype(int)
    predicted = column(predictions, "predicted").astype(int)
    return {
        "task": "grading",
        "split": split,
        "n_images": len(predictions),
        "n_patients": len(np.unique(patients)),
        "classes": list(classes),
        "counts": dict(zip(classes, np.bincount(grade, minlength=len(classes)).tolist(), strict=True)),
        "confusion": confusion(grade, predicted, len(classes)).tolist(),
        "metrics": {
            name: intervals.bootstrap(statistic, patients, n=n, seed=seed).as_metric()
            for name, statistic in track(statistics.items(), f"intervals {split}", total=len(statistics))
        },
    }


def grading_statistics(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Statistic]:
    """Return every metric by name: S2.6, and the accuracy of the grade that chose the mask where there was one.

    ``recall_<class>`` are the paper's Sp, SeS and SeG. Our reading: ``auroc_macro`` is the mean over the classes of
    one class against the rest, scored by the differences of neighbouring "grade > k" probabilities.
    """
    grade, predicted = column(rows, "grade"), column(rows, "predicted")
    p = rows[[f"p_gt_{k}" for k in range(len(classes) - 1)]].to_numpy(dtype=np.float64)
    everyone = np.ones(len(rows), dtype=bool)
    correct = (predicted == grade).astype(np.float64)
    found = {"accuracy": intervals.mean(correct, everyone, "images")}
    for number, name in enumerate(classes):
        found[f"recall_{name}"] = intervals.mean(correct, grade == number, f"{name} images")
    violated = ((p[:, :-1] <= 0.5) & (p[:, 1:] > 0.5)).any(axis=1).astype(np.float64)
    found |= {
        "kappa_quadratic": kappa_quadratic(grade, predicted, len(classes)),
        "mae": intervals.mean(np.abs(predicted - grade), everyone, "images"),
        "auroc_macro": _auroc_macro(grade, p, classes),
        "rank_violations": intervals.mean(violated, everyone, "images"),
    }
    first = column(rows, "stage1_predicted")
    if np.isfinite(first).any():
        found["stage1_accuracy"] = intervals.mean((first == grade).astype(np.float64), everyone, "images")
    return found


def kappa_quadratic(grade: NDArray[np.floating], predicted: NDArray[np.floating], classes: int) -> Statistic:
    """Return Cohen's kappa with quadratic weights: 1 is agreement, 0 what two independent raters reach.

    Undefined where both say the same one grade of every image.
    """
    one_hot = np.eye(classes)
    actual, given = one_hot[grade.astype(int)], one_hot[predicted.astype(int)]
    cost = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2.0
    disagreement = (grade - predicted) ** 2.0

    def of(weights: Floats) -> Floats:
        observed = weights @ disagreement
        rows, columns, total = weights @ actual, weights @ given, weights.sum(axis=1)
        expected = np.einsum("ri,ij,rj->r", rows, cost, columns) / np.maximum(total, 1e-12)
        return 1 - intervals.ratio(observed, expected)

    return Statistic(of, {"images": np.ones(len(grade), dtype=bool)})


def confusion(grade: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Return ``(K, K)`` counts: a row for each true grade, a column for each predicted one."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (grade, predicted), 1)
    return matrix


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a grading run's ``predictions.csv``; ids stay text, an empty ``stage1_predicted`` becomes NaN."""
    return read_table(path, COLUMNS)


def _auroc_macro(grade: NDArray[np.floating], p: NDArray[np.floating], classes: Sequence[str]) -> Statistic:
    shares = class_probabilities(torch.tensor(p)).numpy()
    areas = [intervals.auroc(grade == number, shares[:, number]) for number in range(len(classes))]
    needs = {f"{name} images": grade == number for number, name in enumerate(classes)}
    return Statistic(lambda weights: np.stack([area.of(weights) for area in areas]).mean(axis=0), needs)
