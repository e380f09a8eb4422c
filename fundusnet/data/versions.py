"""Whether a prepared set still is what its source holds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from fundusnet.data.listing import files_below
from fundusnet.data.manifest import Manifest
from fundusnet.data.prepare_one import PrepareJob, PrepareResult
from fundusnet.data.prepared import PreparedSet

#: one line for each photograph listed, in order: what was prepared from which files, and the outcome
RECORD = "record.jsonl"


def source_state(root: Path) -> str:
    """A digest of all files below ``root``: their paths, sizes and times. Hidden files do not count."""
    state = hashlib.sha256()
    for file in sorted(files_below(root)):
        try:
            found = file.stat()
            stamp = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            stamp = "missing"
        state.update(os.fsencode(file.relative_to(root)) + f"\0{stamp}\n".encode())
    return state.hexdigest()[:32]


def file_stamp(job: PrepareJob) -> list[int]:
    """Size and time of the photograph's file and of its masks; zeros for a file that is missing."""
    stamp: list[int] = []
    for path in (job.path, *(path for paths in job.masks.values() for path in paths if path)):
        file = Path(job.root) / path
        stamp += [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else [0, 0]
    return stamp


class Record:
    """What a prepared set was made of, photograph by photograph; empty for one made before there were records.

    Args:
        prepared: The set.
    """

    def __init__(self, prepared: PreparedSet) -> None:
        self.prepared = prepared
        self._rows: dict[str, tuple[int, dict[str, Any]]] = {}
        file = prepared.folder / RECORD
        row = 0
        for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            line = json.loads(text)
            self._rows[line["result"]["image_id"]] = (row, line)
            row += not line["result"]["reason"]

    def __bool__(self) -> bool:
        return bool(self._rows)

    @property
    def image_ids(self) -> set[str]:
        """Of all photographs listed, rejected ones too."""
        return set(self._rows)

    def find(self, job: PrepareJob) -> tuple[PrepareResult, int] | None:
        """The outcome of the same photograph, made from the same files, and its row; None if there is none."""
        row, line = self._rows.get(job.image_id, (0, {}))
        if not line or line["from"] != _inputs(job) or line["stamp"] != file_stamp(job):
            return None
        return result_from({**line["result"], "row": job.row}), row

    def is_current(self, jobs: list[PrepareJob]) -> bool:
        """Whether these are the photographs of the set, and their files have not changed."""
        return len(jobs) == len(self._rows) and all(self.find(job) for job in jobs)


def record_line(job: PrepareJob, result: PrepareResult, stamp: list[int]) -> str:
    """A line of ``RECORD``."""
    outcome = {name: value for name, value in asdict(result).items() if name != "row"}  # known by the line's number
    return json.dumps({"from": _inputs(job), "stamp": stamp, "result": outcome}) + "\n"


def result_from(cells: Mapping[str, Any]) -> PrepareResult:
    """The outcome that JSON holds."""
    return PrepareResult(
        row=cells["row"],
        image_id=cells["image_id"],
        path=cells["path"],
        reason=cells["reason"],
        points=tuple(cells["points"]),
        localised=tuple(cells.get("localised", (False, False))),
        scale=float(cells.get("scale", "nan")),
        lesions=cells["lesions"],
        rejected_masks=tuple((path, reason) for path, reason in cells["rejected_masks"]),
        flags=tuple(cells.get("flags", ())),
    )


def changes(earlier: Manifest, record: Record, manifest: Manifest, jobs: list[PrepareJob]) -> str:
    """What differs between the photographs and labels of a set and those of its source now, in words."""
    before, now = record.image_ids or set(earlier.images["image_id"]), {job.image_id for job in jobs}
    counts = {
        "added": len(now - before),
        "removed": len(before - now),
        "changed": sum(job.image_id in record.image_ids and record.find(job) is None for job in jobs),
    }
    parts = [f"{count} photographs {word}" for word, count in counts.items() if count]
    kept = before & now
    for name in ("images", "readings", "lesions"):
        if _rows_of(getattr(earlier, name), name, kept) != _rows_of(getattr(manifest, name), name, kept):
            parts.append({"images": "grades, patients or splits", "readings": "readings", "lesions": "masks"}[name])
    return ", ".join(parts) or "tables"


def _rows_of(table: pd.DataFrame, name: str, kept: set[str]) -> list[str]:
    columns = {"images": ["image_id", "patient_id", "eye", "split", "grade"], "lesions": ["image_id", "finding"]}
    rows = table[table["image_id"].isin(kept)]
    return sorted(map(str, rows[columns.get(name, list(table.columns))].itertuples(index=False, name=None)))


def _inputs(job: PrepareJob) -> list[Any]:
    located = ["points found"] if job.locate else []
    return [job.path, [str(value) for value in job.points], job.masks, job.lesion_above, *located]
