"""The part of a report on a sweep: scores against swept values, and the run that is best on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fundusnet.evaluation import page
from fundusnet.evaluation.figures import COLORS, SHORT, tidy, wrap_name
from fundusnet.evaluation.groups import Group, setting, short_key, swept_keys
from fundusnet.evaluation.runs import Run
from fundusnet.runs.folder import command_of

FEWEST = 3  # methods; for two the table is enough
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}  # behind text that lines cross
Entries = Mapping[str, Mapping[str, Any]]  # a metric by group label


@dataclass(frozen=True)
class Best:
    """The method that is best on validation, and the command that repeats it."""

    label: str
    validation: float
    command: str | None


def best_on_validation(groups: Sequence[Group], score: Callable[[pd.DataFrame], float]) -> Best | None:
    """Return the group with the highest ``score`` on ``predictions_val.csv``, the mean over its runs.

    Never chosen on the test split, where the best of many is too good by chance. None where a run has no predictions
    on validation, or where groups predict different findings: their scores do not compare.
    """
    if len({frozenset(target for run in group.runs for target in run.targets) for group in groups}) > 1:
        return None
    found = []
    for group in groups:
        files = [run.folder / "predictions_val.csv" for run in group.runs]
        if not all(file.is_file() for file in files):
            return None
        found.append((float(np.mean([score(pd.read_csv(file)) for file in files])), group))
    value, group = max(found, key=lambda pair: pair[0])
    return Best(group.label, value, command_of(group.runs[0].folder)) if np.isfinite(value) else None


def sweep_section(groups: Sequence[Group], scores: Mapping[str, Entries], best: Best | None) -> dict[str, Any] | None:
    """Return the values of the template ``sweep.html.j2``; None where too little was swept for a figure.

    Args:
        groups: The methods.
        scores: For each metric (its title) the entry of every group.
        best: What ``best_on_validation`` returned.
    """
    keys = numeric_keys(groups)
    if len(groups) < FEWEST:
        return None
    runs = [run for group in groups for run in group.runs]
    every = [key for key in swept_keys(runs) if len(_values(runs, key)) > 1]
    several = len(keys) > 1 and keys == every
    return {
        "lines": page.picture(line_plots(groups, keys, scores, every)) if keys else "",
        "parallel": page.picture(parallel_coordinates(groups, keys, scores)) if several else "",
        "best": best,
        "measure": next(iter(scores), "").partition(",")[0],
    }


def numeric_keys(groups: Sequence[Group]) -> list[str]:
    """Return the swept keys along which a line can be drawn: numbers, one of the keys with at least three of them.

    Methods that differ in kind, or in having guidance or not, are not points of an axis.
    """
    runs = [run for group in groups for run in group.runs]
    found = {key: _values(runs, key) for key in swept_keys(runs)}
    numbers = {
        key: values
        for key, values in found.items()
        if len(values) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    }
    return list(numbers) if any(len(values) >= FEWEST for values in numbers.values()) else []


def line_plots(
    groups: Sequence[Group], keys: Sequence[str], scores: Mapping[str, Entries], every: Sequence[str] | None = None
) -> Figure:
    """Plot each score with its 95% interval (rows) against each swept key (columns).

    A line joins groups that agree in every other key of ``every``, which ``keys`` are some of; None = they are all.
    """
    figure = Figure(figsize=(4.2 * len(keys), 2.9 * len(scores)), dpi=150)
    grid = figure.subplots(len(scores), len(keys), squeeze=False, sharey="row")
    runs = [run for group in groups for run in group.runs]
    for row, (title, entries) in zip(grid, scores.items(), strict=True):
        for axes, key in zip(row, keys, strict=True):
            _line_plot(axes, groups, every or keys, key, entries, _values(runs, key))
            axes.set(xlabel=short_key(key, keys))
        row[0].set(ylabel=title)
    for axes in grid[0]:
        _legend_above(axes)
    tidy(figure)
    figure.suptitle(f"Scores against swept values, 95 % intervals ({len(runs)} runs)", fontsize=10)
    return figure


def parallel_coordinates(groups: Sequence[Group], keys: Sequence[str], scores: Mapping[str, Entries]) -> Figure:
    """Draw parallel coordinates: an axis for each swept key and each score, a line for each group."""
    runs = [run for group in groups for run in group.runs]
    names = [*(short_key(key, keys) for key in keys), *scores]
    shown = [group for group in groups if all(_value(entries, group) is not None for entries in scores.values())]
    columns = [[_values(runs, key).index(setting(group.runs[0], key)) for group in shown] for key in keys]
    columns += [[_value(entries, group) for group in shown] for entries in scores.values()]  # type: ignore[misc]
    heights = [_spread(column) for column in columns]
    figure = Figure(figsize=(1.9 * len(names), 3.4), dpi=150)
    axes = figure.subplots()
    for place, name in enumerate(names):
        axes.axvline(place, color="#8a94a3", linewidth=1)
        axes.text(place, 1.09, name, ha="center", va="bottom", fontsize=9)
    for place, key in enumerate(keys):
        values = _values(runs, key)
        for height, value in zip(_spread(list(range(len(values)))), values, strict=True):
            axes.text(place - 0.04, height, _text(value), ha="right", va="center", fontsize=8, bbox=PAPER, zorder=3)
    for place, column in enumerate(columns[len(keys) :], len(keys)):
        for height, value in ((0, min(column, default=0)), (1, max(column, default=0))):
            axes.text(place + 0.04, height, f"{value:.3f}", ha="left", va="center", fontsize=8, bbox=PAPER, zorder=3)
    first = heights[len(keys)] if shown else []
    for line, height in sorted(enumerate(first), key=lambda pair: pair[1]):
        color = matplotlib.colormaps["viridis"](0.95 * height)
        axes.plot(range(len(names)), [column[line] for column in heights], color=color, linewidth=1.6, alpha=0.9)
    axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(-0.06, 1.06))
    axes.axis("off")
    axes.set_title(f"Each line is one setting (n = {len(shown)})", fontsize=10, pad=26)
    return figure


def _line_plot(
    axes: Axes, groups: Sequence[Group], keys: Sequence[str], key: str, entries: Entries, values: Sequence[Any]
) -> None:
    """Plot one score against one key; values are equally spaced, since sweeps often go by orders of magnitude."""
    joined: dict[str, list[tuple[int, Group]]] = {}
    for group in groups:
        if _value(entries, group) is not None:
            others = {other: setting(group.runs[0], other) for other in keys if other != key}
            label = ", ".join(f"{short_key(other, keys)}={_text(value)}" for other, value in others.items())
            joined.setdefault(label, []).append((values.index(setting(group.runs[0], key)), group))
    colored = len(joined) <= len(COLORS)
    for number, (label, members) in enumerate(joined.items()):
        members.sort(key=lambda pair: pair[0])
        offset = (number - (len(joined) - 1) / 2) * 0.24 / len(joined)  # keeps intervals from overlapping
        heights = [float(entries[group.label]["value"]) for _, group in members]
        bounds = [entries[group.label]["ci95"] for _, group in members]
        low = [0.0 if pair[0] is None else height - pair[0] for height, pair in zip(heights, bounds, strict=True)]
        high = [0.0 if pair[1] is None else pair[1] - height for height, pair in zip(heights, bounds, strict=True)]
        axes.errorbar(
            [place + offset for place, _ in members],
            heights,
            yerr=np.maximum([low, high], 0),
            color=COLORS[number if colored else 0],
            alpha=1 if colored else 0.4,
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=2,
            label=label,
        )
    axes.set_xticks(range(len(values)), [_text(value) for value in values])
    axes.set_xlim(-0.5, len(values) - 0.5)


def _legend_above(axes: Axes) -> None:
    """Name the lines of a panel above it, where the names cover no interval, unless there are more than colours."""
    handles, labels = axes.get_legend_handles_labels()
    if 1 < len(labels) <= len(COLORS):
        columns = 2 if max(map(len, labels)) <= SHORT else 1  # side by side, long names leave no room for the panel
        wrapped = [wrap_name(label, 60) for label in labels]
        how = {"frameon": False, "fontsize": 7, "borderaxespad": 0}
        axes.legend(handles, wrapped, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), **how)


def _values(runs: Sequence[Run], key: str) -> list[Any]:
    """Return the values of a key: numbers sorted, others in order of appearance."""
    found: list[Any] = []
    for run in runs:
        value = setting(run, key)
        if value not in found:
            found.append(value)
    numbers = all(isinstance(value, int | float) for value in found)
    return sorted(found) if numbers else found


def _value(entries: Entries, group: Group) -> float | None:
    value: float | None = entries.get(group.label, {}).get("value")
    return value


def _spread(column: Sequence[float]) -> list[float]:
    """Return heights in [0, 1]; one half where there is only one value."""
    low, high = min(column, default=0), max(column, default=0)
    return [0.5 if high == low else (value - low) / (high - low) for value in column]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("'", "")
