"""The part of a report page on calibration and use: two figures and a table for each question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fundusnet.evaluation import intervals, page, tables
from fundusnet.evaluation.calibration import reliability_figure
from fundusnet.evaluation.comparison import Run
from fundusnet.evaluation.decision import decision_figure
from fundusnet.evaluation.figures import COLORS
from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.intervals import Statistic
from fundusnet.evaluation.use import CURVES, BinaryTask, finding_tasks, grading_tasks, use_statistics

POOLED = 500  # resamples over seeds, made anew for each page
TITLES = {
    "calibration_error": "Calibration error, root mean square",
    "calibration_error_calibrated": "The same, calibrated",
    "ece": "Expected calibration error (ECE)",
    "ece_calibrated": "The same, calibrated",
    "brier": "Brier score",
    "brier_calibrated": "The same, calibrated",
    "mean_gap": "Mean probability minus share present",
    "sensitivity_sp85": "Sensitivity at the threshold for 85 % specificity",
    "specificity_sp85": "Specificity there",
    "sensitivity_sp95": "Sensitivity at the threshold for 95 % specificity",
    "specificity_sp95": "Specificity there",
    "roc_sensitivity_sp85": "Read off the ROC curve at 85 % specificity",
    "roc_sensitivity_sp95": "Read off the ROC curve at 95 % specificity",
    "pauroc_sp90": "Partial AUROC, specificity 90 to 100 %",
}


def use_section(groups: Sequence[Group], finding: str, name: str) -> dict[str, Any] | None:
    """What the template shows of one question; None where no run was asked it, or the runs are older than this section.

    ``finding`` is what the groups call their rows, ``name`` the question. Of several seeds the first is drawn, and the
    numbers are the means over them; of many groups those are drawn that there are colours for.
    """
    shown = [group for group in groups if (runs := group.runs_of(finding)) and all(_curves(run, name) for run in runs)]
    if not shown:
        return None
    first = {group.label: group.runs_of(finding)[0] for group in shown}
    curves = {label: _curves(run, name) for label, run in list(first.items())[: len(COLORS)]}
    if len(curves) == 1:
        (only,) = curves.values()
        reliability = only["reliability"]
    else:
        reliability = {label: _last(curve["reliability"]) for label, curve in curves.items()}
    used = {curve["decision_of"] for curve in curves.values()}
    each = [_entries(group, finding, name) for group in shown]
    return {
        "title": name.replace("_", " "),
        "labels": [group.label for group in shown],
        "reliability": page.picture(reliability_figure(reliability)),
        "decision": page.picture(decision_figure({label: curve["decision"] for label, curve in curves.items()})),
        "decision_of": "calibrated " if used == {"calibrated"} else "",
        "table": [
            {"title": title, "cells": [tables.cell(entries.get(metric) or tables.NOT_MEASURED) for entries in each]}
            for metric, title in TITLES.items()
        ],
        "temperatures": " ".join(_temperature(label, run, name, len(first) > 1) for label, run in first.items()),
    }


def binary_task_of(run: Run, finding: str, name: str) -> BinaryTask:
    """The question ``name`` with the answers of a finished run."""
    make = finding_tasks if run.results["task"] == "findings" else grading_tasks
    return next(one for one in make(run.rows(finding), run.results.get("validation")) if one.name == name)


def _entries(group: Group, finding: str, name: str) -> dict[str, dict[str, Any]]:
    """The run's own entries of ``metrics.json``, or the means over seeds."""
    runs = group.runs_of(finding)
    if len(runs) == 1:
        metrics, several = runs[0].results["metrics"], len(runs[0].findings) > 1
        key = "{}_" + name if name.startswith("gt_") else (name + "/{}" if several else "{}")
        return {metric: metrics[key.format(metric)] for metric in TITLES if key.format(metric) in metrics}
    questions = [binary_task_of(run, finding, name) for run in runs]
    found = {}
    for metric in TITLES:
        each = [use_statistics(question)[metric] for question in questions]
        statistics = [one for one in each if isinstance(one, Statistic)]
        if len(statistics) == len(each):
            patients = [question.patients for question in questions]
            found[metric] = intervals.pooled(statistics, patients, n=POOLED).as_metric()
        else:
            reason = next(one for one in each if isinstance(one, str))
            found[metric] = {"value": None, "ci95": [None, None], "reason": reason}
    return found


def _curves(run: Run | None, name: str) -> dict[str, Any]:
    """The curves of a question in ``curves.json``; empty where the run kept none."""
    if run is None or not (run.folder / CURVES).is_file():
        return {}
    found: dict[str, Any] = json.loads((run.folder / CURVES).read_text(encoding="utf-8")).get(name, {})
    return found


def _last(reliability: dict[str, Any]) -> Any:
    return reliability.get("calibrated", reliability["raw"])


def _temperature(label: str, run: Run, name: str, several: bool) -> str:
    chosen = (run.results.get("validation") or {}).get(name) or {}
    value, whose = chosen.get("temperature"), f" of {label}" if several else ""
    if value is None:
        return f"No temperature{whose}: {chosen.get('reason', 'nothing was chosen on validation')}."
    return f"Temperature{whose}, fitted on validation: {value:.2f}."
