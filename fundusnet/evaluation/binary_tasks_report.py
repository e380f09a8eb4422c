"""The part of a report on one yes-or-no task: reliability, net benefit, thresholds, and DeLong's test of two runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fundusnet.evaluation import page, tables
from fundusnet.evaluation.binary_tasks import CURVES, pooled_metrics
from fundusnet.evaluation.calibration import reliability_figure
from fundusnet.evaluation.decision import decision_figure
from fundusnet.evaluation.delong import delong
from fundusnet.evaluation.discrimination import describe
from fundusnet.evaluation.figures import COLORS
from fundusnet.evaluation.groups import Group, shared_images
from fundusnet.evaluation.runs import Run

POOLED = 500  # resamples over seeds, drawn again for each page
TITLES = {
    "calibration_error": "Calibration error, root mean square",
    "calibration_error_calibrated": "Calibration error after calibration",
    "ece": "Expected calibration error (ECE)",
    "ece_calibrated": "ECE after calibration",
    "brier": "Brier score",
    "brier_calibrated": "Brier score after calibration",
    "mean_gap": "Mean probability minus prevalence",
    "sensitivity_sp85": "Sensitivity at the threshold for 85 % specificity",
    "specificity_sp85": "Specificity at that threshold",
    "sensitivity_sp95": "Sensitivity at the threshold for 95 % specificity",
    "specificity_sp95": "Specificity at that threshold",
    "roc_sensitivity_sp85": "Sensitivity on the ROC curve at 85 % specificity",
    "roc_sensitivity_sp95": "Sensitivity on the ROC curve at 95 % specificity",
    "pauroc_sp90": "Partial AUROC, specificity 90 to 100 %",
}


def task_section(groups: Sequence[Group], target: str, task: str) -> dict[str, Any] | None:
    """Return what the template shows of one task; None where no run has curves of it.

    Curves are those of each group's first seed, for as many groups as there are colours; metrics are means over seeds.
    Runs of an earlier version have no curves.
    """
    shown = [group for group in groups if (runs := group.runs_of(target)) and all(_curves(run, task) for run in runs)]
    if not shown:
        return None
    first = {group.label: group.runs_of(target)[0] for group in shown}
    curves = _shown_curves(first, task)
    used = {curve["decision_of"] for curve in curves.values()}
    each = [_entries(group, target, task) for group in shown]
    drawn = task_figures(groups, target, task)
    return {
        "title": next(iter(first.values())).question(task),
        "labels": [group.label for group in shown],
        "reliability": page.picture(drawn["reliability"]),
        "decision": page.picture(drawn["decision"]),
        "decision_of": "calibrated " if used == {"calibrated"} else "",
        "table": [
            {"title": title, "cells": [tables.cell(entries.get(metric) or tables.NOT_MEASURED) for entries in each]}
            for metric, title in TITLES.items()
        ],
        "temperatures": " ".join(_temperature(label, run, task, len(first) > 1) for label, run in first.items()),
    }


def task_figures(groups: Sequence[Group], target: str, task: str) -> dict[str, Figure]:
    """Return the ``reliability`` and ``decision`` curves of one task; none where no run has them."""
    shown = [group for group in groups if (runs := group.runs_of(target)) and all(_curves(run, task) for run in runs)]
    if not shown:
        return {}
    first = {group.label: group.runs_of(target)[0] for group in shown}
    curves = _shown_curves(first, task)
    if len(curves) == 1:
        (only,) = curves.values()
        reliability = only["reliability"]
    else:
        reliability = {
            label: curve["reliability"].get("calibrated", curve["reliability"]["raw"])
            for label, curve in curves.items()
        }
    title = next(iter(first.values())).question(task)
    counted = " or ".join(sorted({describe(run.binary_tasks(target)[task].label) for run in first.values()}))
    decisions = {label: curve["decision"] for label, curve in curves.items()}
    return {
        "reliability": reliability_figure(reliability, f"Reliability: {title}"),
        "decision": decision_figure(decisions, f"Net benefit: {title}\n{counted}"),
    }


def delong_rows(groups: Sequence[Group], target: str, task: str) -> Iterator[dict[str, Any]]:
    """Compare each further group of a single run with the first group, where that is a single run too.

    Yields:
        The result as ``text``, and whether patients have several images (``clustered``).
    """
    if len(groups[0].runs_of(target)) != 1:
        return
    base = groups[0].runs_of(target)[0]
    for group in groups[1:]:
        if len(group.runs_of(target)) != 1:
            continue
        run = group.runs_of(target)[0]
        first, second = base.binary_tasks(target)[task], run.binary_tasks(target)[task]
        shared = shared_images(base, run, target)
        if shared.empty:
            continue
        here, there = (one.predictions[target].index.get_indexer(shared) for one in (base, run))
        patients = len(np.unique(first.patients[here]))
        # An image that the two runs label differently (data.present) is left out.
        label = np.where(first.label[here] == second.label[there], first.label[here], np.nan)
        found = delong(label, first.probability[here], second.probability[there])
        if found.p is None:
            text = f"undefined ({found.reason})"
        else:
            p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
            text = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}), {p}"
        yield {
            "text": f"{group.label} against {groups[0].label}: {text}, {len(shared)} images of {patients} patients.",
            "clustered": patients < len(shared),
        }


def _entries(group: Group, target: str, task: str) -> dict[str, dict[str, Any]]:
    """Return the run's own entries of ``metrics.json``, or the means over seeds."""
    runs = group.runs_of(target)
    tasks = [run.binary_tasks(target)[task] for run in runs]
    if len(runs) > 1:
        return pooled_metrics(tasks, n=POOLED)
    entries = {name: runs[0].metric(target, tasks[0].metric_name(name)) for name in TITLES}
    return {name: entry for name, entry in entries.items() if entry is not None}


def _curves(run: Run, task: str) -> dict[str, Any]:
    """Return the curves of a task in ``curves.json``; empty where the run kept none."""
    if not (run.folder / CURVES).is_file():
        return {}
    found: dict[str, Any] = json.loads((run.folder / CURVES).read_text(encoding="utf-8")).get(task, {})
    return found


def _shown_curves(first: Mapping[str, Run], task: str) -> dict[str, dict[str, Any]]:
    """The curves of as many methods as there are colours."""
    return {label: _curves(run, task) for label, run in list(first.items())[: len(COLORS)]}


def _temperature(label: str, run: Run, task: str, several: bool) -> str:
    chosen = (run.results.get("validation") or {}).get(task) or {}
    value, whose = chosen.get("temperature"), f" of {label}" if several else ""
    if value is None:
        return f"No temperature{whose}: {chosen.get('reason', 'nothing was chosen on validation')}."
    return f"Temperature{whose}, fitted on validation: {value:.2f}."
