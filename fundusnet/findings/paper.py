"""Tables and figures of findings for a paper: Table 1 and Fig. 3 in their own layout, and everything else (S1.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fundusnet.evaluation import report
from fundusnet.evaluation.about import about_rows
from fundusnet.evaluation.binary_tasks_report import task_figures
from fundusnet.evaluation.figures import panel
from fundusnet.evaluation.groups import Group, group_differences
from fundusnet.evaluation.paper import Paper, Table, plain_cell
from fundusnet.evaluation.paper import write_paper as write
from fundusnet.evaluation.paper_facts import paper_facts
from fundusnet.evaluation.report import Differences, Entries
from fundusnet.findings import tables
from fundusnet.findings.figures import losses
from fundusnet.findings.report import (
    FOREST,
    class_counter,
    clear_cases,
    counted,
    discrimination_figures,
    read_methods,
)
from fundusnet.findings.statistics import METRIC_NAMES


def write_paper(runs: list[Path], folder: Path, reference: str | None = None) -> Path:
    """Write the tables, figures, methods and checklist of ``runs`` to ``folder``; raises as ``write_report``."""
    groups = read_methods(runs, reference).groups
    findings = list(dict.fromkeys(finding for group in groups for finding in group.targets))
    entries, differences = report.pooled_entries(groups, METRIC_NAMES), group_differences(groups)
    drawn = {
        f"{finding}_{name}" if len(findings) > 1 else name: figure
        for finding in findings
        for name, figure in _figures(groups, finding, entries, differences)
    }
    for number, group in enumerate(groups, 1):
        if figure := report.loss_curves(group.runs[0], losses):
            drawn[f"losses_{number}"] = figure
    written = dict(_tables(groups, findings, entries, differences))
    return write(folder, Paper(written, drawn, paper_facts(groups, class_counter)))


def _tables(
    groups: Sequence[Group], findings: Sequence[str], entries: Entries, differences: Differences
) -> Iterator[tuple[str, Table]]:
    labels = [group.label for group in groups]
    if layout := tables.table1(groups, findings, entries, differences):
        head = ["finding", *(f"{one['title']}, {method}" for one in layout["heads"] for method in one["methods"])]
        rows = [
            [row["finding"].replace("_", " "), *(plain_cell(each["score"]) for each in row["cells"])]
            for row in layout["rows"]
        ]
        yield "table1", Table("AUROC and activation in regions (AIR), with 95 % intervals", head, rows)
    for finding in findings:
        name = f"metrics_{finding}" if len(findings) > 1 else "metrics"
        head = ["metric", labels[0], *(word for label in labels[1:] for word in (label, "difference"))]
        rows = []
        for row in tables.finding_table(groups, finding, entries, differences):
            first, *others = row["cells"]
            cells = [first["score"], *(part for each in others for part in (each["score"], each["difference"]))]
            rows.append([row["title"], *map(plain_cell, cells)])
        against = f"; differences to {labels[0]}" if len(groups) > 1 else ""
        said = f"{counted(groups, finding)}; 95 % intervals{against}"
        yield name, Table(said[:1].upper() + said[1:], head, rows)
    about = [[row["title"], *row["cells"]] for row in about_rows(groups, class_counter)]
    yield "runs", Table("How the runs were made", ["", *labels], about)


def _figures(
    groups: Sequence[Group], finding: str, entries: Entries, differences: Differences
) -> Iterator[tuple[str, Figure]]:
    said = counted(groups, finding)
    for name, figure in report.forests(groups, finding, FOREST, entries, differences, said).items():
        yield f"forest_{name}", figure
    yield from zip(("roc", "precision_recall"), discrimination_figures(groups, finding), strict=False)
    yield from task_figures(groups, finding, finding).items()
    first = next(iter(report.first_runs(groups, finding).values()))
    prepared, _ = report.prepared_set(first)
    if prepared is None:
        return
    scale = "" if report.maps_relative(first) else "activation"
    for outcome in clear_cases(groups, finding, prepared):
        name = outcome["title"].lower().replace(" ", "_")
        for number, image in enumerate(outcome["images"], 1):
            yield f"fig3_{name}_{number}", panel(image["tiles"], image["text"], scale)
