"""The report on grading: a self-contained page about one run or several side by side (S2.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fundusnet.data.manifest import SPLITS
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.evaluation import page, report
from fundusnet.evaluation.about import Counter
from fundusnet.evaluation.binary_tasks_report import delong_rows, task_section
from fundusnet.evaluation.discrimination import Scores, precision_recall, roc
from fundusnet.evaluation.faithfulness_report import faithfulness_sections
from fundusnet.evaluation.folds import join_folds
from fundusnet.evaluation.groups import Group, differing_images, group_differences, group_runs
from fundusnet.evaluation.methods import name_methods
from fundusnet.evaluation.report import Differences, Entries
from fundusnet.evaluation.runs import Run, read_runs
from fundusnet.evaluation.subgroups import subgroup_tables
from fundusnet.evaluation.tables import NOT_MEASURED, cell, markdown_cell, markdown_table
from fundusnet.grading import figures
from fundusnet.grading.datamodule import upsampled
from fundusnet.grading.statistics import GRADE, GRADING, OF_GRADE, TITLES, question, tasks_of, title

DISC, CUP = "optic_disc", "optic_cup"


def write_report(runs: list[Path], output: Path, reference: str | None = None) -> Path:
    """Write a report on ``runs`` (folders) to the file ``output`` and return it.

    ``.html`` is a self-contained page, ``.md`` its table as Markdown. Runs that differ only in seed are pooled;
    ``reference`` (``fundusnet.evaluation.methods.name_methods``) is the method that others are compared with. Pictures
    come from the prepared set of the first two-stage run; without it the page says so and has no pictures.

    Raises:
        UserError: A file is missing, the runs have different grades, or the suffix of ``output`` is unknown.
    """
    page.check_suffix(output)
    read = join_folds(read_runs(runs, GRADING))
    classes = classes_of(read)
    methods = name_methods(group_runs(read), reference)
    groups = methods.groups
    names = table1_names(read, classes)
    of_grade = [f"{kind}_{name}" for kind in OF_GRADE for name in classes]
    entries = report.pooled_entries(groups, list(dict.fromkeys([*names, *of_grade])))
    differences = group_differences(groups)
    table = list(method_table(groups, names, entries, differences))
    titles, counts = [title(name) for name in names], _counts(read, classes)
    if output.suffix == ".md":
        rows = [[row["label"], *map(markdown_cell, row["cells"])] for row in table]
        return page.write(f"{markdown_table(['method', *titles], rows)}\n{counts}\n", output)

    two_stage = two_stage_groups(groups)
    prepared, why_not = report.prepared_set(two_stage[0].runs[0]) if two_stage else (None, "")
    first = report.first_runs(groups, GRADE)
    content = page.render(
        "fundusnet.grading",
        "report_grading.html.j2",
        **report.shared_values(
            methods,
            _scores(groups, entries),
            _validation_accuracy,
            partial(figures.losses, classes=classes),
            class_counter(classes),
        ),
        by_grade=list(grade_table(groups, classes, entries)),
        by_grade_titles=list(OF_GRADE.values()),
        forests={
            name: page.picture(figure)
            for name, figure in report.forests(
                groups,
                GRADE,
                {name: title(name) for name in names},
                entries,
                differences,
                f"Grades (n = {len(groups[0].runs[0].image_ids)})",
            ).items()
        },
        titles=titles,
        table=table,
        counts=counts,
        confusion=page.picture(figures.confusion_matrices(confusions(groups), classes)),
        tasks=[
            {
                "title": question(task, classes).replace("above", "Above", 1),
                "task": task_section(groups, GRADE, task),
                "curves": [page.picture(figure) for figure in discrimination_figures(groups, task)],
                "delong": list(delong_rows(groups, GRADE, task)),
            }
            for task in tasks_of(classes)
        ],
        subgroups=subgroup_tables(first, GRADE),
        faithfulness=faithfulness_sections(first, GRADE),
        leaks=list(_leaks(groups)),
        grades=list(_pictures(two_stage, classes, prepared)) if prepared is not None else [],
        outlines=list(_outlines(two_stage, prepared)) if prepared is not None else [],
        without_pictures=why_not,
    )
    return page.write(content, output)


def table1_names(runs: Sequence[Run], classes: Sequence[str]) -> list[str]:
    """Return the metrics that the columns of Table 1 are of, where a run has them: the paper's four first."""
    order = ["accuracy", *(f"recall_{name}" for name in classes), *(name for name in TITLES if name != "accuracy")]
    return [name for name in order if any(name in run.results["metrics"] for run in runs)]


