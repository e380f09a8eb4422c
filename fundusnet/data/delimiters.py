"""CSV as spreadsheets write it: other delimiters and encodings, a line that names one, decimal commas."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fundusnet.errors import UserError

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = (",", ";", "\t", "|")
HEADER_WITHIN = 5  # lines in which the header is searched for
JUDGED_BY = 50  # rows that tell the delimiter


def read_cells(
    file: Path, delimiter: str | None = None, any_encoding: bool = False, spaces: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, without whitespace around them.

    The delimiter is the one that parts most rows into equally many cells; where several do, the one that the first row
    with any has most of. There may be notes above the header. A line ``sep=;`` before it, as Excel writes, is skipped.

    Args:
        file: A table in UTF-8, with or without a byte order mark, or in UTF-16 with one.
        delimiter: Takes precedence over the one that is found.
        any_encoding: Read what is not UTF-8 as Windows-1252, which spreadsheets write in Western Europe and America.
        spaces: Without any other delimiter, spaces separate the cells if all rows then have as many.

    Raises:
        UserError: The file cannot be read, or a cell begins with a quote that does not end with the cell.
    """
    last = 0
    try:
        text = _decoded(file.read_bytes(), any_encoding)
        with io.StringIO(text, newline="") as stream:
            lines = text.splitlines()
            named = _named_delimiter(lines)
            if spaces and delimiter is None and _in_columns(lines):
                for number, line in enumerate(lines, start=1):
                    yield number, line.split()
                return
            if named:
                stream.readline()
            reader = _reader(stream, delimiter or named or _delimiter(text))
            for cells in reader:
                last = reader.line_num + bool(named)
                yield last, [cell.strip() for cell in cells]
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {str(error).strip()}") from error
    except csv.Error as error:
        raise UserError(
            f"{file} cannot be read as CSV: the cells from line {last + 1} on are not clear, {str(error).strip()}; "
            "write a quote that belongs to the text twice, or remove it"
        ) from error


def _reader(stream: io.StringIO, delimiter: str) -> Reader:
    """Rows of cells. Where a quote is not closed, it raises; else it took the rest of the table into one cell."""
    return csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)


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


def _named_delimiter(lines: list[str]) -> str | None:
    """The delimiter that the first line only names."""
    named = re.fullmatch(r"\W?sep=(.)\s*", lines[0], re.IGNORECASE) if lines else None
    return named[1] if named else None


def _delimiter(text: str) -> str:
    unquoted = (re.sub(r'"[^"]*"', "", line) for line in text.splitlines()[:HEADER_WITHIN])
    first = next((line for line in unquoted if any(each in line for each in DELIMITERS)), "")

    def rows_alike(delimiter: str) -> int:
        rows = _reader(io.StringIO(text, newline=""), delimiter)
        try:
            widths = Counter(map(len, islice(rows, JUDGED_BY)))
        except csv.Error:  # such as "a";"b" in cells apart by commas
            return 0
        return max((count for width, count in widths.items() if width > 1), default=0)

    return max(DELIMITERS, key=lambda each: (rows_alike(each), first.count(each)))
