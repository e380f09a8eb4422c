"""CSV as spreadsheets write it: other delimiters and encodings, a line that names one, decimal commas."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from fundusnet.errors import UserError

DELIMITERS = (",", ";", "\t", "|")
HEADER_WITHIN = 5  # lines in which the header is searched for


def read_cells(
    file: Path, strict: bool = False, delimiter: str | None = None, any_encoding: bool = False, spaces: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, without whitespace around them.

    The delimiter is the one that the first row with any has most of, which is not always the first: there may be notes
    above. A line ``sep=;`` before it, as Excel writes, is skipped.

    Args:
        file: A table in UTF-8, with or without a byte order mark, or in UTF-16 with one.
        strict: Refuse quotes inside a cell that are not doubled.
        delimiter: Takes precedence over the one that is found.
        any_encoding: Read what is not UTF-8 as Windows-1252, which spreadsheets write in Western Europe and America.
        spaces: Without any other delimiter, spaces separate the cells if all rows then have as many.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        text = _decoded(file.read_bytes(), any_encoding)
        with io.StringIO(text, newline="") as stream:
            lines = text.splitlines()
            found, skipped = _delimiter(lines[:HEADER_WITHIN])
            if spaces and delimiter is None and _in_columns(lines):
                for number, line in enumerate(lines, start=1):
                    yield number, line.split()
                return
            if skipped:
                stream.readline()
            reader = csv.reader(stream, delimiter=delimiter or found, strict=strict)
            for cells in reader:
                yield reader.line_num + skipped, [cell.strip() for cell in cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {str(error).strip()}") from error


def _decoded(raw: bytes, any_encoding: bool) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")  # spreadsheets put a byte order mark before the first column's name
    except UnicodeDecodeError:
        if not any_encoding:
            raise
        return raw.decode("cp1252", "replace")


def number_from(cell: str) -> float:
    """A number with a decimal point or comma; raises ValueError."""
    return float(re.sub(r"^\s*([-+]?\d+),(\d+)\s*$", r"\1.\2", cell))


def _in_columns(lines: list[str]) -> bool:
    """Whether spaces alone separate as many cells, two or more, in each row."""
    widths = {len(line.split()) for line in lines} - {0}
    return len(widths) == 1 and widths != {1} and not any(each in line for line in lines for each in DELIMITERS)


def _delimiter(lines: list[str]) -> tuple[str, bool]:
    """The delimiter, and whether the first line only names it."""
    if lines and (named := re.fullmatch(r"\W?sep=(.)\s*", lines[0], re.IGNORECASE)):
        return named[1], True
    unquoted = (re.sub(r'"[^"]*"', "", line) for line in lines)
    row = next((line for line in unquoted if any(each in line for each in DELIMITERS)), "")
    return max(DELIMITERS, key=row.count), False