def two_stage_groups(groups: Sequence[Group]) -> list[Group]:
    """Return the methods whose first run kept masks, of the photographs that the first of them has."""
    kept = [group for group in groups if (group.runs[0].folder / "masks.npz").is_file()]
    return [group for group in kept if not differing_images(kept[0].runs[0], group.runs[0], GRADE)]


def classes_of(runs: Sequence[Run]) -> list[str]:
    classes = [list(run.results.get("classes", [])) for run in runs]
    for run, found in zip(runs, classes, strict=True):
        if found != classes[0]:
            raise UserError(
                f"{run.folder} has the grades {', '.join(found)}, {runs[0].folder} has {', '.join(classes[0])}; "
                "give runs of the same grades"
            )
    return classes[0]


def method_table(
    groups: Sequence[Group], names: Sequence[str], entries: Entries, differences: Differences
) -> Iterator[dict[str, Any]]:
    """Yield a row for each method, and below each but the first its differences to the first."""
    for group in groups:
        scores = [cell(entries.get((group.label, GRADE, name), NOT_MEASURED)) for name in names]
        yield {"label": group.label, "cells": scores, "difference": False}
        between = [differences.get((group.label, GRADE, name)) for name in names]
        if any(between):
            cells = [cell(one.as_metric(), signed=True) if one else None for one in between]
            yield {"label": f"difference to {groups[0].label}", "cells": cells, "difference": True}


def _scores(groups: Sequence[Group], entries: Entries) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what a sweep is judged by."""
    names = ("accuracy", "kappa_quadratic")
    return {TITLES[name]: {group.label: entries[group.label, GRADE, name] for group in groups} for name in names}


def _validation_accuracy(predictions: pd.DataFrame) -> float:
    return float((predictions["grade"] == predictions["predicted"]).mean())


def _counts(runs: Sequence[Run], classes: Sequence[str]) -> str:
    """Say how many test images of each grade there are, where that is the same for all runs."""
    found = [run.results["counts"] for run in runs]
    if any(counts != found[0] for counts in found):
        return "The number of test images of each grade differs between the runs."
    return "Test images: " + ", ".join(f"{found[0][name]} {name.replace('_', ' ')}" for name in classes) + "."


def grade_table(groups: Sequence[Group], classes: Sequence[str], entries: Entries) -> Iterator[dict[str, Any]]:
    """Yield for each grade and method its recall, PPV, NPV and F1, against all other grades."""
    for name in classes:
        for group in groups:
            found = [entries.get((group.label, GRADE, f"{kind}_{name}")) for kind in OF_GRADE]
            yield {"grade": name, "label": group.label, "cells": [cell(one or NOT_MEASURED) for one in found]}


def discrimination_figures(groups: Sequence[Group], task: str) -> list[Figure]:
    """Return ROC and precision-recall curves of the question "is the grade above k?", of each method's first seed."""
    curves: dict[str, Scores] = {}
    for group in groups:
        one = group.runs[0].binary_tasks(GRADE)[task]
        curves[group.label] = Scores(one.label, one.probability, one.patients)
    what = groups[0].runs[0].question(task)
    return [roc(curves, f"ROC: {what}"), precision_recall(curves, f"Precision: {what}")]


def class_counter(classes: Sequence[str]) -> Counter:
    """Return a function from a run to one from images of its prepared set to how many have each grade."""

    def of_run(run: Run) -> Callable[[Sequence[str]], dict[str, int]]:
        prepared, _ = report.prepared_set(run)
        if prepared is None:
            return lambda ids: {}
        grade = prepared.manifest.images.set_index("image_id")["grade"]

        def count(ids: Sequence[str]) -> dict[str, int]:
            known = grade.reindex(list(ids))
            return {name.replace("_", " "): int((known == number).sum()) for number, name in enumerate(classes)}

        return count

    return of_run


def confusions(groups: Sequence[Group]) -> dict[str, NDArray[np.float64]]:
    return {
        group.label: np.sum([run.results["confusion"] for run in group.runs], axis=0).astype(np.float64)
        for group in groups
    }


