"""The threshold at which a probability becomes a finding (S1.6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fundusnet.errors import UserError


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and its sensitivity and specificity where it was chosen; positive is score >= threshold."""

    threshold: float
    sensitivity: float
    specificity: float


def operating_point(labels: ArrayLike, scores: ArrayLike) -> OperatingPoint:
    """Return the threshold whose sensitivity and specificity have the greatest harmonic mean (S1.6).

    The threshold is always one of the scores. Among equal harmonic means the lowest threshold wins: in screening a
    missed finding costs more than a false alarm.

    Args:
        labels: ``(N,)``: 1 present, 0 absent, NaN undecided (left out).
        scores: ``(N,)``, finite, higher for presence.

    Raises:
        UserError: There is only one class, or a score is not finite.
    """
    label = np.asarray(labels, dtype=np.float64)
    score = np.asarray(scores, dtype=np.float64)
    if label.ndim != 1 or label.shape != score.shape:
        raise ValueError(f"labels {label.shape} and scores {score.shape} must be vectors of one length")
    decided = ~np.isnan(label)
    label, score = label[decided], score[decided]
    if not np.isfinite(score).all():
        raise UserError("a score is not finite: the model diverged; lower the learning rate and train again")
    positives = int((label == 1).sum())
    negatives = int((label == 0).sum())
    if positives == 0 or negatives == 0:
        raise UserError(
            f"no operating point from {positives} present and {negatives} absent images: both classes are "
            "needed; enlarge the split or choose another finding"
        )

    thresholds, group = np.unique(score, return_inverse=True)
    present = np.bincount(group, weights=label == 1)
    absent = np.bincount(group, weights=label == 0)
    true_positives = present[::-1].cumsum()[::-1]
    true_negatives = absent.cumsum() - absent
    # Unlike rates from sklearn's roc_curve, whole numbers up to one division make equal means compare as equal.
    denominator = true_positives * negatives + true_negatives * positives
    harmonic = np.zeros(len(thresholds))
    np.divide(2 * true_positives * true_negatives, denominator, out=harmonic, where=denominator > 0)
    best = int(harmonic.argmax())
    return OperatingPoint(
        threshold=float(thresholds[best]),
        sensitivity=float(true_positives[best] / positives),
        specificity=float(true_negatives[best] / negatives),
    )
