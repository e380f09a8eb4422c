"""The tables and the record in an output folder; a killed process leaves them in a state to resume from."""

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
from fundusnet.system.files import write_text

PREDICTIONS = "predictions.csv"
REJECTED = "rejected.csv"
REJECTED_COLUMNS = ("path", "reason")
RECORD = "prediction.yaml"
REPORT = "report.html"


class ResumableTable:
    """A CSV file to which groups of rows are appended; opening it drops an incomplete group at its end.

    Args:
        file: The table; created if it does not exist.
        columns: Column names.
        key: Column that names the group of a row.
        group: Rows in each group.

    Attributes:
        done: Keys whose rows the file holds already.
    """

    def __init__(self, file: Path, columns: Sequence[str], key: str, group: int = 1) -> None:
        self.done: set[str] = set()
        self._columns = tuple(columns)
        kept = 0
        if file.is_file():
            for end, name in _complete_groups(file, len(columns), columns.index(key), group):
                kept = end
                if name:
                    self.done.add(name)
        self._file: BinaryIO = file.open("r+b" if kept else "wb")
        self._file.truncate(kept)
        self._file.seek(kept)
        if not kept:
            self.add([self._columns])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        """Append rows and hand them to the operating system.

        Raises:
            UserError: The file cannot be written.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        try:
            self._file.write(text.getvalue().encode())
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self._file.name} cannot be written: {error.strerror}; make room and run the same command again to "
                "resume"
            ) from error


def read_rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a finished table, one at a time; all cells are text."""
    with file.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def read_columns(file: Path) -> list[str]:
    """The column names of a table."""
    with file.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def read_record(folder: Path) -> dict[str, Any]:
    """The content of ``prediction.yaml`` in ``folder``.

    Raises:
        UserError: The file is missing or damaged.
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
    """Write ``prediction.yaml`` atomically."""
    write_text(folder / RECORD, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def checkpoint_hashes(record: dict[str, Any]) -> list[str]:
    """The SHA-256 of each checkpoint that a record names."""
    return [str(checkpoint["sha256"]) for checkpoint in record.get("checkpoints") or ()]


def format_number(value: float) -> str:
    """A probability for a table, with all digits of a float32; "" for NaN.

    Examples:
        >>> format_number(0.25), format_number(float("nan"))
        ('0.25', '')
    """
    return "" if np.isnan(value) else f"{value:.8g}"


def _complete_groups(file: Path, cells: int, key: int, group: int) -> Iterator[tuple[int, str]]:
    """The byte where the header and each complete group end, and the key of the group ("" for the header)."""
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
