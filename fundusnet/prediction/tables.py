"""Tables that grow while predictions are made, and go on after the process was killed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import yaml

from fundusnet.errors import UserError

PREDICTIONS = "predictions.csv"
REJECTED = "rejected.csv"
RECORD = "prediction.yaml"
REJECTED_COLUMNS = ("path", "reason")


class GrowingTable:
    """A CSV file to which whole groups of rows are added; what a crash tore at its end is cut off when it is opened.

    Args:
        columns: names; the column ``key`` tells what a row is about.
        group: rows of one key, which are written together.

    Attributes:
        done: keys whose rows are there already.
    """

    def __init__(self, file: Path, columns: Sequence[str], key: str, group: int = 1) -> None:
        self.done: set[str] = set()
        self._columns = tuple(columns)
        kept = 0
        if file.is_file():
            for end, row in _whole_rows(file, len(columns), columns.index(key), group):
                kept = end
                if row:
                    self.done.add(row)
        self._file: BinaryIO = file.open("r+b" if kept else "wb")
        self._file.truncate(kept)
        self._file.seek(kept)
        if not kept:
            self.add([self._columns])
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        """Write rows; they are with the operating system when this returns."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        try:
            self._file.write(text.getvalue().encode())
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self._file.name} cannot be written: {error.strerror}; make room, and the same command goes on"
            ) from error


def read_rows(file: Path) -> Iterator[dict[str, str]]:
    """Rows of a finished table, one at a time; all cells are text."""
    with file.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def read_columns(file: Path) -> list[str]:
    """The column names of a table."""
    with file.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def read_record(folder: Path) -> dict[str, Any]:
    """What ``prediction.yaml`` says of the predictions in ``folder``.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = folder / RECORD
    if not file.is_file():
        raise UserError(f"{folder} holds no predictions (no {RECORD}); give a folder that fundusnet predict wrote")
    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({str(error).splitlines()[0]}); predict into another folder") from error
    if not isinstance(record, dict):
        raise UserError(f"{file} is damaged; predict into another folder")
    return dict(record)


def write_record(folder: Path, record: dict[str, object]) -> None:
    """Write ``prediction.yaml`` in one move."""
    partial = folder / f"{RECORD}.partial"
    partial.write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(folder / RECORD)


def number(value: float) -> str:
    """A probability for a table, to the last digit that float32 has; "" where there is none."""
    return "" if np.isnan(value) else f"{value:.8g}"


def _whole_rows(file: Path, cells: int, key: int, group: int) -> Iterator[tuple[int, str]]:
    """Where the header and each whole group end, in bytes, and the key of the group ("" for the header)."""
    position = 0
    ended = True

    def lines(stream: BinaryIO) -> Iterator[str]:
        nonlocal position, ended
        for line in stream:
            position += len(line)
            ended = line.endswith(b"\n")
            yield line.decode("utf-8", errors="replace")

    with file.open("rb") as stream:
        same: list[str] = []
        try:
            for number, row in enumerate(csv.reader(lines(stream), strict=True)):
                if not ended or len(row) != cells:
                    return
                if number == 0:
                    yield position, ""
                    continue
                same = [*same, row[key]] if same and same[-1] == row[key] else [row[key]]
                if len(same) == group:
                    yield position, row[key]
                    same = []
        except csv.Error:
            return
