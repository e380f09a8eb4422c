"""The report on landmarks: a self-contained page about one run or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fundusnet.data.prepared import PreparedSet
from fundusnet.evaluation import page, report
from fundusnet.evaluation.figures import COLORS, tidy
from fundusnet.evaluation.folds import join_folds
from fundusnet.evaluation.groups import Group, group_differences, group_runs
from fundusnet.evaluation.methods import Methods, name_methods
from fundusnet.evaluation.paper import Paper, Table, plain_cell
from fundusnet.evaluation.paper import write_paper as write
from fundusnet.evaluation.paper_facts import paper_facts
from fundusnet.evaluation.report import Differences, Entries
from fundusnet.evaluation.runs import Run, read_runs
from fundusnet.evaluation.subgroups import subgroup_tables
from fundusnet.evaluation.tables import NOT_MEASURED, cell, markdown_cell, markdown_table
from fundusnet.landmarks.datamodule import given_points
from fundusnet.landmarks.figures import with_points
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.landmarks.statistics import LANDMARK_SYSTEM, METRIC_NAMES, TITLES


def write_report(runs: list[Path], output: Path, reference: str | None = None) -> Path:
    """Write a report on ``runs`` (folders) to the file ``output``, a page or Markdown, and return it.

    Raises:
        UserError: A file is missing, the suffix of ``output`` is unknown, or no run is the ``reference``.
    """
    page.check_suffix(output)
    methods = _read_methods(runs, reference)
    entries, differences = report.pooled_entries(methods.groups, METRIC_NAMES), group_differences(methods.groups)
    if output.suffix == ".md":
        return page.write(_markdown(methods.groups, entries, differences), output)
    return page.write(_page(methods, entries, differences), output)


def write_paper(runs: list[Path], folder: Path, reference: str | None = None) -> Path:
    """Write the table, loss curves, methods and checklist of ``runs`` to ``folder``; raises as ``write_report``."""
    groups = _read_methods(runs, reference).groups
    entries, differences = report.pooled_entries(groups, METRIC_NAMES), group_differences(groups)
    head, rows = _table(groups, entries, differences, plain_cell)
    drawn = {
        f"losses_{number}": figure
        for number, group in enumerate(groups, 1)
        if (figure := report.loss_curves(group.runs[0], _losses))
    }
    tables = {"metrics": Table("Errors of optic disc and fovea, with 95 % intervals", head, rows)}
    return write(folder, Paper(tables, drawn, paper_facts(groups, _points_counter)))


def _read_methods(runs: list[Path], reference: str | None) -> Methods:
    return name_methods(group_runs(join_folds(read_runs(runs, LANDMARK_SYSTEM))), reference)


def _page(methods: Methods, entries: Entries, differences: Differences) -> str:
    groups, sections, without_pictures = methods.groups, [], ""
    for name in groups[0].targets:
        shown = report.first_runs(groups, name)
        first = next(iter(shown.values()))
        prepared, why_not = report.prepared_set(first)
        without_pictures = without_pictures or why_not
        sections.append(
            {
                "landmark": name,
                "table": [
                    {"title": TITLES[metric], "cells": list(_cells(groups, name, metric, entries, differences))}
                    for metric in METRIC_NAMES
                ],
                "subgroups": subgroup_tables(shown, name),
                "worst": list(_worst(first, name, prepared)) if prepared is not None else [],
            }
        )
    name = "within_half_radius"
    scores = {
        f"{TITLES[name]}, {target}": {group.label: entries[group.label, target, name] for group in groups}
        for target in groups[0].targets
    }
    return page.render(
        "fundusnet.landmarks",
        "report_landmarks.html.j2",
        **report.shared_values(methods, scores, _validation_score, _losses, _points_counter),
        sections=sections,
        without_pictures=without_pictures,
    )


def _points_counter(run: Run) -> Callable[[Sequence[str]], dict[str, int]]:
    """Return a function from images of the run's prepared set to how many have each point."""
    prepared, _ = report.prepared_set(run)
    if prepared is None:
        return lambda ids: {}
    points, images = given_points(prepared), prepared.manifest.images["image_id"]
    known = {image_id: np.isfinite(points[row, :, 0]) for row, image_id in enumerate(images)}
    return lambda ids: {
        name: sum(bool(known[image_id][k]) for image_id in ids if image_id in known) for k, name in enumerate(LANDMARKS)
    }


