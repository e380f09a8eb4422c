"""The metrics of Table 1, from a table of predictions (S1.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fundusnet.errors import UserError
from fundusnet.evaluation import intervals
from fundusnet.evaluation.binary_tasks import BinaryTask
from fundusnet.evaluation.intervals import Statistic
from fundusnet.evaluation.operating_points import OperatingPoint, operating_point
from fundusnet.evaluation.predictions import column, count_images, patient_clusters, read_predictions
from fundusnet.evaluation.runs import System, metric_key
from fundusnet.findings.region_statistics import MARKED, NAMED, region_metrics, statistics_of_all_regions
from fundusnet.system.progress import track

TITLES = {
    "auroc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "air_tp": "AIR, true positives",
    "air_fn": "AIR, false negatives",
    "cue_fraction": "Cue fraction",
    "lift_tp": "Lift, true positives",
    "pointing_game": "Pointing game",
    "lesion_energy": "Lesion energy",
    "region_auroc": "AUROC by region",
    "region_auroc_present": "AUROC by region, among present",
    "region_sensitivity": "Sensitivity by region",
    "region_specificity": "Specificity by region",
}
METRIC_NAMES = tuple(TITLES)
WITHOUT = "without guidance"
COLUMNS = ("image_id", "patient_id", "finding", "label", "probability", "predicted", "air", "cue_fraction")


def findings_metrics(predictions: pd.DataFrame, *, split: str = "test", n: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        predictions: One row per image and finding. ``label`` is 1 present, 0 absent, NaN undecided; ``predicted`` is 0
            or 1 at the operating point; ``air``, ``cue_fraction``, ``pointing_hit`` and ``lesion_energy`` are NaN where
            unknown.
        split: What the images are.
        n: Number of resamples.
        seed: Of the resampling.

    Returns:
        Counts and ``metrics``. A metric is ``{"value", "ci95": [low, high]}`` with a ``reason`` where undefined,
        ``unreliable`` where a class has fewer than ten patients, and the number of ``redrawn`` resamples. With several
        findings its key is ``<finding>/<name>``.
    """
    tables = by_finding(predictions)
    statistics = [
        (metric_key(finding, name, list(tables)), statistic, patient_clusters(rows))
        for finding, rows in tables.items()
        for name, statistic in finding_statistics(rows).items()
    ]
    return {
        "task": "findings",
        "split": split,
        **count_images(predictions),
        "findings": list(tables),
        "counts": {finding: count_labels(rows) for finding, rows in tables.items()},
        "metrics": {
            key: intervals.bootstrap(statistic, patients, n=n, seed=seed).as_metric()
            for key, statistic, patients in track(statistics, "bootstrap")
        },
        "regions": {
            finding: region_metrics(rows, n=n, seed=seed)
            for finding, rows in track(tables.items(), "by region", total=len(tables))
        },
    }


def finding_statistics(rows: pd.DataFrame) -> dict[str, Statistic]:
    """Return every metric of one finding by name, from its rows (one per image).

    AIR is averaged over images, separately for true positives and false negatives. Our reading: ``cue_fraction`` is the
    mean over all present images with a cue; ``lift_tp`` is the mean AIR of the true positives over the mean cue
    fraction of the same images, since a mean of ratios would depend on the few images with the smallest cues.
    Localisation in lesions is scored on present images, detected or not.
    """
    label = column(rows, "label")
    predicted = column(rows, "predicted")
    air, fraction = column(rows, "air"), column(rows, "cue_fraction")
    present, absent = label == 1, label == 0
    detected, missed = present & (predicted == 1), present & (predicted == 0)
    air_tp = intervals.mean(air, detected, "true positives with a cue")
    compared = detected & np.isfinite(air)
    fraction_tp = intervals.mean(fraction, compared, "true positives with a cue")
    lift = Statistic(
        lambda weights: intervals.ratio(air_tp.compute(weights), fraction_tp.compute(weights)), air_tp.requires
    )
    return {
        "auroc": intervals.auroc(label, column(rows, "probability")),
        "sensitivity": intervals.mean(predicted, present, "present images"),
        "specificity": intervals.mean(1 - predicted, absent, "absent images"),
        **intervals.predictive_values(label, predicted),
        "air_tp": air_tp,
        "air_fn": intervals.mean(air, missed, "false negatives with a cue"),
        "cue_fraction": intervals.mean(fraction, present, "present images with a cue"),
        "lift_tp": lift,
        "pointing_game": intervals.mean(column(rows, "pointing_hit"), present, "present images with lesion pixels"),
        "lesion_energy": intervals.mean(column(rows, "lesion_energy"), present, "present images with lesion pixels"),
        **statistics_of_all_regions(rows),
    }


