"""A table of any origin as text: CSV in any delimiter and encoding, or the sheets of a workbook."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fundusnet.data.delimiters import HEADER_WITHIN, read_cells
from fundusnet.data.intake import words
from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.sources import found_near
from fundusnet.data.sources.tables import read_sheets
from fundusnet.errors import UserError

Lines = list[tuple[int, list[str]]]  # the number of each line and its cells


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns.

    Attributes:
        file: Where it is from.
        columns: Names, each different.
        rows: The cells of each row, as many as there are columns.
        lines: Where each row is in the file, after the name of its table where several were joined; several rows may
            be in one place.
        sheet: The sheet of a workbook of several, else "".
        side: The eye in the name of the file or the sheet: "left", "right", or "" for none.
        origins: Columns that were made from others → these, in the file.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]
    sheet: str = ""
    side: str = ""
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def read_any_table(file: Path, pictures: Photographs) -> list[Table]:
    """Read the table of a file, or one for each sheet of a workbook.

    The header is the first row about as wide as the table, and rows below it that name columns without a name; a first
    row of data gets names.

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
    sheets: Mapping[str, Lines] = (
        read_sheets(file)
        if suffix in (".xlsx", ".xlsm")
        else {"": list(read_cells(file, any_encoding=True, spaces=True))}
    )
    tables = [
        table
        for name, lines in sheets.items()
        if (table := _table(file, name if len(sheets) > 1 else "", lines, pictures))
    ]
    if not tables:
        raise UserError(f"table={file} holds no table: no row has two cells; give the table of your labels")
    return tables


def _table(file: Path, sheet: str, every: Lines, pictures: Photographs) -> Table | None:
    """The table of these lines, None if no row has two cells."""
    lines = [(line, cells) for line, cells in every if any(cells)]
    width = max((sum(map(bool, cells)) for _, cells in lines[:100]), default=0)
    if width < 2:
        return None
    start = next(at for at, (_, cells) in enumerate(lines) if 2 * sum(map(bool, cells)) >= width and len(cells) > 1)
    if start >= HEADER_WITHIN:
        start = 0
    header = lines[start][1]
    named = any(_is_picture(cell, pictures) for cell in header)
    if named:
        header, body = [], lines[start:]
    else:
        header, body = _whole_header(header, lines[start + 1 :], pictures)
    across = max(len(cells) for _, cells in lines[start:])
    header = [*header, *[""] * (across - len(header))]
    names = _distinct(header)
    rows = tuple((*cells, *[""] * (across - len(cells))) for _, cells in body)
    kept = [at for at in range(across) if header[at] or any(row[at] for row in rows)]
    return Table(
        file,
        tuple(names[at] for at in kept),
        tuple(tuple(row[at] for at in kept) for row in rows),
        tuple(str(line) for line, _ in body),
        sheet,
        words.side_in(file.stem)[0] or words.side_in(sheet)[0],
    )


def _whole_header(header: list[str], below: Lines, pictures: Photographs) -> tuple[list[str], Lines]:
    """The header with what the rows below add to it, and the rest.

    Such a row has words under columns without a name, or under the first of several, as "Pneumatic" and "Perkins" are
    under "IOP"; elsewhere it is empty or says the same again.
    """
    while below:
        cells = [*below[0][1], *[""] * (len(header) - len(below[0][1]))]
        names = [*header, *[""] * (len(cells) - len(header))]
        alone = [bool(name) and (after != "") for name, after in zip(names, [*names[1:], "end"], strict=True)]
        adds = [cell and not name for cell, name in zip(cells, names, strict=True)]
        if (
            not any(adds)
            or any(each and cell not in ("", name) for each, cell, name in zip(alone, cells, names, strict=True))
            or any(cell and (words.yes_or_no(cell) is not None or not re.search(r"[^\W\d]", cell)) for cell in cells)
            or any(_is_picture(cell, pictures) for cell in cells)
        ):
            break
        header = [" ".join(dict.fromkeys(filter(None, (name, cell)))) for name, cell in zip(names, cells, strict=True)]
        below = below[1:]
    return header, below


def _is_picture(cell: str, pictures: Photographs) -> bool:
    """Whether a cell names a photograph by more than a number, which a header may have too."""
    return bool(re.search(r"\D", cell)) and bool(pictures.candidates(cell))


def _distinct(header: Sequence[str]) -> list[str]:
    names: list[str] = []
    for number, name in enumerate(header, start=1):
        name = " ".join(name.split()) or f"column {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return names
