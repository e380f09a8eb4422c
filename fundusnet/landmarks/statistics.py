"""How far the points are from where they should be, from a table of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fundusnet.evaluation import intervals
from fundusnet.evaluation.intervals import Statistic
from fundusnet.evaluation.predictions import column, count_images, patient_clusters, read_predictions
from fundusnet.evaluation.runs import System, metric_key
from fundusnet.system.progress import track

TITLES = {
    "median_error": "Median error, disc radii",
    "mean_error": "Mean error, disc radii",
    "mean_error_diameters": "Mean error, disc diameters",
    "mean_error_distance": "Mean error, share of disc-fovea distance",
    "mean_error_pixels": "Mean error, original pixels",
    "within_half_radius": "Within half a radius",
    "within_radius": "Within a radius",
    "located": "Located",
    "region_agreement": "Pixels in the same region, median",
}
METRIC_NAMES = tuple(TITLES)
COLUMNS = ("image_id", "patient_id", "landmark", "error", "error_pixels", "confidence", "located")
#: a disc radius, as a share of the distance between disc and fovea
RADIUS = 1 / 5


def landmark_metrics(predictions: pd.DataFrame, *, split: str = "test", n: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        predictions: One row per image and landmark. ``error`` is the distance to the given point in disc radii, a fifth
            of the distance between disc and fovea; ``error_pixels`` in pixels of the original photograph; NaN where
            unknown. ``located`` is 1 where the confidence is high enough for the point to be used.
            ``region_agreement`` is the share of the photograph that has the same region by given and by found points.
        split: What the images are.
        n: Number of resamples.
        seed: Of the resampling.
    """
    tables = by_landmark(predictions)
    statistics = [
        (metric_key(name, metric, list(tables)), statistic, patient_clusters(rows))
        for name, rows in tables.items()
        for metric, statistic in landmark_statistics(rows).items()
    ]
    return {
        "task": "landmarks",
        "split": split,
        **count_images(predictions),
        "landmarks": list(tables),
        "metrics": {
            key: intervals.bootstrap(statistic, patients, n=n, seed=seed).as_metric()
            for key, statistic, patients in track(statistics, "bootstrap")
        },
    }


def landmark_statistics(rows: pd.DataFrame) -> dict[str, Statistic]:
    """Return every metric of one landmark by name, from its rows (one per image).

    Points count wherever they are found, sure or not; ``located`` is the share that would be used.
    """
    error, pixels = column(rows, "error"), column(rows, "error_pixels")
    known = np.isfinite(error)
    given, original = "images with both points", "images whose original size is known"
    return {
        "median_error": intervals.median(error, known, given),
        "mean_error": intervals.mean(error, known, given),
        "mean_error_diameters": intervals.mean(error / 2, known, given),
        "mean_error_distance": intervals.mean(error * RADIUS, known, given),
        "mean_error_pixels": intervals.mean(pixels, np.isfinite(pixels), original),
        "within_half_radius": intervals.mean((error <= 0.5).astype(float), known, given),
        "within_radius": intervals.mean((error <= 1).astype(float), known, given),
        "located": intervals.mean(column(rows, "located"), known, given),
        "region_agreement": intervals.median(column(rows, "region_agreement"), known, given),
    }


def by_landmark(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each landmark, in their order."""
    return {str(name): rows for name, rows in predictions.groupby("landmark", sort=False)}


def read_landmarks(path: Path) -> dict[str, pd.DataFrame]:
    """Read ``predictions.csv``: the rows of each landmark."""
    return by_landmark(read_predictions(path, COLUMNS, ("image_id", "patient_id", "landmark")))


def _no_questions(rows: pd.DataFrame, chosen: Mapping[str, Any]) -> list[Any]:
    """Where a point is, is not a yes-or-no question."""
    return []


LANDMARK_SYSTEM = System(
    read=read_landmarks,
    statistics=lambda rows, results: landmark_statistics(rows),
    subgroup_statistics=lambda rows, results: landmark_statistics(rows),
    binary_tasks=_no_questions,
    results=lambda rows, results, split, n: landmark_metrics(rows, split=split, n=n),
    title=lambda name: TITLES[name],
    truth="error",
    class_names=lambda results: [],
)
