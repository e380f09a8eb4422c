"""The value of a probability for decisions: net benefit, and sensitivity at high specificity.

Our addition to S1.6 and S2.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from fundusnet.evaluation import figures, intervals
from fundusnet.evaluation.calibration import plain
from fundusnet.evaluation.intervals import Floats, Statistic

SPECIFICITIES = {"sp85": 0.85, "sp95": 0.95}
PARTIAL = 0.90  # the partial AUROC is between this specificity and 1
THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.02), 2)


def threshold_at_specificity(labels: ArrayLike, scores: ArrayLike, specificity: float) -> float | None:
    """Return the lowest threshold with at least this specificity; positive is score >= threshold.

    It is one of the scores, or just above the highest where none of them suffices. None without an absent image.
    """
    label, score = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    absent = np.sort(score[label == 0])
    if not len(absent):
        return None
    candidates = np.unique(score[(label == 0) | (label == 1)])
    below = np.searchsorted(absent, candidates)
    enough = candidates[below >= specificity * len(absent) - 1e-9]
    return float(enough[0]) if len(enough) else float(np.nextafter(candidates[-1], np.inf))


def sensitivity_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Statistic:
    """Return the share of present images at or above ``threshold``."""
    label, score = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    return intervals.mean(score >= threshold, label == 1, "present images")


def specificity_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Statistic:
    """Return the share of absent images below ``threshold``."""
    label, score = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    return intervals.mean(score < threshold, label == 0, "absent images")


def roc_sensitivity(labels: ArrayLike, scores: ArrayLike, specificity: float) -> Statistic:
    """Return the highest sensitivity with at least this specificity on the ROC curve of the same images.

    Each resample has its own curve. Optimistic, because the threshold is chosen on the images it is scored on.
    """
    curve, requires = _roc(labels, scores)

    def compute(weights: Floats) -> Floats:
        false_alarms, hits = curve(weights)
        with np.errstate(invalid="ignore"):
            allowed = false_alarms <= 1 - specificity + 1e-9
        best = np.where(allowed, hits, -1.0).max(axis=1)
        return np.where(best < 0, np.nan, best)

    return Statistic(compute, requires)


def partial_auroc(labels: ArrayLike, scores: ArrayLike, specificity: float = PARTIAL) -> Statistic:
    """Return the area under the ROC curve from ``specificity`` to 1, standardised (McClish): chance is 0.5."""
    curve, requires = _roc(labels, scores)
    widest = 1 - specificity

    def compute(weights: Floats) -> Floats:
        false_alarms, hits = curve(weights)
        left, right = false_alarms[:, :-1], false_alarms[:, 1:]
        inside = np.clip(np.minimum(right, widest) - left, 0, None)
        share = np.divide(inside, right - left, out=np.ones_like(inside), where=right > left)
        end = hits[:, :-1] + share * (hits[:, 1:] - hits[:, :-1])
        area = (inside * (hits[:, :-1] + end) / 2).sum(axis=1)
        least = widest**2 / 2
        return np.asarray(0.5 * (1 + (area - least) / (widest - least)))

    return Statistic(compute, requires)


def net_benefit(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> Statistic:
    """Return true positives minus t / (1 - t) times false positives, per image, at ``threshold`` t."""
    label = np.asarray(labels, dtype=np.float64)
    treated = np.asarray(probabilities, dtype=np.float64) >= threshold
    return intervals.mean(_benefit(label, treated, threshold), (label == 1) | (label == 0), "decided images")


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike, *, n: int = 2000, seed: int = 0
) -> dict[str, list[Any]]:
    """Return the net benefit at each threshold, of the ``model`` and of treating ``all``; treating none has 0.

    ``low`` and ``high`` are pointwise 95% patient-clustered intervals of the former.
    """
    label, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    decided = (label == 1) | (label == 0)
    among = np.broadcast_to(decided[:, None], (len(label), len(THRESHOLDS)))
    model = np.stack([_benefit(label, p >= t, t) for t in THRESHOLDS], axis=1)
    value, low, high = intervals.bootstrap_means(model, among, patients, n=n, seed=seed)
    rate = label[decided].mean() if decided.any() else np.nan
    return {
        "threshold": THRESHOLDS.tolist(),
        "model": plain(value),
        "low": plain(low),
        "high": plain(high),
        "all": plain(rate - (1 - rate) * THRESHOLDS / (1 - THRESHOLDS)),
    }


def decision_figure(curves: Mapping[str, Mapping[str, list[Any]]], title: str = "Decision curve") -> Figure:
    """Draw decision curves by name, as ``decision_curve`` returns them, with treating all (dashed) and none."""
    figure = Figure(figsize=(4.4, 4.2), dpi=150)
    axes = figure.subplots()
    highest = 0.05
    for number, (name, curve) in enumerate(curves.items()):
        style = figures.line_style(number)
        x, y, low, high, everyone = (
            np.array(curve[key], dtype=float) for key in ("threshold", "model", "low", "high", "all")
        )
        if not number:
            axes.plot(x, everyone, color="grey", linewidth=1, linestyle="--", label="treat all")
            axes.axhline(0, color="grey", linewidth=0.8, linestyle=":", label="treat none")
        axes.plot(x, y, linewidth=1.6, label=name if len(curves) > 1 else "network", **style)
        if len(curves) <= figures.BANDS:
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        highest = max(highest, np.nanmax(high, initial=0.0), np.nanmax(everyone, initial=0.0))
    axes.set(
        title=title,
        xlabel="threshold",
        ylabel="net benefit (per image)",
        xlim=(0, 1),
        ylim=(-0.25 * highest, 1.08 * highest),
    )
    figures.legend(axes, "upper right", most=6)
    return figures.tidy(figure)


def _benefit(label: Floats, treated: Any, threshold: float) -> Floats:
    """Return the contribution of each image to the net benefit; that of undecided images is meaningless."""
    return np.where(treated, np.where(label == 1, 1.0, -threshold / (1 - threshold)), 0.0)


def _roc(labels: ArrayLike, scores: ArrayLike) -> tuple[Callable[[Floats], tuple[Floats, Floats]], dict[str, Any]]:
    """Return a function from weights ``(R, N)`` to R ROC curves, and the images they require.

    A curve goes from (0, 0) to (1, 1): false alarms and hits, ``(R, G + 1)`` each; NaN for a resample of one class.
    """
    label, score = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    present, absent = label == 1, label == 0
    decided = np.flatnonzero(present | absent)
    order = decided[np.argsort(-score[decided], kind="stable")]
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.empty(0, np.intp)

    def curve(weights: Floats) -> tuple[Floats, Floats]:
        corners = []
        for members in (absent, present):
            if not len(order):
                corners.append(np.full((len(weights), 2), np.nan))
                continue
            steps = np.add.reduceat(weights[:, order] * members[order], starts, axis=1).cumsum(axis=1)
            share = intervals.ratio(steps, np.broadcast_to(steps[:, -1:], steps.shape))
            # Without a member the whole row is NaN, including the corner (0, 0).
            corners.append(np.hstack([share[:, -1:] - share[:, -1:], share]))
        return corners[0], corners[1]

    return curve, {"present images": present, "absent images": absent}
