"""From a table of predictions to the numbers of Table 1 (S1.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fundusnet.errors import UserError
from fundusnet.evaluation import intervals
from fundusnet.evaluation.intervals import Statistic
from fundusnet.evaluation.operating_points import OperatingPoint, operating_point
from fundusnet.system.progress import track

METRIC_NAMES = (
    "auroc", "sensitivity", "specificity",
    "air_tp", "air_fn", "cue_fraction", "lift_tp",
    "pointing_game", "lesion_energy",
)  # fmt: skip
COLUMNS = ("image_id", "patient_id", "finding", "label", "probability", "predicted", "air", "cue_fraction")


def findings_metrics(
    predictions: pd.DataFrame, *, split: str = "test", n: int = 2000, seed: int = 0
) -> dict[str, object]:
    """Return the contents of ``metrics.json`` for a table with a row per image and finding.

    ``label`` is 1 present, 0 absent, NaN undecided; ``predicted`` is 0 or 1 at the operating point; ``air``,
    ``cue_fraction``, ``pointing_hit`` and ``lesion_energy`` are NaN where unknown. Every metric is
    ``{"value", "ci95": [low, high]}`` with a ``reason`` where undefined, ``unreliable`` where a class has
    fewer than ten patients, and ``redrawn`` resamples. With several findings its key is ``<finding>/<name>``.
    """
    findings = list(dict.fromkeys(predictions["finding"]))
    statistics: list[tuple[str, Statistic, np.ndarray]] = []
    counts: dict[str, dict[str, int]] = {}
    for finding in findings:
        rows = predictions[predictions["finding"] == finding]
        prefix = f"{finding}/" if len(findings) > 1 else ""
        counts[finding] = count_images(rows)
        patients = patient_clusters(rows)
        statistics += [(prefix + name, each, patients) for name, each in finding_statistics(rows).items()]
    metrics = {
        name: intervals.bootstrap(statistic, patients, n=n, seed=seed).as_metric()
        for name, statistic, patients in track(statistics, "bootstrap")
    }
    return {
        "task": "findings",
        "split": split,
        **counted(predictions),
        "findings": findings,
        "counts": counts,
        "metrics": metrics,
    }


def finding_statistics(rows: pd.DataFrame) -> dict[str, Statistic]:
    """Return every metric of one finding by name, from its rows (one an image).

    AIR is averaged over images, apart for true positives and false negatives. Our reading: ``cue_fraction``
    is the mean over all present images with a cue; ``lift_tp`` is the mean AIR of the true positives over the
    mean cue fraction of the same images, since a mean of ratios would hang on the few images with the
    smallest cues. Localisation in lesions is scored on present images, detected or not.
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
        "air_tp": air_tp,
        "air_fn": intervals.mean(air, missed, "false negatives with a cue"),
        "cue_fraction": intervals.mean(fraction, present, "present images with a cue"),
        "lift_tp": lift,
        "pointing_game": intervals.mean(column(rows, "pointing_hit"), present, "present images with lesion pixels"),
        "lesion_energy": intervals.mean(column(rows, "lesion_energy"), present, "present images with lesion pixels"),
    }


def count_images(rows: pd.DataFrame) -> dict[str, int]:
    """Return how many images of one finding are present, absent, undecided, and present without a cue."""
    label = column(rows, "label")
    without = (label == 1) & np.isnan(column(rows, "cue_fraction"))
    return {
        "n_present": int((label == 1).sum()),
        "n_absent": int((label == 0).sum()),
        "n_undecided": int(np.isnan(label).sum()),
        "n_without_cue": int(without.sum()),
    }


def operating_points(predictions: pd.DataFrame) -> dict[str, OperatingPoint]:
    """Return the operating point of every finding on (validation) predictions; errors name it."""
    points = {}
    for finding, rows in predictions.groupby("finding", sort=False):
        try:
            points[str(finding)] = operating_point(column(rows, "label"), column(rows, "probability"))
        except UserError as error:
            raise UserError(f"{finding}: {error}") from error
    return points


def with_predicted(predictions: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Return a copy whose ``predicted`` is 1 where the probability reaches the finding's threshold."""
    threshold = predictions["finding"].map(dict(thresholds))
    return predictions.assign(predicted=(predictions["probability"] >= threshold).astype(int))


def read_predictions(path: Path, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Read ``predictions.csv``; ids stay text (``007`` is not 7), empty numbers become NaN."""
    if not path.is_file():
        raise UserError(f"{path} is missing: evaluate the run first (fundusnet evaluate)")
    ids = {"image_id", "patient_id", "finding"}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    absent = [name for name in columns if name not in table]
    if absent:
        raise UserError(f"{path} lacks the column(s) {', '.join(absent)}: evaluate the run again")
    numbers = [str(name) for name in table if name not in ids]
    flags = {"True": "1", "False": "0", "": "nan"}
    try:
        return table.assign(**{name: table[name].replace(flags).astype(np.float64) for name in numbers})
    except ValueError as error:
        raise UserError(f"{path} holds a cell that is no number ({error}): evaluate the run again") from error


def patient_clusters(rows: pd.DataFrame) -> np.ndarray:
    """Return per row what the bootstrap draws: the patient, or the image where the patient is unknown."""
    patient = rows["patient_id"].fillna("").astype(str)
    return np.asarray(("patient:" + patient).where(patient != "", "image:" + rows["image_id"].astype(str)), dtype=str)


def counted(rows: pd.DataFrame) -> dict[str, int]:
    """Return ``n_images``, ``n_patients``, and ``n_without_patient``: images of unknown patients, each one of these."""
    images = rows.drop_duplicates("image_id")
    clusters = patient_clusters(images)
    unknown = int(np.char.startswith(clusters, "image:").sum())
    return {"n_images": len(images), "n_patients": len(np.unique(clusters)), "n_without_patient": unknown}


def column(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Return a numeric column as floats; all NaN where the table does not have it."""
    if name not in rows:
        return np.full(len(rows), np.nan)
    return rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
