"""The common style of figures, and panels of pictures (S1.6).

Every function returns a ``Figure`` outside pyplot's global state, so that threads and notebooks can draw at the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from fundusnet.evaluation.overlays import Pixels, palette

# Those of Okabe and Ito, which colour-blind readers tell apart; dashes do so in grey.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
Corner = Literal["upper left", "upper right", "lower left", "lower right"]
OUTLINE_COLORS = ((120, 220, 255), (90, 255, 120))  # blue, green


def panel(tiles: Mapping[str, Pixels], title: str = "", scale: str = "") -> Figure:
    """Return pictures in a row, each under its name; ``scale`` names what the colours of maps mean, from 0 to 1."""
    figure = Figure(figsize=(2.4 * len(tiles), 2.75 if title else 2.55), dpi=130, layout="constrained")
    for axes, (name, tile) in zip(figure.subplots(1, len(tiles), squeeze=False)[0], tiles.items(), strict=True):
        axes.imshow(tile)
        axes.set_title(name.replace(": ", "\n", 1), fontsize=9)  # a method, and below it what it says
        axes.axis("off")
    if scale:
        shades = ListedColormap(palette()[:, :3] / 255)
        bar = figure.colorbar(ScalarMappable(cmap=shades), ax=figure.axes, shrink=0.8, pad=0.01, aspect=24)
        bar.set_label(scale, fontsize=8)
        bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def encode(figure: Figure, kind: str = "png", *, dpi: int | None = None, tight: bool = True) -> bytes:
    """Return the figure as a file.

    Args:
        figure: The figure.
        kind: png, jpeg, pdf or svg.
        dpi: Pixels an inch; None is the figure's own.
        tight: Cut to what is drawn; otherwise the file has the figure's size.
    """
    stream = BytesIO()
    FigureCanvasAgg(figure)
    cut: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.05} if tight else {}
    # Without a date, the same figure is the same file.
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    figure.savefig(stream, format=kind, dpi=dpi or "figure", metadata=undated, **cut)
    return stream.getvalue()


def tidy(figure: Figure) -> Figure:
    """Apply the common style: no frame at the top and the right, small labels, constrained layout."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
        axes.tick_params(labelsize=8)
    figure.set_layout_engine("constrained")
    return figure


def line_style(number: int) -> dict[str, Any]:
    """Return colour and dashes of the n-th curve; a colour that comes again has other dashes."""
    colors = len(COLORS)
    return {"color": COLORS[number % colors], "linestyle": DASHES[(number + number // colors) % colors]}


def legend(axes: Axes, corner: Corner, *, most: int = 4) -> None:
    """Put a legend into a corner; with more than ``most`` entries below the axes, where it covers nothing."""
    _, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    if len(labels) <= most:
        axes.legend(loc=corner, framealpha=0.8, edgecolor="none", fontsize=8)
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    wide, high = figure.get_size_inches()
    # The figure grows, so that the axes keep their size.
    columns = 1 if max(map(len, labels)) > 26 else 2
    figure.set_size_inches(wide, high + 0.19 * -(-len(labels) // columns))
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=columns, frameon=False, fontsize=8, borderaxespad=0)
