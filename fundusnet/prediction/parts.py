"""Merges the predictions of several machines into the folder that one command over all would have written."""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fundusnet.errors import UserError
from fundusnet.prediction.heatmaps import HEATMAPS
from fundusnet.prediction.output_files import (
    PREDICTIONS,
    RECORD,
    REJECTED,
    REPORT,
    ResumableTable,
    checkpoint_hashes,
    read_columns,
    read_record,
    read_rows,
    write_record,
)
from fundusnet.prediction.page_pictures import PICTURES
from fundusnet.system.progress import track
from fundusnet.system.shard import Shard, find_parts, in_order, link

COMMON_KEYS = ("digest", "task", "findings", "landmarks", "classes", "points", "precision", "heatmaps")
DEFAULTS = {"precision": "32-true"}  # of records that were written before there was a choice


def merge_parts(patterns: Sequence[str], folder: Path, pictures: int) -> Path:
    """Merge finished parts into ``folder``.

    Rows are merged in order of path, one at a time. Pictures become hard links if the file system supports them, else
    copies.

    Args:
        patterns: Folders, or patterns such as ``parts/*``.
        folder: Where to write; does not exist or is empty.
        pictures: Photographs whose pictures the report page itself holds, at most.

    Raises:
        UserError: A part is missing, unfinished, given twice or of another command, or ``folder`` is not empty.
    """
    from fundusnet.prediction.report_page import write_page

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output={folder} is not empty; choose another folder")
    parts = find_parts(patterns, lambda path: (path / RECORD).is_file(), f"predictions (a folder with {RECORD})")
    records = [read_record(part) for part in parts]
    _check(parts, records)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in (PREDICTIONS, REJECTED):
        _merge_tables([part / name for part in parts], partial / name)
    for part in parts:
        for name in (HEATMAPS, PICTURES):
            _link_pictures(part / name, partial / name)
    write_record(partial, {**records[0], "shard": str(Shard()), "merged": [str(part.resolve()) for part in parts]})
    write_page(partial, partial / REPORT, pictures)
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    return folder


def _check(parts: Sequence[Path], records: Sequence[dict[str, Any]]) -> None:
    first = records[0]
    for part, record in zip(parts, records, strict=True):
        if record.get("state") != "done":
            raise UserError(f"{part} is not finished; run its command again to resume it")
        different = any(first.get(key, DEFAULTS.get(key)) != record.get(key, DEFAULTS.get(key)) for key in COMMON_KEYS)
        if different or checkpoint_hashes(first) != checkpoint_hashes(record):
            raise UserError(f"{parts[0]} and {part} are parts of different commands; merge parts of one")
    shards = (Shard.parsed(record.get("shard")) for record in records)
    in_order(zip(parts, shards, strict=True), "predict")


def _merge_tables(files: Sequence[Path], target: Path) -> None:
    columns = read_columns(files[0])
    key = ("path", "image_id") if "image_id" in columns else ("path",)

    def keyed(file: Path) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        for row in read_rows(file):
            yield tuple(row[name] for name in key), list(row.values())

    # heapq.merge is stable, and all rows of a photograph are in one part: they stay together and in order.
    rows = heapq.merge(*(keyed(file) for file in files), key=lambda pair: pair[0])
    with ResumableTable(target, columns, columns[0]) as table:
        for _, row in track(rows, f"merging {target.name}"):
            table.add([row])


def _link_pictures(source: Path, target: Path) -> None:
    if not source.is_dir():
        return
    target.mkdir(exist_ok=True)
    with os.scandir(source) as files:
        for file in files:
            link(Path(file.path), target / file.name)
