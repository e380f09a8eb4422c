"""The append-only record of an unfinished preparation: which rows are done, with checksums of their pixels."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TextIO

import numpy as np

from fundusnet.data.manifest import Manifest
from fundusnet.data.prepare_one import PrepareJob, PrepareResult
from fundusnet.data.rows import read_header
from fundusnet.data.versions import file_stamp, record_line, result_from


def preparation_identity(manifest: Manifest, parameters: dict[str, Any]) -> str:
    """A hash of the tables, their root and the parameters: equal for preparations with equal results."""
    state = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    state.update(str(manifest.root.resolve()).encode())
    state.update(json.dumps(manifest.classes).encode())
    for table in (manifest.images, manifest.readings, manifest.lesions):
        state.update(table.to_csv(index=False).encode())
    if manifest.lesion_above:
        state.update(str(manifest.lesion_above).encode())
    return state.hexdigest()[:32]


class Journal:
    """Rows and results in ``folder``: ``rows.npy`` holds the pixels, ``journal.jsonl`` one line for each finished row.

    A folder left by another preparation (another ``identity``) is emptied. Rows with an incomplete line, with pixels
    that do not match their checksum, or with files that changed since are done again.
    """

    def __init__(self, folder: Path, identity: str, count: int, size: int) -> None:
        self._folder, self._count = folder, count
        self._row_bytes = size * size * 3
        self._results: dict[int, PrepareResult] = {}
        self._stamp: dict[int, list[int]] = {}
        lines = _read_lines(folder / "journal.jsonl")
        fresh = not lines or lines[0].get("identity") != identity or not (folder / "rows.npy").is_file()
        if fresh:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
        self._rows: BinaryIO = (folder / "rows.npy").open("r+b")
        read_header(self._rows)
        self._start = self._rows.tell()
        self._file: TextIO = (folder / "journal.jsonl").open("a", encoding="utf-8")
        if fresh:
            self._write({"identity": identity})
        else:
            # A crash may have left the last line incomplete.
            self._file.write("\n")
            for line in lines[1:]:
                self._restore(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()
        self._file.close()

    def holds(self, job: PrepareJob) -> bool:
        """Whether the row is done, and the photograph and its masks have not changed since."""
        return job.row in self._results and self._stamp[job.row] == file_stamp(job)

    def add(self, result: PrepareResult, pixels: bytes, job: PrepareJob) -> None:
        """Store a finished row: first its pixels, then its line."""
        if pixels:
            self._rows.seek(self._start + result.row * self._row_bytes)
            self._rows.write(pixels)
            self._rows.flush()
        self._results[result.row] = result
        self._stamp[result.row] = file_stamp(job)
        self._write({"done": asdict(result), "stamp": self._stamp[result.row], "crc": zlib.crc32(pixels)})

    def results(self) -> list[PrepareResult]:
        """Results in the order of the manifest, once every row is done."""
        return [self._results[row] for row in range(self._count)]

    def write_record(self, file: Path, jobs: Sequence[PrepareJob]) -> None:
        """Write what each row was made of, for ``fundusnet.data.versions.Record``."""
        lines = (record_line(job, self._results[job.row], self._stamp[job.row]) for job in jobs)
        with file.open("w", encoding="utf-8") as stream:
            stream.writelines(lines)

    @staticmethod
    def remove(folder: Path) -> None:
        """Delete the files that only an unfinished preparation needs."""
        (folder / "rows.npy").unlink()
        (folder / "journal.jsonl").unlink()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _restore(self, line: dict[str, Any]) -> None:
        result = result_from(line["done"])
        pixels = b""
        if not result.reason:
            self._rows.seek(self._start + result.row * self._row_bytes)
            pixels = self._rows.read(self._row_bytes)
        masks = (self._folder / "manifest" / path for path in result.lesions.values() if path)
        if zlib.crc32(pixels) == line["crc"] and all(path.is_file() for path in masks):
            self._results[result.row] = result
            self._stamp[result.row] = line["stamp"]


def _read_lines(file: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    if file.is_file():
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines
