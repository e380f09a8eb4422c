"""Yes-or-no tasks: calibration, and decisions at thresholds chosen on validation.

A binary task asks one thing of an image: is this finding present, or is the grade above k? Its temperature and
thresholds are chosen on validation and stored in the checkpoint. ``metrics.json`` gets the metrics, ``curves.json`` the
curves. ``probability`` in ``predictions.csv`` stays as the network gave it, because thresholds and operating points
refer to it; calibrated probabilities have a column of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fundusnet.evaluation import calibration, decision, intervals
from fundusnet.evaluation.calibration import at_temperature, fit_temperature
from fundusnet.evaluation.decision import SPECIFICITIES, threshold_at_specificity
from fundusnet.evaluation.intervals import Floats, Interval, Statistic

CURVES = "curves.json"
NO_CHOICE = "the checkpoint holds nothing chosen on validation: it was written by an earlier version"


@dataclass(frozen=True)
class BinaryTask:
    """One yes-or-no task and its predictions on N images.

    Attributes:
        target: What it belongs to, as in ``fundusnet.evaluation.runs.System``.
        name: Its name in files: that of the target where it is the target's only task.
        label: ``(N,)``: 1, 0, or NaN where undecided.
        probability: ``(N,)``, as the network gave it.
        patients: ``(N,)``, what the bootstrap draws.
        chosen: What ``fit_on_validation`` returned for it; empty where nothing was chosen.
    """

    target: str
    name: str
    label: Floats
    probability: Floats
    patients: np.ndarray
    chosen: Mapping[str, Any]

    @property
    def calibrated(self) -> Floats:
        """The probabilities at the chosen temperature; all NaN without one."""
        return at_temperature(self.probability, self.chosen.get("temperature"))

    def metric_name(self, name: str) -> str:
        """Return the name of one of its metrics among those of its target."""
        return name if self.name == self.target else f"{name}_{self.name}"


def fit_on_validation(tasks: Iterable[BinaryTask]) -> dict[str, dict[str, Any]]:
    """Choose temperature and thresholds of each task on its validation images.

    Returns:
        Plain values by task, to be stored beside the weights: ``temperature`` (None, and then ``reason``), and for each
        name in ``SPECIFICITIES`` a threshold (None without an absent image).
    """
    found = {}
    for task in tasks:
        fitted = fit_temperature(task.label, task.probability)
        thresholds = {
            name: threshold_at_specificity(task.label, task.probability, specificity)
            for name, specificity in SPECIFICITIES.items()
        }
        reason = {"reason": fitted.reason} if fitted.reason else {}
        found[task.name] = {"temperature": fitted.value, **reason, **thresholds}
    return found


def task_statistics(task: BinaryTask) -> dict[str, Statistic | str]:
    """Return the metrics of a task by name; in place of an undefined one the reason."""
    label, p = task.label, task.probability
    errors = {
        "brier": calibration.brier,
        "ece": calibration.expected_error,
        "calibration_error": calibration.squared_error,
    }
    found: dict[str, Statistic | str] = {name: error(label, p) for name, error in errors.items()}
    found["mean_gap"] = calibration.mean_gap(label, p)
    known = task.chosen.get("temperature") is not None
    for name, error in errors.items():
        found[f"{name}_calibrated"] = error(label, task.calibrated) if known else task.chosen.get("reason", NO_CHOICE)
    for name, specificity in SPECIFICITIES.items():
        threshold = task.chosen.get(name)
        why = "validation has no absent image" if task.chosen else NO_CHOICE
        for kind, at in (("sensitivity", decision.sensitivity_at), ("specificity", decision.specificity_at)):
            found[f"{kind}_{name}"] = why if threshold is None else at(label, p, threshold)
        found[f"roc_sensitivity_{name}"] = decision.roc_sensitivity(label, p, specificity)
    found["pauroc_sp90"] = decision.partial_auroc(label, p)
    return found


def task_metrics(task: BinaryTask, *, n: int = 2000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return the entries of ``metrics.json`` of a task by name."""
    return {name: _interval(one, task, n, seed).as_metric() for name, one in task_statistics(task).items()}


def task_curves(task: BinaryTask, *, n: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return the entry of ``curves.json`` of a task: reliability before and after calibration, and the decision curve.

    A decision curve needs calibrated probabilities; without a temperature it is that of the raw ones.
    """
    label, who = task.label, task.patients
    known = task.chosen.get("temperature") is not None
    reliability = {"raw": calibration.reliability_curve(label, task.probability, who, n=n, seed=seed)}
    if known:
        reliability["calibrated"] = calibration.reliability_curve(label, task.calibrated, who, n=n, seed=seed)
    p = task.calibrated if known else task.probability
    return {
        "reliability": reliability,
        "decision": decision.decision_curve(label, p, who, n=n, seed=seed),
        "decision_of": "calibrated" if known else "raw",
    }


def pooled_metrics(tasks: Sequence[BinaryTask], *, n: int) -> dict[str, dict[str, Any]]:
    """Return the entries as in ``metrics.json`` of the mean over the runs of one task."""
    each = [task_statistics(task) for task in tasks]
    found = {}
    for name in each[0]:
        statistics = [one[name] for one in each]
        reason = next((one for one in statistics if isinstance(one, str)), None)
        if reason is None:
            known = [one for one in statistics if isinstance(one, Statistic)]
            found[name] = intervals.pooled(known, [task.patients for task in tasks], n=n).as_metric()
        else:
            found[name] = Interval(None, None, None, reason=reason).as_metric()
    return found


def _interval(statistic: Statistic | str, task: BinaryTask, n: int, seed: int) -> Interval:
    if isinstance(statistic, str):
        return Interval(None, None, None, reason=statistic)
    return intervals.bootstrap(statistic, task.patients, n=n, seed=seed)
