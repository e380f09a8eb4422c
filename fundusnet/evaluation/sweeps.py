"""What a sweep found: a score against each swept value, all of them at once, and the run to go on with."""

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
from fundusnet.evaluation.comparison import Run
from fundusnet.evaluation.figures import COLORS, tidy
from fundusnet.evaluation.groups import Group, setting, short_key, swept_keys
from fundusnet.runs.folder import command_of

FEWEST = 3  # methods; of two the table says all
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}  # under words that lines would cross
Entries = Mapping[str, Mapping[str, Any]]  # a metric by group label


@dataclass(frozen=True)
class Best:
    """The method that validation prefers, and how to have it again."""

    label: str
    validation: float
    command: str | None


def best_on_validation(groups: Sequence[Group], score: Callable[[pd.DataFrame], float]) -> Best | None:
    """The group with the highest ``score``, the mean over its runs, on their ``predictions_val.csv``.

    Test scores choose nothing: the best of many on the test split is too good by chance. None where a run keeps no
    predictions on validation.
    """
    found = []
    for group in groups:
        files = [run.folder / "predictions_val.csv" for run in group.runs]
        if not all(file.is_file() for file in files):
            return None
        found.append((float(np.mean([score(pd.read_csv(file)) for file in files])), group))
    value, group = max(found, key=lambda pair: pair[0])
    return Best(group.label, value, command_of(group.runs[0].folder)) if np.isfinite(value) else None


def sweep_section(groups: Sequence[Group], scores: Mapping[str, Entries], best: Best | None) -> dict[str, Any] | None:
    """The values of the template ``sweep.html.j2``; None where too little was swept for a picture.

    Args:
        scores: for each thing measured (its title) the entry of every group; the first is what the lines show.
    """
    runs = [run for group in groups for run in group.runs]
    keys = [key for key in swept_keys(runs) if len(_values(runs, key)) > 1]
    if len(groups) < FEWEST or not keys:
        return None
    return {
        "lines": page.picture(lines(groups, keys, scores)),
        "parallel": page.picture(parallel(groups, keys, scores)) if len(keys) > 1 else "",
        "best": best,
    }


def lines(groups: Sequence[Group], keys: Sequence[str], scores: Mapping[str, Entries]) -> Figure:
    """A row of plots for each score, a plot for each swept key: the score with its 95% interval against the value.

    Groups that agree in every other key are joined by a line.
    """
    figure = Figure(figsize=(4.2 * len(keys), 2.9 * len(scores)), dpi=150)
    grid = figure.subplots(len(scores), len(keys), squeeze=False, sharey="row")
    runs = [run for group in groups for run in group.runs]
    for row, (title, entries) in zip(grid, scores.items(), strict=True):
        for axes, key in zip(row, keys, strict=True):
            _line_plot(axes, groups, keys, key, entries, _values(runs, key))
            axes.set(xlabel=short_key(key, keys))
        row[0].set(ylabel=title)
    return tidy(figure)


def parallel(groups: Sequence[Group], keys: Sequence[str], scores: Mapping[str, Entries]) -> Figure:
    """Parallel coordinates: an axis for each swept key and each score, a line for each group."""
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
    return figure


def _line_plot(
    axes: Axes, groups: Sequence[Group], keys: Sequence[str], key: str, entries: Entries, values: Sequence[Any]
) -> None:
    """One key against one score; values stand side by side at equal distances, for numbers are swept by orders."""
    joined: dict[str, list[tuple[int, Group]]] = {}
    for group in groups:
        if _value(entries, group) is not None:
            others = {other: setting(group.runs[0], other) for other in keys if other != key}
            label = ", ".join(f"{short_key(other, keys)}={_text(value)}" for other, value in others.items())
            joined.setdefault(label, []).append((values.index(setting(group.runs[0], key)), group))
    told_apart = len(joined) <= len(COLORS)
    for number, (label, members) in enumerate(joined.items()):
        members.sort(key=lambda pair: pair[0])
        aside = (number - (len(joined) - 1) / 2) * 0.24 / len(joined)  # so that intervals do not cover each other
        heights = [float(entries[group.label]["value"]) for _, group in members]
        bounds = [entries[group.label]["ci95"] for _, group in members]
        low = [0.0 if pair[0] is None else height - pair[0] for height, pair in zip(heights, bounds, strict=True)]
        high = [0.0 if pair[1] is None else pair[1] - height for height, pair in zip(heights, bounds, strict=True)]
        axes.errorbar(
            [place + aside for place, _ in members],
            heights,
            yerr=np.maximum([low, high], 0),
            color=COLORS[number if told_apart else 0],
            alpha=1 if told_apart else 0.4,
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=2,
            label=label,
        )
    axes.set_xticks(range(len(values)), [_text(value) for value in values])
    axes.set_xlim(-0.5, len(values) - 0.5)
    if len(joined) > 1 and told_apart:
        axes.legend(frameon=False, fontsize=7)


def _values(runs: Sequence[Run], key: str) -> list[Any]:
    """The values a key takes, numbers in their order, words as they come."""
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
    """Heights in [0, 1]; half way where there is one value only."""
    low, high = min(column, default=0), max(column, default=0)
    return [0.5 if high == low else (value - low) / (high - low) for value in column]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("'", "")
