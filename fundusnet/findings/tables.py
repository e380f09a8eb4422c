"""The tables of a report on findings, for the page and as Markdown (S1.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.report import Differences, Entries, first_runs
from fundusnet.evaluation.runs import Run
from fundusnet.evaluation.tables import NOT_MEASURED, cell, markdown_cell, markdown_table
from fundusnet.findings.by_region import NAMES
from fundusnet.findings.statistics import METRIC_NAMES, TITLES, count_labels

TABLE1 = {"auroc": "AUROC", "air_tp": "AIR, true positives", "air_fn": "AIR, false negatives"}
MOST = 3  # methods that Table 1 has room for
OVERVIEW = ("auroc", "air_tp", "air_fn", "lift_tp", "pointing_game", "lesion_energy")
ALL_REGIONS = ("region_auroc", "region_auroc_present", "region_sensitivity", "region_specificity")
BY_REGION = {
    "auroc": "AUROC",
    "auroc_present": "AUROC, among present",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}


def finding_table(
    groups: Sequence[Group], finding: str, entries: Entries, differences: Differences
) -> Iterator[dict[str, Any]]:
    """Yield a row for each metric, with ``score`` and ``difference`` to the first group for each group."""
    for name in METRIC_NAMES:
        found = [entries.get((group.label, finding, name)) for group in groups]
        if all(entry is None for entry in found):
            continue
        cells = []
        for group, entry in zip(groups, found, strict=True):
            difference = differences.get((group.label, finding, name))
            shown = cell(difference.as_metric(), signed=True) if difference else None
            cells.append({"score": cell(entry or NOT_MEASURED), "difference": shown})
        yield {"title": TITLES[name], "cells": cells}


def table1(
    groups: Sequence[Group], findings: Sequence[str], entries: Entries, differences: Differences
) -> dict[str, Any] | None:
    """Return the paper's Table 1: a row for each finding, the methods side by side under each metric.

    Each cell has its ``score`` and its ``difference`` to the first method. None where there is no room for all methods.
    """
    if len(groups) > MOST:
        return None
    columns = [
        (name, group.label)
        for name in TABLE1
        for group in groups
        if any((entries.get((group.label, finding, name)) or {}).get("value") is not None for finding in findings)
    ]
    rows = []
    for finding in findings:
        cells = []
        for name, label in columns:
            difference = differences.get((label, finding, name))
            shown = cell(difference.as_metric(), signed=True) if difference and difference.value is not None else None
            cells.append({"score": cell(entries.get((label, finding, name)) or NOT_MEASURED), "difference": shown})
        rows.append({"finding": finding, "cells": cells})
    heads = [
        {"title": title, "methods": [label for metric, label in columns if metric == name]}
        for name, title in TABLE1.items()
    ]
    return {"heads": [head for head in heads if head["methods"]], "rows": rows}


def overview_table(
    groups: Sequence[Group], findings: Sequence[str], entries: Entries, differences: Differences
) -> Iterator[dict[str, Any]]:
    """Yield for each finding and group a row with the metrics of ``OVERVIEW``, then one of its differences."""
    for finding in findings:
        for group in groups:
            if finding not in group.targets:
                continue
            scores = [cell(entries.get((group.label, finding, name)) or NOT_MEASURED) for name in OVERVIEW]
            yield {"finding": finding, "label": group.label, "cells": scores}
            between = [differences.get((group.label, finding, name)) for name in OVERVIEW]
            if any(between):
                changes = [cell(one.as_metric(), signed=True) if one else cell(NOT_MEASURED) for one in between]
                yield {"finding": finding, "label": f"difference to {groups[0].label}", "cells": changes}


def region_tables(runs: Mapping[str, Run], finding: str) -> list[dict[str, Any]]:
    """Return what the template shows of a finding: a table by region for each labelled run that has one."""
    return [
        {
            "label": label,
            "titles": list(BY_REGION.values()),
            "rows": [
                {
                    "name": name,
                    "marked": regions[name]["n_marked"],
                    "unmarked": regions[name]["n_unmarked"],
                    "cells": [cell(regions[name][metric]) for metric in BY_REGION],
                }
                for name in NAMES
            ],
        }
        for label, run in runs.items()
        if (regions := (run.results.get("regions") or {}).get(finding))
    ]


def counts(groups: Sequence[Group], finding: str) -> list[dict[str, Any]]:
    """Return how many images each group was scored on by label, summed over its seeds."""
    found = []
    for group in groups:
        runs = group.runs_of(finding)
        if runs:
            each = [count_labels(run.predictions[finding]) for run in runs]
            total = {name: sum(one[name] for one in each) for name in each[0]}
            found.append({"label": group.label, "runs": len(runs), **total})
    return found


def markdown(groups: Sequence[Group], findings: Sequence[str], entries: Entries, differences: Differences) -> str:
    """Return all of it as Markdown: one table over the findings, or one over the metrics of a single finding."""
    if len(findings) > 1:
        head = ["finding", "method", *(TITLES[name] for name in OVERVIEW)]
        rows = [
            [row["finding"], row["label"], *(markdown_cell(one) for one in row["cells"])]
            for row in overview_table(groups, findings, entries, differences)
        ]
    else:
        head = ["metric", groups[0].label, *(word for group in groups[1:] for word in (group.label, "difference"))]
        rows = [
            [
                row["title"],
                markdown_cell(row["cells"][0]["score"]),
                *(markdown_cell(pair[part]) for pair in row["cells"][1:] for part in ("score", "difference")),
            ]
            for row in finding_table(groups, findings[0], entries, differences)
        ]
    lines = []
    for finding in findings:
        of_groups = counts(groups, finding)
        same = all({**one, "label": ""} == {**of_groups[0], "label": ""} for one in of_groups)
        for one in of_groups[:1] if same else of_groups:
            who = finding if same else f"{finding}, {one['label']}"
            runs = f" over {one['runs']} runs" if one["runs"] > 1 else ""
            lines.append(
                f"{who}{runs}: {one['n_present']} present ({one['n_without_cue']} without cue), "
                f"{one['n_absent']} absent, {one['n_undecided']} undecided.  \n"
            )
    return f"{markdown_table(head, rows)}\n{''.join(lines)}{_markdown_by_region(groups, findings, entries)}"


def _markdown_by_region(groups: Sequence[Group], findings: Sequence[str], entries: Entries) -> str:
    """Return two tables, over all regions and the AUROC in each; empty where no run knows regions."""
    together: list[list[str]] = []
    each: list[list[str]] = []
    for finding in findings:
        for table in region_tables(first_runs(groups, finding), finding):
            found = [entries.get((table["label"], finding, name)) or NOT_MEASURED for name in ALL_REGIONS]
            for rows, cells in ((together, map(cell, found)), (each, (row["cells"][0] for row in table["rows"]))):
                # A finding is never in most regions; metrics.json gives the reason.
                rows.append(
                    [finding, table["label"], *(markdown_cell(one) if one["interval"] else "–" for one in cells)]
                )
    if not each:
        return ""
    first = markdown_table(["finding", "method", *(TITLES[name] for name in ALL_REGIONS)], together)
    second = markdown_table(["finding", "method", *(name.replace("_", " ") for name in NAMES)], each)
    return f"\n{first}\nAUROC in each region:\n\n{second}"
