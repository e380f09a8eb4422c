"""The append-only record of a preparation under way: which rows are done, and proof that their pixels are there."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TextIO

import numpy as np

from fundusnet.data.manifest import Manifest
from fundusnet.data.prepare_one import Done, Job
from fundusnet.data.rows import read_header


def digest(manifest: Manifest, parameters: dict[str, Any]) -> str:
    """A name for a preparation: the same tables, root and parameters give the same name."""
    state = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    state.update(str(manifest.root.resolve()).encode())
    state.update(json.dumps(manifest.classes).encode())
    for table in (manifest.images, manifest.readings, manifest.lesions):
        state.update(table.to_csv(index=False).encode())
    if manifest.lesion_above:
        state.update(str(manifest.lesion_above).encode())
    return state.hexdigest()[:32]


class Journal:
    """Rows and outcomes in ``folder``: ``rows.npy`` takes the pixels, ``journal.jsonl`` a line a finished row.

    A folder left by another preparation (another ``identity``) is emptied. Lines torn by a crash, rows whose pixels
    do not match their checksum, and files changed since are done again.
    """

    def __init__(self, folder: Path, identity: str, count: int, size: int) -> None:
        self._folder, self._count = folder, count
        self._row_bytes = size * size * 3
        self._done: dict[int, Done] = {}
        self._stamp: dict[int, list[int]] = {}
        lines = _lines(folder / "journal.jsonl")
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
            # Ends a line that a crash may have torn.
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

    def holds(self, job: Job) -> bool:
        """Whether the row is done and the photograph's file is still the one it was made of."""
        return job.row in self._done and self._stamp[job.row] == _stamp(job)

    def add(self, done: Done, pixels: bytes, job: Job) -> None:
        """Store a finished row: first its pixels, then the line that says so."""
        if pixels:
            self._rows.seek(self._start + done.row * self._row_bytes)
            self._rows.write(pixels)
            self._rows.flush()
        self._done[done.row] = done
        self._stamp[done.row] = _stamp(job)
        self._write({"done": asdict(done), "stamp": self._stamp[done.row], "crc": zlib.crc32(pixels)})

    def results(self) -> list[Done]:
        """Outcomes in the order of the manifest, once every row is done."""
        return [self._done[row] for row in range(self._count)]

    @staticmethod
    def remove(folder: Path) -> None:
        """Delete what only a preparation under way needs."""
        (folder / "rows.npy").unlink()
        (folder / "journal.jsonl").unlink()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _restore(self, line: dict[str, Any]) -> None:
        cells = line["done"]
        done = Done(
            row=cells["row"],
            image_id=cells["image_id"],
            path=cells["path"],
            reason=cells["reason"],
            points=tuple(cells["points"]),
            lesions=cells["lesions"],
            rejected_masks=tuple((path, reason) for path, reason in cells["rejected_masks"]),
        )
        pixels = b""
        if not done.reason:
            self._rows.seek(self._start + done.row * self._row_bytes)
            pixels = self._rows.read(self._row_bytes)
        masks = (self._folder / "manifest" / path for path in done.lesions.values() if path)
        if zlib.crc32(pixels) == line["crc"] and all(path.is_file() for path in masks):
            self._done[done.row] = done
            self._stamp[done.row] = line["stamp"]


def _stamp(job: Job) -> list[int]:
    """Size and time of the photograph's file and of its masks; zeros for a file that is missing."""
    stamp: list[int] = []
    for path in (job.path, *(path for paths in job.masks.values() for path in paths if path)):
        file = Path(job.root) / path
        stamp += [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else [0, 0]
    return stamp


def _lines(file: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    if file.is_file():
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines
