"""Figures that both systems share: panels, ROC curves (S1.6).

Every function returns a ``Figure`` outside pyplot's global state, so that threads and notebooks can draw at the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score, roc_curve

from fundusnet.evaluation.overlays import Pixels, palette

COLORS = ("#1f77b4", "#d9541e", "#2a9d5c", "#8e5bbf", "#b58a00", "#c2407f")
OUTLINE_COLORS = ((120, 220, 255), (90, 255, 120))  # blue, green


def panel(tiles: Mapping[str, Pixels], title: str = "", scale: str = "") -> Figure:
    """Return pictures in a row, each under its name; ``scale`` names what the colours of maps mean, from 0 to 1."""
    figure = Figure(figsize=(2.4 * len(tiles), 2.75 if title else 2.55), dpi=130, layout="constrained")
    for axes, (name, tile) in zip(figure.subplots(1, len(tiles), squeeze=False)[0], tiles.items(), strict=True):
        axes.imshow(tile)
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    if scale:
        shades = ListedColormap(palette()[:, :3] / 255)
        bar = figure.colorbar(ScalarMappable(cmap=shades), ax=figure.axes, shrink=0.8, pad=0.01, aspect=24)
        bar.set_label(scale, fontsize=8)
        bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def roc(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], points: Mapping[str, tuple[float, float]]) -> Figure:
    """Return ROC curves by name from (labels, scores), marking operating points (sensitivity, specificity).

    Labels are 1, 0 or NaN (left out). A curve of a single class is not drawn.
    """
    figure = Figure(figsize=(4.4, 4.2), dpi=150)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for (name, (labels, scores)), color in zip(curves.items(), _cycle(len(curves)), strict=True):
        label, score = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
        label, score = label[~np.isnan(label)], score[~np.isnan(label)]
        if len(np.unique(label)) < 2:
            continue
        false_alarms, hits, _ = roc_curve(label, score)
        area = roc_auc_score(label, score)
        axes.plot(false_alarms, hits, color=color, linewidth=1.6, label=f"{name}  {area:.3f}")
        if name in points:
            sensitivity, specificity = points[name]
            axes.plot(1 - specificity, sensitivity, "o", color=color, markersize=7, markeredgecolor="white")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False, fontsize=8)
    return tidy(figure)


def encode(figure: Figure, kind: str = "png") -> bytes:
    """Return the figure as a file of the given kind (png, jpeg)."""
    stream = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format=kind, bbox_inches="tight", pad_inches=0.05)
    return stream.getvalue()


def tidy(figure: Figure) -> Figure:
    """Apply the common style: no frame at the top and the right, small labels, constrained layout."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
        axes.tick_params(labelsize=8)
    figure.set_layout_engine("constrained")
    return figure


def _cycle(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]
