"""Calibration and use: what is asked of every yes-or-no answer beside Table 1, for both methods.

A question is a finding ("is it there?") or a threshold between grades ("is the grade above k?"). What is chosen for it
(temperature, thresholds) is chosen on validation and stored in the checkpoint. ``metrics.json`` gets the numbers,
``curves.json`` the curves. Probabilities in ``predictions.csv`` stay as the network gave them, since thresholds and
operating points are theirs; the calibrated ones stand in a column of their own, so that no reader has to know how they
are made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fundusnet.evaluation import calibration, decision, intervals
from fundusnet.evaluation.calibration import at_temperature, fit_temperature
from fundusnet.evaluation.decision import SPECIFICITIES, threshold_at_specificity
from fundusnet.evaluation.intervals import Floats, Interval, Statistic
from fundusnet.findings.statistics import column, patient_clusters
from fundusnet.system.progress import track

CURVES = "curves.json"
NO_CHOICE = "the checkpoint holds nothing chosen on validation: it was written by an earlier version"


@dataclass(frozen=True)
class BinaryTask:
    """One question and its answers.

    ``name`` is what files call it, a finding or ``gt_<k>``; ``label`` ``(N,)`` is 1, 0, or NaN where undecided;
    ``patients`` ``(N,)`` are what the bootstrap draws; ``chosen`` is what ``choose`` returned on validation, empty
    where nothing was.
    """

    name: str
    label: Floats
    probability: Floats
    patients: np.ndarray
    chosen: Mapping[str, Any]

    @property
    def calibrated(self) -> Floats:
        """The probabilities at the temperature chosen; all NaN where there is none."""
        return at_temperature(self.probability, self.chosen.get("temperature"))


def finding_tasks(predictions: pd.DataFrame, chosen: Mapping[str, Any] | None = None) -> list[BinaryTask]:
    """A question for each finding of a table of predictions."""
    return [
        BinaryTask(
            str(finding),
            column(rows, "label"),
            column(rows, "probability"),
            patient_clusters(rows),
            (chosen or {}).get(str(finding)) or {},
        )
        for finding, rows in predictions.groupby("finding", sort=False)
    ]


def grading_tasks(predictions: pd.DataFrame, chosen: Mapping[str, Any] | None = None) -> list[BinaryTask]:
    """A question for each threshold between grades of a table of predictions: ``gt_0`` … ``gt_{K-2}``."""
    names = [str(name).removeprefix("p_") for name in predictions if str(name).startswith("p_gt_")]
    grade = column(predictions, "grade")
    return [
        BinaryTask(
            name,
            np.where(np.isnan(grade), np.nan, grade > k).astype(np.float64),
            column(predictions, f"p_{name}"),
            patient_clusters(predictions),
            (chosen or {}).get(name) or {},
        )
        for k, name in enumerate(names)
    ]


def fit_on_validation(questions: Sequence[BinaryTask]) -> dict[str, dict[str, Any]]:
    """What validation has to say on each question: plain values, to be stored beside the weights.

    ``temperature`` (None, and then ``reason``), and for each name in ``SPECIFICITIES`` a threshold (None without an
    absent image).
    """
    found = {}
    for question in questions:
        fitted = fit_temperature(question.label, question.probability)
        thresholds = {
            name: threshold_at_specificity(question.label, question.probability, specificity)
            for name, specificity in SPECIFICITIES.items()
        }
        reason = {"reason": fitted.reason} if fitted.reason else {}
        found[question.name] = {"temperature": fitted.value, **reason, **thresholds}
    return found


def use_statistics(question: BinaryTask) -> dict[str, Statistic | str]:
    """Every number of this section by name; the reason in its place where it cannot be had."""
    label, p = question.label, question.probability
    found: dict[str, Statistic | str] = {
        "brier": calibration.brier(label, p),
        "ece": calibration.expected_error(label, p),
        "calibration_error": calibration.squared_error(label, p),
        "mean_gap": calibration.mean_gap(label, p),
    }
    after = question.calibrated
    for name, of in (
        ("brier", calibration.brier),
        ("ece", calibration.expected_error),
        ("calibration_error", calibration.squared_error),
    ):
        known = question.chosen.get("temperature") is not None
        found[f"{name}_calibrated"] = of(label, after) if known else question.chosen.get("reason", NO_CHOICE)
    for name, specificity in SPECIFICITIES.items():
        threshold = question.chosen.get(name)
        why = "validation has no absent image" if question.chosen else NO_CHOICE
        for kind, at in (("sensitivity", decision.sensitivity_at), ("specificity", decision.specificity_at)):
            found[f"{kind}_{name}"] = why if threshold is None else at(label, p, threshold)
        found[f"roc_sensitivity_{name}"] = decision.roc_sensitivity(label, p, specificity)
    found["pauroc_sp90"] = decision.partial_auroc(label, p)
    return found


def use_metrics(questions: Sequence[BinaryTask], *, n: int = 2000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Entries as in ``metrics.json`` by question and name."""
    entries: dict[str, dict[str, Any]] = {}
    for question in track(questions, "calibration", total=len(questions)):
        entries[question.name] = {
            name: _interval(statistic, question, n, seed).as_metric()
            for name, statistic in use_statistics(question).items()
        }
    return entries


def use_curves(questions: Sequence[BinaryTask], *, n: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The content of ``curves.json``: reliability before and after calibration, and the decision curve of the latter.

    A decision curve needs probabilities that are meant as such: where nothing calibrates them, it is of the raw ones.
    """
    curves = {}
    for question in questions:
        label, who = question.label, question.patients
        known = question.chosen.get("temperature") is not None
        reliability = {"raw": calibration.reliability_curve(label, question.probability, who, n=n, seed=seed)}
        if known:
            after = calibration.reliability_curve(label, question.calibrated, who, n=n, seed=seed)
            reliability["calibrated"] = after
        p = question.calibrated if known else question.probability
        curves[question.name] = {
            "reliability": reliability,
            "decision": decision.decision_curve(label, p, who, n=n, seed=seed),
            "decision_of": "calibrated" if known else "raw",
        }
    return curves


def write_curves(folder: Path, questions: Sequence[BinaryTask], *, n: int) -> None:
    """Write ``curves.json`` into a folder of results."""
    (folder / CURVES).write_text(json.dumps(use_curves(questions, n=n), separators=(",", ":")) + "\n")


def _interval(statistic: Statistic | str, question: BinaryTask, n: int, seed: int) -> Interval:
    if isinstance(statistic, str):
        return Interval(None, None, None, reason=statistic)
    return intervals.bootstrap(statistic, question.patients, n=n, seed=seed)
