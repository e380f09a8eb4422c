"""Tables and figures of grading for a paper: Table 1 and Fig. 2 to 4 in their own layout, and all others (S2.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from fundusnet.evaluation import report
from fundusnet.evaluation.about import about_rows
from fundusnet.evaluation.binary_tasks_report import task_figures
from fundusnet.evaluation.figures import panel
from fundusnet.evaluation.folds import join_folds
from fundusnet.evaluation.groups import Group, group_differences, group_runs
from fundusnet.evaluation.methods import name_methods
from fundusnet.evaluation.paper import Paper, Table, plain_cell
from fundusnet.evaluation.paper import write_paper as write
from fundusnet.evaluation.paper_facts import paper_facts
from fundusnet.evaluation.report import Differences, Entries
from fundusnet.evaluation.runs import read_runs
from fundusnet.grading import figures
from fundusnet.grading.report import (
    class_counter,
    classes_of,
    clear_cases,
    confusions,
    discrimination_figures,
    grade_table,
    method_table,
    table1_names,
    two_stage_groups,
)
from fundusnet.grading.statistics import GRADE, GRADING, OF_GRADE, question, tasks_of, title


def write_paper(runs: list[Path], folder: Path, reference: str | None = None) -> Path:
    """Write the tables, figures, methods and checklist of ``runs`` to ``folder``; raises as ``write_report``."""
    read = join_folds(read_runs(runs, GRADING))
    classes = classes_of(read)
    groups = name_methods(group_runs(read), reference).groups
    names = table1_names(read, classes)
    of_grade = [f"{kind}_{name}" for kind in OF_GRADE for name in classes]
    entries = report.pooled_entries(groups, list(dict.fromkeys([*names, *of_grade])))
    differences = group_differences(groups)
    paper = Paper(
        dict(_tables(groups, classes, names, entries, differences)),
        dict(_figures(groups, classes, names, entries, differences)),
        paper_facts(groups, class_counter(classes)),
    )
    return write(folder, paper)


def _tables(
    groups: Sequence[Group], classes: Sequence[str], names: Sequence[str], entries: Entries, differences: Differences
) -> Iterator[tuple[str, Table]]:
    rows = [[row["label"], *map(plain_cell, row["cells"])] for row in method_table(groups, names, entries, differences)]
    yield "table1", Table("Grades, with 95 % intervals", ["method", *map(title, names)], rows)
    of_grades = grade_table(groups, classes, entries)
    rows = [[row["grade"].replace("_", " "), row["label"], *map(plain_cell, row["cells"])] for row in of_grades]
    caption = "Each grade against all others, with 95 % intervals"
    yield "grades", Table(caption, ["grade", "method", *OF_GRADE.values()], rows)
    about = [[row["title"], *row["cells"]] for row in about_rows(groups, class_counter(classes))]
    yield "runs", Table("How the runs were made", ["", *(group.label for group in groups)], about)


def _figures(
    groups: Sequence[Group], classes: list[str], names: Sequence[str], entries: Entries, differences: Differences
) -> Iterator[tuple[str, Figure]]:
    masked = two_stage_groups(groups)
    prepared, _ = report.prepared_set(masked[0].runs[0]) if masked else (None, "")
    if prepared is not None:
        for grade in clear_cases(masked, classes, prepared):
            for number, image in enumerate(grade["images"], 1):
                name = f"fig2_{grade['name'].lower().replace(' ', '_')}_{number}"
                yield name, panel(image["tiles"], image["text"])
    yield "fig3_confusion_matrices", figures.confusion_matrices(confusions(groups), classes)
    for number, group in enumerate(groups, 1):
        if drawn := report.loss_curves(group.runs[0], partial(figures.losses, classes=classes)):
            yield f"fig4_losses_{number}", drawn
    titles = {name: title(name) for name in names}
    said = f"Grades (n = {len(groups[0].runs[0].image_ids)})"
    for name, figure in report.forests(groups, GRADE, titles, entries, differences, said).items():
        yield f"forest_{name}", figure
    for task in tasks_of(classes):
        name = question(task, classes).replace(" ", "_")
        curves = discrimination_figures(groups, task)
        yield from zip((f"roc_{name}", f"precision_recall_{name}"), curves, strict=True)
        for kind, figure in task_figures(groups, GRADE, task).items():
            yield f"{kind}_{name}", figure
