"""Tables of public sets, CSV and Excel, as text checked cell by cell; errors name file and line."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd

from fundusnet.data.delimiters import HEADER_WITHIN, number_from, read_cells
from fundusnet.data.listing import photographs, suffixes
from fundusnet.data.sources import found_near, listing
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

# What openpyxl, zipfile and the XML parser (a SyntaxError) raise on damaged workbooks.
NO_WORKBOOK = (
    BadZipFile, zlib.error, SyntaxError, KeyError, ValueError, TypeError, EOFError, OSError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row under a header: its text by column, stripped; "" if the table has no such column.

    ``first`` is the first cell: in some tables that column has no name.
    """

    file: Path
    line: int
    first: str
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def number(self, column: str) -> float:
        """The cell as a finite number, NaN if it is empty; UserError otherwise."""
        cell = self.cells[column]
        try:
            value = number_from(cell) if cell else nan
        except ValueError:
            raise self.wrong(column, "a number") from None
        if cell and not isfinite(value):
            raise self.wrong(column, "a finite number")
        return value

    def code(self, column: str, meaning: Mapping[str, int]) -> int:
        """The meaning of the cell's code; 2, 2.0 and " 2" are one code. UserError for a code that ``meaning`` lacks."""
        cell = re.sub(r"^(\d+)\.0+$", r"\1", self.cells[column])
        if cell not in meaning:
            raise self.wrong(column, f"one of {', '.join(meaning)}")
        return meaning[cell]

    def wrong(self, column: str, expected: str) -> UserError:
        """The error that ``column`` is not what was ``expected``."""
        return UserError(f"{self.file}, line {self.line}: {column} '{self.cells[column]}' is not {expected}")


def read_table(
    file: Path, required: Sequence[str], optional: Sequence[str] = (), delimiter: str | None = None
) -> list[Row]:
    """Rows of a CSV or .xlsx file below its header, the first row that names every ``required`` column.

    Headers are compared by their letters and digits. A name ``a|b`` is found under either spelling, and called ``a``.
    Byte order marks, whitespace around cells, notes above the header and empty rows are dropped.

    Raises:
        UserError: The file is missing or unreadable, a column is missing, or openpyxl is not installed.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing, {found_near(file)}")
    lines = list(read_excel(file) if file.suffix.lower() == ".xlsx" else read_cells(file, delimiter=delimiter))
    for position, (_, header) in enumerate(lines[:HEADER_WITHIN]):
        places = {column.partition("|")[0]: _column_index(column, header) for column in (*required, *optional)}
        if all(places[column.partition("|")[0]] >= 0 for column in required):
            return [
                Row(
                    file,
                    line,
                    cells[0],
                    {name: cells[at] if 0 <= at < len(cells) else "" for name, at in places.items()},
                )
                for line, cells in lines[position + 1 :]
                if any(cells)
            ]
    head = [cell for cell in (lines[0][1] if lines else ()) if cell]
    missing = next((column for column in required if _column_index(column, head) < 0), required[0])
    raise UserError(f"{file}: no column '{missing.replace('|', ' or ')}', found {', '.join(head[:12]) or 'nothing'}")


def _column_index(column: str, header: Sequence[str]) -> int:
    """Position of a column in a header, -1 if it has none."""
    spellings = {_letters_and_digits(name) for name in column.split("|")}
    return next((at for at, name in enumerate(header) if _letters_and_digits(name) in spellings), -1)


def columns_of(file: Path) -> list[str]:
    """Names in the first row of a CSV file, stripped, empty ones left out."""
    return [cell for cell in next(read_cells(file), (0, []))[1] if cell]


def find_table(root: Path, *patterns: str) -> Path:
    """The file below ``root`` that the first matching pattern finds, nearest to the root; hidden files are ignored.

    Raises:
        UserError: There is none; names the patterns and what is there.
    """
    for pattern in patterns:
        files = [file for file in root.rglob(pattern) if file.is_file() and not file.name.startswith((".", "~$"))]
        if files:
            return min(files, key=lambda file: (len(file.parts), file))
    raise UserError(f"root={root}: no table {' or '.join(patterns)} in it, found {listing(root)}")


def innermost(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of the first of these names below the root; of nested ones with the same name, the innermost."""
    for name in names:
        if found := [folder for folder in root.rglob(name) if folder.is_dir() and "__MACOSX" not in folder.parts]:
            return max(found, key=lambda folder: (len(folder.parts), folder))
    return None


