"""CSV as spreadsheets write it: other delimiters, a line that names one, decimal commas."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from fundusnet.errors import UserError

DELIMITERS = (",", ";", "\t", "|")


def read_cells(file: Path, strict: bool = False, delimiter: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, without whitespace around them.

    The delimiter is the one that the first row has most of. A line ``sep=;`` before it, as Excel writes, is skipped.

    Args:
        file: A table in UTF-8, with or without a byte order mark.
        strict: Refuse quotes inside a cell that are not doubled.
        delimiter: Takes precedence over the one that is found.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            found, skipped = _delimiter(stream.readline())
            if not skipped:
                stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter or found, strict=strict)
            for cells in reader:
                yield reader.line_num + skipped, [cell.strip() for cell in cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {str(error).strip()}") from error


def number_from(cell: str) -> float:
    """A number with a decimal point or comma; raises ValueError."""
    return float(re.sub(r"^\s*([-+]?\d+),(\d+)\s*$", r"\1.\2", cell))


def _delimiter(first: str) -> tuple[str, bool]:
    """The delimiter, and whether the first line only names it."""
    named = re.fullmatch(r"\W?sep=(.)\s*", first, re.IGNORECASE)
    if named:
        return named[1], True
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(DELIMITERS, key=unquoted.count), False
