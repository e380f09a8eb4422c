"""How well the regions that a network names agree with those that annotators marked (S1.1, S1.6).

Every image and region is a question of its own: is this finding in this region? It is answered yes where the region is
among those named. The AUROC ranks the images, in one region at a time, by the mean activation in this region: ranking
regions among each other would reward knowing that a finding of the macula is in the macula.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundusnet.evaluation import intervals
from fundusnet.evaluation.intervals import Floats, Statistic
from fundusnet.evaluation.predictions import column, patient_clusters
from fundusnet.findings.by_region import NAMES, ByRegion

# Columns of predictions.csv: regions joined by ";", of the network and of the annotators; numbers of each region.
NAMED, MARKED = "regions", "marked_regions"
SHARES = tuple(f"share_{name}" for name in NAMES)
MEANS = tuple(f"activation_{name}" for name in NAMES)


def region_cells(where: ByRegion | None) -> dict[str, object]:
    """Return the cells of one row of ``predictions.csv``; of an eye whose points are unknown they are empty."""
    if where is None:
        return {NAMED: "", **dict.fromkeys((*SHARES, *MEANS), np.nan)}
    numbers = np.concatenate([where.shares, where.means]).tolist()
    return {NAMED: ";".join(where.regions), **dict(zip((*SHARES, *MEANS), numbers, strict=True))}


def statistics_of_all_regions(rows: pd.DataFrame) -> dict[str, Statistic]:
    """Return the metrics of one finding over all regions, from its rows (one per image).

    Sensitivity and specificity are taken over all pairs of an image and a region. An AUROC is the mean over the
    regions, each weighted by the number of images in which it is marked: the probability that an image with a mark in
    a region ranks above one without a mark in the same region.
    """
    label, named, score = _questions(rows)
    within = np.where(column(rows, "label")[:, None] == 1, label, np.nan)
    return {
        "region_auroc": _mean_auroc(label, score, "regions marked in some of the images"),
        "region_auroc_present": _mean_auroc(within, score, "regions marked in some of the present images"),
        "region_sensitivity": _share(named, label == 1, "marked regions"),
        "region_specificity": _share(1 - named, label == 0, "regions without a mark"),
    }


def region_metrics(rows: pd.DataFrame, *, n: int = 2000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return the metrics of one finding in each region.

    Args:
        rows: Its rows, one per image.
        n: Number of resamples.
        seed: Of the resampling.

    Returns:
        Region → ``n_marked`` and ``n_unmarked`` images, and as in ``metrics.json`` ``auroc``, ``sensitivity`` and
        ``specificity`` over all of these, and ``auroc_present`` over those with the finding. Empty where no image has
        known regions.
    """
    label, named, score = _questions(rows)
    if np.isnan(label).all():
        return {}
    who, present = patient_clusters(rows), column(rows, "label") == 1
    found: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(NAMES):
        truth, yes, rank = label[:, place], named[:, place], score[:, place]
        marked, unmarked = truth == 1, truth == 0
        with_, without = f"images with a mark in {name}", f"images without a mark in {name}"
        others = f"present images without a mark in {name}"
        auroc, auroc_present = (intervals.auroc(each, rank) for each in (truth, np.where(present, truth, np.nan)))
        statistics = {
            "auroc": replace(auroc, requires={with_: marked, without: unmarked}),
            "auroc_present": replace(auroc_present, requires={with_: marked, others: unmarked & present}),
            "sensitivity": intervals.mean(yes, marked, with_),
            "specificity": intervals.mean(1 - yes, unmarked, without),
        }
        found[name] = {
            "n_marked": int(marked.sum()),
            "n_unmarked": int(unmarked.sum()),
            **{key: intervals.bootstrap(one, who, n=n, seed=seed).as_metric() for key, one in statistics.items()},
        }
    return found


def _mean_auroc(label: Floats, score: Floats, name: str) -> Statistic:
    """The mean AUROC over the columns of ``(N, 8)``, weighted by their marks; those of one class are left out."""
    both = [place for place in range(label.shape[1]) if {0.0, 1.0} <= set(label[:, place])]
    columns = [(intervals.auroc(label[:, place], score[:, place]), label[:, place] == 1) for place in both]

    def compute(weights: Floats) -> Floats:
        total, marks = np.zeros(len(weights)), np.zeros(len(weights))
        for auroc, marked in columns:
            area, weight = auroc.compute(weights), weights @ marked
            defined = np.isfinite(area)
            total += np.where(defined, area * weight, 0.0)
            marks += np.where(defined, weight, 0.0)
        return intervals.ratio(total, marks)

    return Statistic(compute, {name: _any(label[:, both] == 1)})


def _share(answer: Floats, among: NDArray[np.bool_], name: str) -> Statistic:
    """The share of yes among the questions ``(N, 8)`` that ``among`` picks; an image weighs as often as it is drawn."""
    yes = np.stack([np.where(among, answer, 0.0).sum(axis=1), among.sum(axis=1)], axis=1)

    def compute(weights: Floats) -> Floats:
        sums = weights @ yes
        return intervals.ratio(sums[:, 0], sums[:, 1])

    return Statistic(compute, {name: _any(among)}, share=True)


def _any(questions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether an image has one of the questions ``(N, 8)``."""
    return np.asarray(questions.any(axis=1), dtype=np.bool_)


def _questions(rows: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Label, answer and score ``(N, 8)``; NaN where it is unknown which regions are marked, or where the eye is."""
    score = np.stack([column(rows, name) for name in MEANS], axis=1)
    label = column(rows, "label")
    marked = _listed(rows, MARKED)
    unknown = np.isnan(label) | ((label == 1) & ~marked.any(axis=1)) | np.isnan(score).any(axis=1)
    named = _listed(rows, NAMED)
    truth, answer, ranked = (
        np.where(unknown[:, None], np.nan, values) for values in (marked & (label == 1)[:, None], named, score)
    )
    return truth, answer, ranked


def _listed(rows: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    """Which regions a column lists, ``(N, 8)``."""
    if name not in rows:
        return np.zeros((len(rows), len(NAMES)), dtype=np.bool_)
    cells = [set(str(cell).split(";")) for cell in rows[name].fillna("")]
    return np.array([[region in cell for region in NAMES] for cell in cells], dtype=np.bool_).reshape(-1, len(NAMES))
