"""ROC and precision-recall curves, with bands from a bootstrap that resamples patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from fundusnet.evaluation import figures, intervals
from fundusnet.evaluation.intervals import Floats

GRID = np.linspace(0, 1, 101)
RESAMPLES = 500


@dataclass(frozen=True)
class Scores:
    """What a curve is drawn from.

    Attributes:
        labels: ``(N,)``: 1, 0, or NaN (left out).
        scores: ``(N,)``, higher for presence.
        patients: ``(N,)``, what the bootstrap draws; None draws no band.
        point: Sensitivity, specificity and positive predictive value at the operating point, the last None where
            nothing is predicted; None where there is no such point.
    """

    labels: ArrayLike
    scores: ArrayLike
    patients: ArrayLike | None = None
    point: tuple[float, float, float | None] | None = None


def roc(curves: Mapping[str, Scores], title: str = "") -> Figure:
    """Return ROC curves by name, marking operating points; a curve of a single class is not drawn."""
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for number, (name, each) in enumerate(curves.items()):
        label, score, who = _decided(each)
        if len(np.unique(label)) < 2:
            continue
        style = figures.line_style(number)
        false_alarms, hits, _ = roc_curve(label, score)
        axes.plot(false_alarms, hits, linewidth=1.6, label=_named(name, roc_auc_score(label, score), curves), **style)
        if who is not None and len(curves) <= figures.BANDS:
            low, high = bands(label, score, who)[0]
            axes.fill_between(GRID, low, high, color=style["color"], alpha=0.15, linewidth=0)
        if each.point:
            _dot(axes, 1 - each.point[1], each.point[0], style["color"], number)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    _finish(figure, axes, title or "ROC", curves, "lower right", "AUROC")
    return figure


def precision_recall(curves: Mapping[str, Scores], title: str = "") -> Figure:
    """Return precision-recall curves by name, with the prevalence that chance would reach (dotted)."""
    figure, axes = _square()
    for number, (name, each) in enumerate(curves.items()):
        label, score, who = _decided(each)
        if len(np.unique(label)) < 2:
            continue
        style = figures.line_style(number)
        if not number:
            axes.axhline(label.mean(), color="grey", linewidth=1, linestyle=":")
            axes.text(0.01, label.mean() + 0.01, f"prevalence {label.mean():.2f}", fontsize=7, color="#555")
        precision, recall, _ = precision_recall_curve(label, score)
        area = average_precision_score(label, score)
        axes.step(recall, precision, where="post", linewidth=1.6, label=_named(name, area, curves), **style)
        if who is not None and len(curves) <= figures.BANDS:
            low, high = bands(label, score, who)[1]
            axes.fill_between(GRID, low, high, color=style["color"], alpha=0.15, linewidth=0)
        if each.point and each.point[2] is not None:
            _dot(axes, each.point[0], each.point[2], style["color"], number)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (PPV)")
    _finish(figure, axes, title or "Precision and recall", curves, "lower left", "average precision")
    return figure


def bands(label: Floats, score: Floats, patients: ArrayLike, *, n: int = RESAMPLES) -> tuple[Floats, Floats]:
    """Return pointwise 95% intervals over ``GRID``: of sensitivity at a false positive rate, of precision at a recall.

    Args:
        label: ``(N,)`` of 0 and 1.
        score: ``(N,)``.
        patients: ``(N,)``, identities of any kind.
        n: Number of resamples; those of a single class are left out.

    Returns:
        Two times low and high, ``(2, 101)``.
    """
    identities, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    generator = np.random.default_rng(0)
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[score[order][1:] != score[order][:-1], True])  # where a group of equal scores ends
    found: tuple[list[Floats], list[Floats]] = ([], [])
    for _ in range(n):
        drawn = generator.multinomial(len(identities), np.full(len(identities), 1 / len(identities)))
        weight = drawn[patient_of.ravel()][order].astype(np.float64)
        hits = (weight * label[order]).cumsum()[last]
        alarms = (weight * (1 - label[order])).cumsum()[last]
        if not hits[-1] or not alarms[-1]:
            continue
        found[0].append(np.interp(GRID, np.r_[0, alarms / alarms[-1]], np.r_[0, hits / hits[-1]]))
        # The best precision with at least this recall, as the steps of the curve are drawn.
        precision = intervals.ratio(hits, hits + alarms)
        place = np.searchsorted(hits / hits[-1], GRID, side="left").clip(0, len(hits) - 1)
        found[1].append(precision[place])
    empty = np.full((2, len(GRID)), np.nan)
    low_high = [np.nanquantile(one, (0.025, 0.975), axis=0) if one else empty for one in found]
    return low_high[0], low_high[1]


def describe(label: ArrayLike) -> str:
    """Return in words how many images a curve is drawn from."""
    values = np.asarray(label, dtype=np.float64)
    return f"n = {int((values == 1).sum())} with, {int((values == 0).sum())} without"


def _decided(each: Scores) -> tuple[Floats, Floats, np.ndarray | None]:
    label = np.asarray(each.labels, dtype=np.float64)
    known = ~np.isnan(label)
    who = None if each.patients is None else np.asarray(each.patients)[known]
    return label[known], np.asarray(each.scores, dtype=np.float64)[known], who


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 4.2), dpi=150)
    axes = figure.subplots()
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _dot(axes: Axes, x: float, y: float, color: str, number: int) -> None:
    axes.plot(x, y, figures.marker(number), color=color, markersize=7, markeredgecolor="white")


def _named(name: str, area: float, curves: Mapping[str, Scores]) -> str:
    """The entry of a curve in the legend; an only one needs no name."""
    return f"{name}  {area:.3f}" if len(curves) > 1 else f"{area:.3f}"


def _finish(
    figure: Figure, axes: Axes, title: str, curves: Mapping[str, Scores], corner: figures.Corner, area: str
) -> None:
    counts = {describe(each.labels) for each in curves.values()}
    axes.set_title(f"{title}\n{counts.pop()}" if len(counts) == 1 else title)
    dots = "; mark: operating point" if any(each.point for each in curves.values()) else ""
    figures.legend(axes, corner, title=f"{area}{dots}")
    figures.tidy(figure)