def _markdown(groups: Sequence[Group], entries: Entries, differences: Differences) -> str:
    images = ", ".join(f"{group.label}: {group.runs[0].results['n_images']} images" for group in groups)
    return f"{markdown_table(*_table(groups, entries, differences, markdown_cell))}\n{images}.  \n"


def _table(
    groups: Sequence[Group], entries: Entries, differences: Differences, written: Callable[[Any], str]
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table: for each landmark the methods, each after the first with its differences."""
    head = ["landmark", "method", *(TITLES[name] for name in METRIC_NAMES)]
    rows = []
    for target in groups[0].targets:
        columns = [list(_cells(groups, target, name, entries, differences)) for name in METRIC_NAMES]
        for number, group in enumerate(groups):
            rows.append([target, group.label, *(written(cells[number]["score"]) for cells in columns)])
            if number:
                changes = (written(cells[number]["difference"]) for cells in columns)
                rows.append([target, f"difference to {groups[0].label}", *changes])
    return head, rows


def _cells(
    groups: Sequence[Group], target: str, name: str, entries: Entries, differences: Differences
) -> Iterator[dict[str, Any]]:
    """Yield ``score`` and ``difference`` to the first group, of each group."""
    for group in groups:
        difference = differences.get((group.label, target, name))
        shown = cell(difference.as_metric(), signed=True) if difference else None
        yield {"score": cell(entries.get((group.label, target, name)) or NOT_MEASURED), "difference": shown}


def _validation_score(predictions: pd.DataFrame) -> float:
    """Return the share of points within half a disc radius."""
    return float((predictions["error"].dropna() <= 0.5).mean())


def _losses(history: pd.DataFrame) -> Figure:
    """Return the loss, and the mean errors on validation."""
    figure = Figure(figsize=(6.2, 2.8), dpi=150)
    left, right = figure.subplots(1, 2)
    panels = (
        (left, "loss", ("train/loss", "val/loss")),
        (right, "mean error, disc radii", ("val/error_disc", "val/error_fovea")),
    )
    for axes, title, keys in panels:
        for key, color in zip(keys, COLORS, strict=False):
            if key in history:
                known = history[["epoch", key]].dropna()
                axes.plot(known["epoch"], known[key], color=color, linewidth=1.5, label=key)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return tidy(figure)


def _worst(run: Run, target: str, prepared: PreparedSet) -> Iterator[dict[str, Any]]:
    """Yield the photographs in which a landmark is farthest from where it should be, three in a row."""
    images = prepared.manifest.images["image_id"]
    row_of = {image_id: row for row, image_id in enumerate(images)}
    rows = run.predictions[target]
    known = rows[rows["image_id"].isin(row_of)].sort_values("error", ascending=False)
    drawn = {}
    for _, each in known.head(2 * report.pictures_wanted(run)).iterrows():
        image_id = str(each["image_id"])
        both = [other.loc[image_id] for other in run.predictions.values() if image_id in other.index]
        given, found = (np.array([[one[x], one[y]] for one in both]) for x, y in (("x", "y"), ("found_x", "found_y")))
        text = f"{image_id}: {each['error']:.2f} disc radii, confidence {each['confidence']:.2f}"
        drawn[text] = with_points(np.asarray(prepared.pixels[row_of[image_id]]), given, found)
    tiles = page.tiles(drawn)
    for start in range(0, len(tiles), 3):
        yield {"image_id": "", "text": "", "tiles": tiles[start : start + 3]}
