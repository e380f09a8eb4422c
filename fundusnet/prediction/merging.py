"""Parts that several machines predicted, put together: what one command over all would have written."""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fundusnet.errors import UserError
from fundusnet.prediction import heatmaps
from fundusnet.prediction.tables import (
    PREDICTIONS,
    RECORD,
    REJECTED,
    GrowingTable,
    read_columns,
    read_record,
    read_rows,
    write_record,
)
from fundusnet.system.progress import track
from fundusnet.system.shard import Shard, find_parts, in_order, link

SAME = ("digest", "task", "findings", "classes", "heatmaps")


def merge(patterns: Sequence[str], folder: Path, pictures: int) -> Path:
    """Merge the finished parts that ``patterns`` name (folders, or patterns such as ``parts/*``) into ``folder``.

    Rows come in the order of one command over all, a row at a time. Heat maps become hard links where the file system
    has them, else copies.

    Raises:
        UserError: a part is missing, unfinished, twice there or of something else, or ``folder`` is not empty.
    """
    from fundusnet.prediction.page import write_page

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output={folder} is not empty; choose another folder for the whole")
    parts = find_parts(patterns, lambda path: (path / RECORD).is_file(), f"predictions (a folder with {RECORD})")
    records = [read_record(part) for part in parts]
    _check(parts, records)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in (PREDICTIONS, REJECTED):
        _merge_tables([part / name for part in parts], partial / name)
    for part in parts:
        _link_maps(part / heatmaps.FOLDER, partial / heatmaps.FOLDER)
    write_record(partial, {**records[0], "shard": str(Shard()), "merged": [str(part.resolve()) for part in parts]})
    write_page(partial, partial / "report.html", pictures)
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    return folder


def _check(parts: Sequence[Path], records: Sequence[dict[str, Any]]) -> None:
    for part, record in zip(parts, records, strict=True):
        if record.get("state") != "done":
            raise UserError(f"{part} is not finished; run its command again, it goes on")
        sums = [[each["sha256"] for each in one["checkpoints"]] for one in (records[0], record)]
        if sums[0] != sums[1] or any(records[0].get(key) != record.get(key) for key in SAME):
            raise UserError(f"{parts[0]} and {part} are parts of different commands; merge parts of one")
    shards = (Shard.parsed(record.get("shard")) for record in records)
    in_order(zip(parts, shards, strict=True), "predict")


def _merge_tables(files: Sequence[Path], target: Path) -> None:
    columns = read_columns(files[0])
    key = ("path", "image_id") if "image_id" in columns else ("path",)

    def keyed(file: Path) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        for row in read_rows(file):
            yield tuple(row[name] for name in key), list(row.values())

    # heapq.merge keeps rows of one key in their order: those of a photograph lie in one part.
    rows = heapq.merge(*(keyed(file) for file in files), key=lambda pair: pair[0])
    with GrowingTable(target, columns, columns[0]) as table:
        for _, row in track(rows, f"merging {target.name}"):
            table.add([row])


def _link_maps(source: Path, target: Path) -> None:
    if not source.is_dir():
        return
    target.mkdir(exist_ok=True)
    with os.scandir(source) as files:
        for file in files:
            link(Path(file.path), target / file.name)
