"""Calibration of probabilities: temperature, calibration error, reliability curve.

Our addition to S1.6 and S2.6. A temperature T, fitted on validation, divides the logit. It keeps the order of images,
so AUROC and operating point stay the same; T > 1 lowers the confidence of an overconfident network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from fundusnet.evaluation import figures, intervals
from fundusnet.evaluation.intervals import Floats, Mask, Statistic

BINS = 10
IMAGES_PER_BIN = 10  # at least; with few images there are fewer bins
SATURATED = 1e-6  # float32 rounds a probability to 0 or 1 where the logit is large
HOTTEST = 20.0


@dataclass(frozen=True)
class Temperature:
    """What divides the logits; None where it is undefined, with the reason."""

    value: float | None
    reason: str = ""


def fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> Temperature:
    """Return the temperature between 1/20 and 20 with the lowest cross-entropy on (validation) images.

    Undefined for a single class, and where every present image scores above every absent one: then the loss falls
    without end as T goes to 0.

    Args:
        labels: ``(N,)``: 1, 0, or NaN (left out).
        probabilities: ``(N,)``.
    """
    label, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    present, absent = label == 1, label == 0
    if not present.any() or not absent.any():
        return Temperature(None, f"validation has no {'absent' if present.any() else 'present'} image")
    if p[present].min() > p[absent].max():
        return Temperature(None, "validation images are separated without an error, so the best temperature is 0")
    logit = _logit(p[present | absent])
    sign = np.where(label[present | absent] == 1, -1.0, 1.0)
    # Unimodal: the loss is convex in 1/T.
    best = minimize_scalar(
        lambda log_t: np.logaddexp(0, sign * logit / np.exp(log_t)).mean(),
        bounds=(-np.log(HOTTEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return Temperature(float(np.exp(best.x)))


def at_temperature(probabilities: ArrayLike, temperature: float | None) -> Floats:
    """Return probabilities with their logits divided by ``temperature``; NaN where that is None."""
    p = np.asarray(probabilities, dtype=np.float64)
    if temperature is None:
        return np.full(p.shape, np.nan)
    return np.asarray(1 / (1 + np.exp(-_logit(p) / temperature)))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Return the mean squared difference of probability and label."""
    label, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    return intervals.mean((p - label) ** 2, _decided(label), "decided images")


def mean_gap(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Return the mean probability minus the share of present images: calibration in the large."""
    label, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    return intervals.mean(p - label, _decided(label), "decided images")


def expected_error(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Return the expected calibration error (ECE) over bins of equal mass, the same bins in every resample.

    This is the usual estimate: with few images it is above 0 even for perfect calibration, and resampling raises its
    interval further. ``squared_error`` corrects for both.
    """
    sums_of, requires = _gaps(labels, probabilities)

    def compute(weights: Floats) -> Floats:
        gaps, mass = sums_of(weights)
        return intervals.ratio(np.abs(gaps).sum(axis=1), mass.sum(axis=1))

    return Statistic(compute, requires)


def squared_error(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Return the mean squared calibration error of the same bins; the bootstrap subtracts noise and reports the root.

    It corresponds to the debiased estimate of Kumar, Liang and Ma (2019), and also holds for patients with several
    images.
    """
    sums_of, requires = _gaps(labels, probabilities)

    def compute(weights: Floats) -> Floats:
        gaps, mass = sums_of(weights)
        squares = np.divide(gaps**2, mass, out=np.zeros_like(gaps), where=mass > 0)
        return intervals.ratio(squares.sum(axis=1), mass.sum(axis=1))

    return Statistic(compute, requires, squared=True)


def reliability_curve(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike, *, n: int = 2000, seed: int = 0
) -> dict[str, list[Any]]:
    """Return for each bin the mean ``probability``, the ``observed`` share of present images, and the count ``images``.

    ``low`` and ``high`` are pointwise 95% patient-clustered intervals; None where undefined.
    """
    label, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    decided = _decided(label)
    if not decided.any():
        return {"probability": [], "observed": [], "low": [], "high": [], "images": []}
    members = _members(p, decided)
    filled = np.where(decided, label, 0.0)[:, None]
    observed, low, high = intervals.bootstrap_means(
        np.broadcast_to(filled, members.shape), members, patients, n=n, seed=seed
    )
    return {
        "probability": plain((members * np.where(decided, p, 0.0)[:, None]).sum(axis=0) / members.sum(axis=0)),
        "observed": plain(observed),
        "low": plain(low),
        "high": plain(high),
        "images": members.sum(axis=0).astype(int).tolist(),
    }


def equal_mass_bins(probabilities: ArrayLike) -> NDArray[np.intp]:
    """Return the bin of each probability: ten of equal mass, fewer with few images; equal values share a bin."""
    p = np.asarray(probabilities, dtype=np.float64)
    count = int(np.clip(len(p) // IMAGES_PER_BIN, 1, BINS))
    edges = np.quantile(p, np.linspace(0, 1, count + 1))
    bins = np.searchsorted(edges[1:-1], p)
    return np.unique(bins, return_inverse=True)[1].ravel()


def reliability_figure(curves: Mapping[str, Mapping[str, list[Any]]], title: str = "Reliability") -> Figure:
    """Draw reliability curves by name, as ``reliability_curve`` returns them."""
    figure = Figure(figsize=(4.4, 4.2), dpi=150)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for number, (name, curve) in enumerate(curves.items()):
        x, y = np.array(curve["probability"], dtype=float), np.array(curve["observed"], dtype=float)
        low, high = (np.array(curve[edge], dtype=float) for edge in ("low", "high"))
        axes.errorbar(
            x, y, yerr=(np.maximum(y - low, 0), np.maximum(high - y, 0)), marker=figures.marker(number),
            markersize=4, linewidth=1.4, elinewidth=0.8, label=name, **figures.line_style(number),
        )  # fmt: skip
    axes.set(xlabel="probability", ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    counts = {sum(curve["images"]) for curve in curves.values()}
    axes.set_title(f"{title}\nn = {counts.pop()} images" if len(counts) == 1 else title)
    figures.legend(axes, "upper left")
    return figures.tidy(figure)


def plain(values: ArrayLike) -> list[float | None]:
    """Return numbers for a JSON file, rounded to five digits; None where not finite."""
    return [round(value, 5) if np.isfinite(value) else None for value in np.asarray(values, dtype=np.float64).tolist()]


def _gaps(
    labels: ArrayLike, probabilities: ArrayLike
) -> tuple[Callable[[Floats], tuple[Floats, Floats]], dict[str, Mask]]:
    """Return a function from weights ``(R, N)`` to each bin's sum of probability minus label and mass, ``(R, B)``."""
    label, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    decided = _decided(label)
    members = _members(p, decided)
    columns = np.hstack([members * np.where(decided, p - label, 0.0)[:, None], members])

    def sums_of(weights: Floats) -> tuple[Floats, Floats]:
        sums = weights @ columns
        return sums[:, : members.shape[1]], sums[:, members.shape[1] :]

    return sums_of, {"decided images": decided}


def _decided(label: Floats) -> Mask:
    return np.asarray((label == 1) | (label == 0))


def _members(p: Floats, decided: Mask) -> Floats:
    """Return ``(N, B)``: 1 where a decided image lies in the bin."""
    rows = np.flatnonzero(decided)
    bins = equal_mass_bins(p[rows]) if len(rows) else np.empty(0, np.intp)
    members = np.zeros((len(p), int(bins.max(initial=-1)) + 1))
    members[rows, bins] = 1.0
    return members


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, SATURATED, 1 - SATURATED)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
