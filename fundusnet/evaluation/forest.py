"""Forest plots: value and interval of each method for each metric, and paired differences (our addition to S1.6)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fundusnet.evaluation import figures

ACROSS = 4  # panels beside each other
Entry = Mapping[str, Any] | None


def forest(methods: Sequence[str], metrics: Mapping[str, Sequence[Entry]], title: str, *, zero: bool = False) -> Figure:
    """Draw a panel for each metric with a row for each method.

    Args:
        methods: Their names, from top to bottom.
        metrics: Title → for each method an entry as in ``metrics.json``; None or a value of None leaves a gap.
        title: Of the figure.
        zero: Whether these are differences: a line marks zero, and what excludes it is filled.
    """
    across = min(ACROSS, len(metrics))
    down = -(-len(metrics) // across)
    names = [textwrap.fill(method, 24, break_on_hyphens=False) for method in methods]
    high = (0.4 if any("\n" in name for name in names) else 0.27) * len(methods) + 0.75
    figure = Figure(figsize=(1.4 + 2.1 * across, high * down + 0.45), dpi=150)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    places = np.arange(len(methods))[::-1]
    for axes, (name, entries) in zip(grid.ravel(), metrics.items(), strict=False):
        if zero:
            axes.axvline(0, color="grey", linewidth=1, linestyle="--")
        for place, entry in zip(places, entries, strict=True):
            if entry is None or entry["value"] is None:
                continue
            low, high_end = entry["ci95"]
            clear = low is not None and not entry.get("unreliable") and (low > 0 or high_end < 0)
            color = figures.COLORS[0] if not zero or clear else "#555"
            if low is not None:
                axes.plot([low, high_end], [place, place], color=color, linewidth=1.4, solid_capstyle="butt")
            filled = color if not zero or clear else "white"
            axes.plot(entry["value"], place, "s", color=color, markersize=5, markerfacecolor=filled)
        axes.set_title(name)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(methods) - 0.4)
        axes.locator_params(axis="x", nbins=3)
        axes.grid(axis="y", color="#e4e7ec", linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in grid.ravel()[len(metrics) :]:
        axes.axis("off")
    figures.tidy(figure)
    # 10 letters of this size on an inch, the widest ones too
    figure.suptitle(textwrap.fill(title, int(10 * figure.get_size_inches()[0])), fontsize=10)
    return figure
