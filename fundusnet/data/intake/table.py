"""A table of any origin as text: CSV in any delimiter and encoding, or Excel."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fundusnet.data.delimiters import HEADER_WITHIN, read_cells
from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.intake.words import side_in
from fundusnet.data.sources import found_near
from fundusnet.data.sources.tables import read_excel
from fundusnet.errors import UserError

EYE = "eye (from the columns)"


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns.

    Attributes:
        file: Where it is from.
        columns: Names, each different.
        rows: The cells of each row, as many as there are columns.
        lines: The line of each row in the file; the rows of two eyes may share one.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def read_any_table(file: Path, pictures: Photographs) -> Table:
    """Read a table below its header, the first row about as wide as the table; a first row of data gets names.

    Args:
        file: CSV or .xlsx.
        pictures: By these a first row is known that already names a photograph.

    Raises:
        UserError: The file is missing, unreadable, in another format, or holds no table.
    """
    if not file.is_file():
        raise UserError(f"table={file} is missing, {found_near(file)}")
    suffix = file.suffix.lower()
    if suffix in (".xls", ".ods", ".numbers", ".xlsb", ".json", ".sav", ".dta"):
        raise UserError(f"table={file}: {suffix} cannot be read; save the table as CSV or .xlsx")
    excel = suffix in (".xlsx", ".xlsm")
    lines = [
        (line, cells)
        for line, cells in (read_excel(file) if excel else read_cells(file, any_encoding=True))
        if any(cells)
    ]
    width = max((sum(map(bool, cells)) for _, cells in lines[:100]), default=0)
    if width < 2:
        raise UserError(f"table={file} holds no table: no row has two cells; give the table of your labels")
    start = next(at for at, (_, cells) in enumerate(lines) if 2 * sum(map(bool, cells)) >= width and len(cells) > 1)
    if start >= HEADER_WITHIN:
        start = 0
    header = lines[start][1]
    named = any(_is_picture(cell, pictures) for cell in header)
    body = lines[start:] if named else lines[start + 1 :]
    across = max(len(cells) for _, cells in lines[start:])
    names = _distinct([""] * across if named else [*header, *[""] * (across - len(header))])
    rows = tuple((*cells, *[""] * (across - len(cells))) for _, cells in body)
    kept = [at for at in range(across) if header[at : at + 1] != [""] or any(row[at] for row in rows)]
    return Table(
        file,
        tuple(names[at] for at in kept),
        tuple(tuple(row[at] for at in kept) for row in rows),
        tuple(line for line, _ in body),
    )


def one_row_an_eye(table: Table, images: Sequence[str]) -> Table:
    """A table in which a row has a photograph of either eye, with a row for each.

    Columns that name an eye become one, such as ``left_diagnosis`` and ``right_diagnosis``; the others are of both.

    Args:
        table: As it was read.
        images: Its two columns of photographs, whose names differ in the eye.
    """
    sides = {name: side_in(name) for name in table.columns}
    pairs = Counter(rest for side, rest in sides.values() if side)
    of_eyes = {name: rest for name, (side, rest) in sides.items() if side and pairs[rest] == 2}
    shared = [name for name in table.columns if name not in of_eyes]
    names = list(dict.fromkeys(of_eyes.values()))
    rows, lines = [], []
    for row, line in zip(table.rows, table.lines, strict=True):
        cells = dict(zip(table.columns, row, strict=True))
        for image in images:
            eye = sides[image][0]
            mine = {rest: cells[name] for name, rest in of_eyes.items() if sides[name][0] == eye}
            if mine[sides[image][1]]:
                rows.append((*(cells[name] for name in shared), *(mine.get(name, "") for name in names), eye))
                lines.append(line)
    return replace(table, columns=(*shared, *names, EYE), rows=tuple(rows), lines=tuple(lines))


def _is_picture(cell: str, pictures: Photographs) -> bool:
    """Whether a cell names a photograph by more than a number, which a header may have too."""
    return bool(re.search(r"\D", cell)) and bool(pictures.candidates(cell))


def _distinct(header: Sequence[str]) -> list[str]:
    names: list[str] = []
    for number, name in enumerate(header, start=1):
        name = " ".join(name.split()) or f"column {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return names