def subgroup_statistics(rows: pd.DataFrame) -> dict[str, Statistic]:
    """Return the metrics that subgroups have."""
    every = finding_statistics(rows)
    return {name: every[name] for name in ("auroc", "sensitivity", "specificity")}


def count_labels(rows: pd.DataFrame) -> dict[str, int]:
    """Count the images in which one finding is present, absent, undecided, and present without a cue."""
    label = column(rows, "label")
    without = (label == 1) & np.isnan(column(rows, "cue_fraction"))
    return {
        "n_present": int((label == 1).sum()),
        "n_absent": int((label == 0).sum()),
        "n_undecided": int(np.isnan(label).sum()),
        "n_without_cue": int(without.sum()),
    }


def operating_points(predictions: pd.DataFrame) -> dict[str, OperatingPoint]:
    """Return the operating point of every finding on (validation) predictions; errors name the finding."""
    points = {}
    for finding, rows in by_finding(predictions).items():
        try:
            points[finding] = operating_point(column(rows, "label"), column(rows, "probability"))
        except UserError as error:
            raise UserError(f"{finding}: {error}") from error
    return points


def with_predicted(predictions: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Return a copy whose ``predicted`` is 1 where the probability reaches the finding's threshold.

    ``regions`` are emptied where it does not: what is not there is nowhere.
    """
    threshold = predictions["finding"].map(dict(thresholds))
    predicted = predictions["probability"] >= threshold
    named = {NAMED: predictions[NAMED].where(predicted, "")} if NAMED in predictions else {}
    return predictions.assign(predicted=predicted.astype(int), **named)


def finding_tasks(predictions: pd.DataFrame, chosen: Mapping[str, Any] | None = None) -> list[BinaryTask]:
    """Return the yes-or-no task of each finding; ``chosen`` is what ``fit_on_validation`` returned."""
    return [
        BinaryTask(
            target=finding,
            name=finding,
            label=column(rows, "label"),
            probability=column(rows, "probability"),
            patients=patient_clusters(rows),
            chosen=(chosen or {}).get(finding) or {},
        )
        for finding, rows in by_finding(predictions).items()
    ]


def by_finding(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each finding, in their order."""
    return {str(finding): rows for finding, rows in predictions.groupby("finding", sort=False)}


def read_findings(path: Path) -> dict[str, pd.DataFrame]:
    """Read ``predictions.csv``: the rows of each finding."""
    return by_finding(read_predictions(path, COLUMNS, ("image_id", "patient_id", "finding", NAMED, MARKED)))


def method_name(name: str, targets: Sequence[str]) -> str:
    """Return what a run of this name is called beside others: without its findings, λ in words.

    Examples:
        >>> method_name("drusen λ=0", ["drusen"]), method_name("drusen λ=0.3", ["drusen"])
        ('without guidance', 'with guidance, λ=0.3')
    """
    for findings in ("+".join(targets), f"{len(targets)} findings"):
        name = name.removeprefix(findings).strip() or name
    name = re.sub(r"λ=0(?![.\d])", WITHOUT, name)
    return re.sub(r"λ=(\S+)", r"with guidance, λ=\1", name)


FINDINGS = System(
    read=read_findings,
    statistics=lambda rows, results: finding_statistics(rows),
    subgroup_statistics=lambda rows, results: subgroup_statistics(rows),
    binary_tasks=finding_tasks,
    results=lambda rows, results, split, n: findings_metrics(rows, split=split, n=n),
    title=lambda name: TITLES[name],
    truth="label",
    class_names=lambda results: ["absent", "present"],
    method=method_name,
    is_baseline=lambda name: name.startswith(WITHOUT),
    own_keys=("finding",),
    target_keys=("model.network.dilations", "model.network.pool"),  # set by the finding
)
