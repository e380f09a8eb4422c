"""What goes into a paper: every table in three formats, every figure in three, a methods paragraph, a checklist."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from fundusnet.evaluation.figures import encode
from fundusnet.evaluation.tables import markdown_table
from fundusnet.system.files import write_text

ONE_COLUMN, TWO_COLUMNS = 3.35, 7.0  # inches: 85 and 178 mm, as most journals have them
DPI = 600
# Type 42 embeds fonts as TrueType, which journals ask for; an SVG keeps its letters as shapes.
EMBEDDED: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "font.family": "DejaVu Sans", "svg.hashsalt": "fundusnet"}
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "λ": r"$\lambda$", "κ": r"$\kappa$", "–": "--",
    "×": r"$\times$", "†": r"\textdagger{}", ">": r"$>$", "<": r"$<$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: What it shows.
        head: Titles of the columns.
        rows: As long as ``head`` each.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Paper:
    """The content of the folder.

    Attributes:
        tables: File name without suffix → table.
        figures: Likewise; drawn at the width of one column if they have one panel, of two if they have more.
        facts: What the templates ``methods.md.j2`` and ``checklist.md.j2`` say.
    """

    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_paper(folder: Path, paper: Paper) -> Path:
    """Write ``tables/``, ``figures/``, ``methods.md`` and ``checklist.md`` to ``folder`` and return it."""
    for name, table in paper.tables.items():
        for suffix, render in (("csv", _csv), ("tex", latex), ("md", _markdown)):
            write_text(folder / "tables" / f"{name}.{suffix}", render(table))
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(EMBEDDED):
        for name, figure in paper.figures.items():
            _fit(figure)
            for kind in ("pdf", "svg", "png"):
                (folder / "figures" / f"{name}.{kind}").write_bytes(encode(figure, kind, dpi=DPI, tight=False))
    environment = Environment(loader=PackageLoader("fundusnet.evaluation", "."), undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = environment.keep_trailing_newline = True
    for name in ("methods.md", "checklist.md"):
        write_text(folder / name, environment.get_template(f"{name}.j2").render(**paper.facts))
    return folder


def latex(table: Table) -> str:
    """Return a table for LaTeX with ``\\usepackage{booktabs}``, its caption above it."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(table.caption)}}}",
        rf"\begin{{tabular}}{{{'l' * len(table.head)}}}",
        r"\toprule",
        f"{' & '.join(map(_escaped, table.head))} \\\\",
        r"\midrule",
        *(f"{' & '.join(map(_escaped, row))} \\\\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def plain_cell(cell: Mapping[str, Any] | None) -> str:
    """Return what ``tables.cell`` returned on one line: value and interval; † marks an unreliable one.

    Examples:
        >>> plain_cell({"value": "0.912", "interval": "0.72 to 1.00", "remarks": [], "unreliable": False})
        '0.912 (0.72 to 1.00)'
    """
    if cell is None:
        return "–"
    interval = f" ({cell['interval']})" if cell["interval"] else ""
    mark = " †" if cell["unreliable"] else ""
    return f"{cell['value']}{interval}{mark}"


def _fit(figure: Figure) -> None:
    """Give a figure the width of one column or two, and the height that keeps its shape."""
    wide, high = figure.get_size_inches()
    panels = [axes for axes in figure.axes if axes.axison or axes.images]
    target = ONE_COLUMN if len(panels) == 1 else TWO_COLUMNS
    figure.set_size_inches(target, high * target / wide)
    if figure.get_suptitle():
        figure.suptitle(figure.get_suptitle(), fontsize=8.5)
    for axes in figure.axes:
        axes.title.set_fontsize(6.5 if axes.images and len(panels) > 3 else 8)
        axes.tick_params(labelsize=7)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_fontsize(8)
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()))]
    for text in (text for legend in legends for text in (legend.get_title(), *legend.get_texts())):
        text.set_fontsize(6.5)


def _csv(table: Table) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.head, *table.rows])
    return stream.getvalue()


def _markdown(table: Table) -> str:
    return f"{table.caption}\n\n{markdown_table(table.head, table.rows)}"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
