"""The common style of figures, and panels of pictures (S1.6).

Every function returns a ``Figure`` outside pyplot's global state, so that threads and notebooks can draw at the same
time.
"""

from __future__ import annotations

import textwrap
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
SHORT, WIDEST = 26, 44  # letters of a name that has room in a corner of the axes, and in a line below them
BANDS = 3  # curves that still have bands; more would hide each other
MARKERS = ("o", "s", "^", "D", "v", "P")
Corner = Literal["upper left", "upper right", "lower left", "lower right"]
OUTLINE_COLORS = ((120, 220, 255), (90, 255, 120))  # blue, green


def panel(tiles: Mapping[str, Pixels], title: str = "", scale: str = "") -> Figure:
    """Return pictures in a row, each under its name; ``scale`` names what the colours of maps mean, from 0 to 1."""
    figure = Figure(figsize=(2.4 * len(tiles), 2.75 if title else 2.55), dpi=130, layout="constrained")
    for axes, (name, tile) in zip(figure.subplots(1, len(tiles), squeeze=False)[0], tiles.items(), strict=True):
        axes.imshow(tile)
        method, _, says = name.partition(": ")
        axes.set_title(f"{textwrap.fill(method, 24)}\n{says}".strip(), fontsize=9)
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
    if figure.legends:
        figure.draw_without_rendering()  # the first layout with a legend below axes of a fixed shape is not the last
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


def marker(number: int) -> str:
    """Return the mark of the n-th curve, which tells it from others in grey."""
    return MARKERS[number % len(MARKERS)]


def wrap_name(name: str, widest: int = WIDEST) -> str:
    """Break a name of a legend into lines of at most ``widest`` letters."""
    return textwrap.fill(name, widest, subsequent_indent="   ", break_on_hyphens=False)


def legend(axes: Axes, corner: Corner, *, most: int = 4, title: str = "") -> None:
    """Put a legend into a corner; with long or more than ``most`` entries below the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    longest = max(map(len, labels))
    how: dict[str, Any] = {"fontsize": 8, "title": title or None, "title_fontsize": 8}
    if len(labels) <= most and longest <= SHORT:
        axes.legend(loc=corner, framealpha=0.8, edgecolor="none", **how)
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    columns = 1 if longest > SHORT else 2
    # A name that is wider than the figure would make the axes narrower.
    wrapped = [wrap_name(label) for label in labels]
    lines = sum(label.count("\n") + 1 for label in wrapped) / columns + bool(title)
    wide, high = figure.get_size_inches()
    figure.set_size_inches(wide, high + 0.18 * lines + 0.2)  # so that the axes keep their size
    figure.legend(handles, wrapped, loc="outside lower center", ncols=columns, frameon=False, alignment="left", **how)