def by_stem(folder: Path) -> dict[str, Path]:
    """Photographs below ``folder`` by name without suffix, in lower case; of two with the same name, the first.

    Tables may name a .jpg where the unpacked and converted set has a .JPG or .png.
    """
    found: dict[str, Path] = {}
    for file in photographs(folder):
        found.setdefault(file.stem.lower(), file)
    return found


def picture_of(name: str, pictures: Mapping[str, Path]) -> Path | None:
    """The photograph that a table calls ``name``, with a suffix or without."""
    plain = Path(name.replace("\\", "/")).name
    stem = plain[: -len(Path(plain).suffix)] if Path(plain).suffix.lower() in suffixes() else plain
    return pictures.get(stem.lower())


def with_picture(rows: Sequence[Row], column: str, pictures: Mapping[str, Path], place: Path) -> list[tuple[Row, Path]]:
    """Rows with the photograph that ``column`` names; rows without one are left out and counted in the log.

    Raises:
        UserError: No row has a photograph, or two rows have the same one.
    """
    pairs = [(row, file) for row in rows if (file := picture_of(row[column], pictures)) is not None]
    if not pairs:
        table = rows[0].file if rows else place
        example = f" such as '{rows[0][column]}'" if rows else ""
        raise UserError(f"{table}: none of its {len(rows)} photographs{example} is in {place}, found {listing(place)}")
    if left := len(rows) - len(pairs):
        log.warning("%s: %d of %d rows left out, their photographs are not here", rows[0].file.name, left, len(rows))
    first: dict[Path, int] = {}
    for row, file in pairs:
        if file in first:
            raise UserError(f"{row.file}, line {row.line}: {row[column]} is on line {first[file]} already; remove one")
        first[file] = row.line
    return pairs


def report_count(what: str, found: int, published: int) -> None:
    """Log how many of the published photographs were found; a subset is not an error."""
    level = logging.INFO if found == published else logging.WARNING
    log.log(level, "%s: found %d, the published set has %d", what, found, published)


def report_findings(source: str, lesions: pd.DataFrame, findings: Iterable[str], count: int) -> None:
    """Log in how many of ``count`` photographs each finding is present, absent or undecided by the lesions table."""
    for finding in findings:
        paths = lesions.loc[lesions["finding"] == finding, "path"]
        present, absent = int((paths != "").sum()), int((paths == "").sum())
        undecided = count - present - absent
        log.info("%s %s: present %d, absent %d, undecided %d", source, finding, present, absent, undecided)


def read_excel(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row of the first sheet, as text; raises as ``read_sheets``."""
    yield from next(iter(read_sheets(file, 0).values()))


def read_sheets(file: Path, only: int | None = None) -> dict[str, list[tuple[int, list[str]]]]:
    """Line number and cells of each row, as text, by the name of the sheet.

    Args:
        file: A workbook.
        only: The place of a sheet, whose name is then ""; None for all.

    Raises:
        UserError: The workbook is damaged, or openpyxl is not installed.
    """
    try:
        read = pd.read_excel(file, sheet_name=only, header=None, dtype=object, engine="openpyxl")
    except ImportError:
        raise UserError(f"{file.name} is an Excel file: pip install 'fundusnet[sets]' brings what reads it") from None
    except NO_WORKBOOK as error:
        raise UserError(f"{file} cannot be read as an Excel file: {str(error).strip()}") from error
    return {
        str(name): [
            (line, [_cell_text(cell) for cell in cells])
            for line, cells in enumerate(table.itertuples(index=False, name=None), start=1)
        ]
        for name, table in (read if isinstance(read, dict) else {"": read}).items()
    }


def _cell_text(cell: object) -> str:
    if cell is None or cell != cell:  # NaN, an empty cell
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _letters_and_digits(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
