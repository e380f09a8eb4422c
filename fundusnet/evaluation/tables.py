"""The tables of a report, as rows for the page and as Markdown for a README (S1.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.intervals import Interval
from fundusnet.findings.statistics import METRIC_NAMES, count_images

TITLES = {
    "auroc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "air_tp": "AIR, true positives",
    "air_fn": "AIR, false negatives",
    "cue_fraction": "Cue fraction",
    "lift_tp": "Lift, true positives",
    "pointing_game": "Pointing game",
    "lesion_energy": "Lesion energy",
}
OVERVIEW = ("auroc", "air_tp", "lift_tp", "pointing_game", "lesion_energy")
NOT_MEASURED: dict[str, Any] = {"value": None, "ci95": [None, None], "reason": "not measured"}
Differences = Mapping[tuple[str, str, str], Interval]
Entries = Mapping[tuple[str, str, str], Mapping[str, Any]]


def entries_of(groups: Sequence[Group], *, n: int = 2000) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Every group's metrics by (group label, finding, metric name), pooled over its seeds."""
    found = {}
    for group in groups:
        for finding in group.findings:
            for name in METRIC_NAMES:
                entry = group.metric(finding, name, n=n)
                if entry is not None:
                    found[group.label, finding, name] = entry
    return found


def finding_table(
    groups: Sequence[Group], finding: str, entries: Entries, differences: Differences
) -> Iterator[dict[str, Any]]:
    """A row a metric, a cell a group: ``score`` and, from the second on, ``difference`` to the first."""
    for name in METRIC_NAMES:
        found = [entries.get((group.label, finding, name)) for group in groups]
        if all(entry is None for entry in found):
            continue
        cells = []
        for group, entry in zip(groups, found, strict=True):
            difference = differences.get((group.label, finding, name))
            cells.append(
                {
                    "score": cell(entry or NOT_MEASURED),
                    "difference": cell(difference.as_metric(), signed=True) if difference else None,
                }
            )
        yield {"title": TITLES[name], "cells": cells}


def overview_table(
    groups: Sequence[Group], findings: Sequence[str], entries: Entries, differences: Differences
) -> Iterator[dict[str, Any]]:
    """A row a finding and group, its difference to the first group below it; a cell a metric of ``OVERVIEW``."""
    for finding in findings:
        for group in groups:
            if finding not in group.findings:
                continue
            scores = [cell(entries.get((group.label, finding, name)) or NOT_MEASURED) for name in OVERVIEW]
            yield {"finding": finding, "label": group.label, "cells": scores}
            between = [differences.get((group.label, finding, name)) for name in OVERVIEW]
            if any(between):
                changes = [cell(one.as_metric(), signed=True) if one else cell(NOT_MEASURED) for one in between]
                yield {"finding": finding, "label": f"difference to {groups[0].label}", "cells": changes}


def cell(metric: Mapping[str, Any], *, signed: bool = False) -> dict[str, Any]:
    """A number as text: value, interval, remarks, and whether a difference is clear of zero."""
    style = "+.3f" if signed else ".3f"
    low, high = metric["ci95"]
    remarks = []
    if metric["value"] is None or low is None:
        remarks.append(str(metric.get("reason", "undefined")))
    if metric.get("unreliable"):
        remarks.append("fewer than 10 patients: unreliable")
    if metric.get("redrawn"):
        remarks.append(f"{metric['redrawn']} resample{'s' if metric['redrawn'] > 1 else ''} redrawn")
    seeds = metric.get("seeds") or []
    return {
        "value": "–" if metric["value"] is None else format(metric["value"], style),
        "interval": "" if low is None else f"{low:{style}} to {high:{style}}",
        "remarks": remarks,
        "seeds": [format(value, style) for value in seeds if value is not None],
        # A difference whose interval leaves out zero is what the reader looks for.
        "clear": signed and low is not None and not metric.get("unreliable") and (low > 0 or high < 0),
    }


def counts(groups: Sequence[Group], finding: str) -> list[dict[str, Any]]:
    """What each group was scored on: images by label, summed over its seeds."""
    found = []
    for group in groups:
        runs = group.runs_of(finding)
        if runs:
            each = [count_images(run.rows(finding)) for run in runs]
            total = {name: sum(one[name] for one in each) for name in each[0]}
            found.append({"label": group.label, "runs": len(runs), **total})
    return found


def markdown(groups: Sequence[Group], findings: Sequence[str], entries: Entries, differences: Differences) -> str:
    """All of it for a README: one table over the findings, or one over the metrics of a single finding."""
    lines = []
    if len(findings) > 1:
        lines += _markdown_row(["finding", "method", *(TITLES[name] for name in OVERVIEW)])
        lines += _markdown_row(["---"] * (2 + len(OVERVIEW)))
        for row in overview_table(groups, findings, entries, differences):
            lines += _markdown_row([row["finding"], row["label"], *(markdown_cell(one) for one in row["cells"])])
    else:
        finding = findings[0]
        head = ["metric", groups[0].label]
        for group in groups[1:]:
            head += [group.label, "difference"]
        lines += _markdown_row(head)
        lines += _markdown_row(["---"] * len(head))
        for row in finding_table(groups, finding, entries, differences):
            cells = [row["title"], markdown_cell(row["cells"][0]["score"])]
            for pair in row["cells"][1:]:
                cells += [
                    markdown_cell(pair["score"]),
                    markdown_cell(pair["difference"]) if pair["difference"] else "–",
                ]
            lines += _markdown_row(cells)
    lines.append("")
    for finding in findings:
        of_groups = counts(groups, finding)
        same = all({**one, "label": ""} == {**of_groups[0], "label": ""} for one in of_groups)
        for one in of_groups[:1] if same else of_groups:
            who = finding if same else f"{finding}, {one['label']}"
            runs = f" over {one['runs']} runs" if one["runs"] > 1 else ""
            lines.append(
                f"{who}{runs}: {one['n_present']} present ({one['n_without_cue']} without cue), "
                f"{one['n_absent']} absent, {one['n_undecided']} undecided.  "
            )
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


def markdown_cell(one: Mapping[str, Any]) -> str:
    """A number of ``cell`` in one line of Markdown; † marks an unreliable one."""
    value = f"**{one['value']}**" if one["clear"] else one["value"]
    interval = f" [{one['interval']}]" if one["interval"] else ""
    mark = " †" if any("unreliable" in remark for remark in one["remarks"]) else ""
    reason = "" if one["interval"] or not one["remarks"] else f" ({one['remarks'][0]})"
    return f"{value}{interval}{mark}{reason}"


def patients_of(results: Mapping[str, Any]) -> str:
    """Return in words whose images were scored, from the content of ``metrics.json``."""
    images, patients, unknown = (results.get(f"n_{name}") for name in ("images", "patients", "without_patient"))
    if patients is None:
        return f"{images} images"
    if not unknown:
        return f"{images} images of {patients} patients"
    told = "patients" if unknown == images else f"of {unknown} the patient is"
    return f"{images} images ({told} unknown: each counts as one)"