def _leaks(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """Yield for each split the share of images whose mask is that of their true grade, where masks were stored."""
    for group in groups:
        files = [run.folder / "stages" / "masks.csv" for run in group.runs]
        found = [pd.read_csv(file) for file in files if file.is_file()]
        if not found:
            continue
        made = pd.concat(found)
        right = (made["grade"] == made["stage1_predicted"]).groupby(made["split"]).mean()
        yield {"label": group.label, "cells": [f"{right[split]:.3f}" for split in SPLITS]}


def _masks(run: Run) -> dict[str, NDArray[np.float32]]:
    """Return the masks ``(h, w)`` of the test images by image id; empty for a single stage."""
    return run.stored_maps("masks.npz", "mask")


def _pictures(groups: Sequence[Group], classes: Sequence[str], prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """Yield what the template shows of ``clear_cases``."""
    for grade in clear_cases(groups, classes, prepared):
        images = [{**image, "tiles": page.tiles(image["tiles"])} for image in grade["images"]]
        yield {**grade, "images": images}


def clear_cases(groups: Sequence[Group], classes: Sequence[str], prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """Yield for each grade the images the first method is most certain of, with every method's mask and region."""
    first = groups[0].runs[0]
    masks = {group.label: _masks(group.runs[0]) for group in groups}
    rows = first.predictions[GRADE]
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}
    p = rows[[f"p_gt_{k}" for k in range(len(classes) - 1)]].to_numpy()
    padded = np.pad(p, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    certainty = pd.DataFrame(padded[:, :-1] - padded[:, 1:], index=rows.index)
    for grade, name in enumerate(classes):
        ordered = certainty[grade][rows["grade"] == grade].sort_values(ascending=False, kind="stable")
        known = [image_id for image_id in ordered.index if image_id in row_of and image_id in masks[groups[0].label]]
        shown = []
        for image_id in known[: report.pictures_wanted(first)]:
            pixels = np.asarray(prepared.pixels[row_of[image_id]])
            large = {
                label: upsampled(found[image_id], pixels.shape[:2])
                for label, found in masks.items()
                if image_id in found
            }
            outlines = (prepared.lesion_mask(image_id, DISC), prepared.lesion_mask(image_id, CUP))
            tiles = figures.panel_tiles(pixels, large, *outlines)
            text = f"{image_id}: {'; '.join(_said(group, str(image_id), classes, len(groups) > 1) for group in groups)}"
            shown.append({"image_id": image_id, "text": text, "tiles": tiles})
        yield {"name": name.replace("_", " ").capitalize(), "images": shown}


def _said(group: Group, image_id: str, classes: Sequence[str], several: bool) -> str:
    """What a method's first run says of an image, with the probability of the grade it gives."""
    rows = group.runs[0].predictions[GRADE]
    called = f"{group.label}: " if several else ""
    if image_id not in rows.index:
        return f"{called}not scored"
    row = dict(rows.loc[image_id])
    stage1, stage2 = (classes[int(row[key])].replace("_", " ") for key in ("stage1_predicted", "predicted"))
    p = ", ".join(f"{row[f'p_gt_{k}']:.2f} above {name.replace('_', ' ')}" for k, name in enumerate(classes[:-1]))
    return f"{called}stage 1 says {stage1}, stage 2 {stage2} ({p})"


def _outlines(groups: Sequence[Group], prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """Yield how much of the masks lies inside expert outlines of disc and cup, where there are any (Fig. 5)."""
    for group in groups:
        energy: dict[str, list[tuple[float, float]]] = {DISC: [], CUP: []}
        for run in group.runs:
            for image_id, mask in _masks(run).items():
                for name, found in energy.items():
                    outline = prepared.lesion_mask(image_id, name)
                    if outline is not None and outline.any():
                        large = upsampled(mask, outline.shape)
                        found.append((figures.energy_inside(large, outline), float(outline.mean())))
        count = max(len(found) for found in energy.values())
        if count:
            means = [np.nanmean(found, axis=0) if found else (np.nan, np.nan) for found in energy.values()]
            cells = ["–" if np.isnan(value) else f"{value:.3f}" for pair in means for value in pair]
            yield {"label": group.label, "cells": [count, *cells]}
