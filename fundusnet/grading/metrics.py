"""The metrics of predicted grades (S2.6), as statistics over weighted images that the bootstrap can resample.

They equal those of scikit-learn, which takes one resample at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fundusnet.evaluation import intervals
from fundusnet.evaluation.intervals import Floats, Statistic
from fundusnet.grading.ranking import class_probabilities, rank_violations

Grades = NDArray[np.int64]


def grading_statistics(
    grade: ArrayLike, predicted: ArrayLike, p: ArrayLike, names: Sequence[str]
) -> dict[str, Statistic]:
    """Return every metric of S2.6 by name.

    Args:
        grade: ``(N,)`` integers in 0 … K-1.
        predicted: ``(N,)``, likewise.
        p: ``(N, K-1)`` probabilities of "grade > k".
        names: Of the K grades, from the lowest. Recall is reported as ``recall_<name>``; for glaucoma these are the
            paper's Sp, SeS and SeG; ``ppv_``, ``npv_`` and ``f1_`` are those of each grade against all others.
    """
    classes = len(names)
    return {
        "accuracy": accuracy(grade, predicted),
        **{f"recall_{name}": recall(grade, predicted, k, name) for k, name in enumerate(names)},
        **{
            f"{metric}_{name}": one
            for k, name in enumerate(names)
            for metric, one in intervals.predictive_values(_grades(grade) == k, _grades(predicted) == k).items()
        },
        "kappa_quadratic": kappa_quadratic(grade, predicted, classes),
        "mae": mean_absolute_error(grade, predicted),
        "auroc_macro": auroc_macro(grade, p, names),
        "rank_violations": violation_rate(p),
    }


def accuracy(grade: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return the share of images whose predicted grade is the true one."""
    true, guess = _grades(grade), _grades(predicted)
    return intervals.mean(true == guess, np.ones(len(true), dtype=bool), "images")


def recall(grade: ArrayLike, predicted: ArrayLike, k: int, name: str) -> Statistic:
    """Return the share of the images of grade ``k`` that are predicted so; undefined without such images."""
    true, guess = _grades(grade), _grades(predicted)
    return intervals.mean(guess == k, true == k, f"images of grade {name}")


def mean_absolute_error(grade: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return the mean number of grades between the predicted and the true one."""
    true, guess = _grades(grade), _grades(predicted)
    return intervals.mean(np.abs(true - guess), np.ones(len(true), dtype=bool), "images")


def kappa_quadratic(grade: ArrayLike, predicted: ArrayLike, classes: int) -> Statistic:
    """Return Cohen's kappa with quadratic weights: 1 - observed / expected squared distance of the two grades.

    Undefined where all images are of one grade and predicted so: chance would agree as well.
    """
    true, guess = _grades(grade), _grades(predicted)
    steps = np.arange(classes)
    distance = (steps[:, None] - steps[None, :]).astype(np.float64) ** 2

    def compute(weights: Floats) -> Floats:
        matrix = confusion_matrix(true, guess, classes, weights)
        rows, columns = matrix.sum(axis=2), matrix.sum(axis=1)
        observed = (matrix * distance).sum(axis=(1, 2)) * rows.sum(axis=1)
        return 1 - intervals.ratio(observed, np.einsum("ri,ij,rj->r", rows, distance, columns))

    return Statistic(compute, {"images": np.ones(len(true), dtype=bool)})


def auroc_macro(grade: ArrayLike, p: ArrayLike, names: Sequence[str]) -> Statistic:
    """Return the mean over the grades of the AUROC of one grade against all others.

    The score of a grade is its probability according to ``class_probabilities`` of ``p`` ``(N, K-1)``. Undefined where
    a grade has no image; a mean over the others would not be comparable.
    """
    true = _grades(grade)
    scores = class_probabilities(_tensor(p)).numpy()
    areas = [intervals.auroc(true == k, scores[:, k]) for k in range(len(names))]
    requires = {f"images of grade {name}": true == k for k, name in enumerate(names)}
    return Statistic(lambda weights: np.mean([area.compute(weights) for area in areas], axis=0), requires)


def violation_rate(p: ArrayLike) -> Statistic:
    """Return the share of images on which some sub-classifier says no and a later one yes (S2.1)."""
    broken = rank_violations(_tensor(p)).numpy()
    return intervals.mean(broken, np.ones(len(broken), dtype=bool), "images")


def confusion_matrix(
    grade: ArrayLike, predicted: ArrayLike, classes: int, weights: Floats | None = None
) -> NDArray[np.float64]:
    """Return the images of true grade i (rows) predicted as j (columns): ``(K, K)``, or R of them with weights."""
    cell = _grades(grade) * classes + _grades(predicted)
    if weights is None:
        return np.bincount(cell, minlength=classes**2).reshape(classes, classes).astype(np.float64)
    members = np.zeros((len(cell), classes**2))
    members[np.arange(len(cell)), cell] = 1
    return (weights @ members).reshape(-1, classes, classes)


def _grades(values: ArrayLike) -> Grades:
    return np.asarray(values).astype(np.int64)


def _tensor(p: ArrayLike) -> torch.Tensor:
    # A reversed view has negative strides, which torch does not take.
    return torch.from_numpy(np.ascontiguousarray(p, dtype=np.float64))
