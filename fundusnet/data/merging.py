"""Merging the parts of a prepared set, made on several machines, into the set that one command would have made.

Parts are blocks of consecutive photographs, so tables and pixels are concatenated. Only near-identical photographs
may be in two parts: they are searched for again.
"""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from fundusnet.data.duplicates import write_duplicates
from fundusnet.data.prepare import finish, is_occupied, no_photograph_error, open_same
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.rows import concatenate
from fundusnet.data.versions import RECORD
from fundusnet.errors import UserError
from fundusnet.system.shard import Shard, find_parts, in_order, link

log = logging.getLogger(__name__)

REJECTED_COLUMNS = ("path", "reason")


def finished_parts(patterns: Sequence[str]) -> dict[Path, dict[str, Any]]:
    """All parts of one set in order: folder → contents of its ``prepared.yaml``.

    Args:
        patterns: Folders or patterns such as ``parts/*``.

    Raises:
        UserError: A part is missing, unfinished, damaged, duplicated or of another set, or there is none.
    """
    for pattern in patterns:
        for partial in sorted(glob(pattern.rstrip("/") + ".partial")):  # noqa: PTH207 - the pattern may be absolute
            part = Path(partial.removesuffix(".partial"))
            if not part.exists():
                raise UserError(f"{part} is not finished; run its command again to resume it")
    folders = find_parts(
        patterns, lambda path: (path / "prepared.yaml").is_file(), "prepared part (a folder with prepared.yaml)"
    )
    found = {part: _check_part(part) for part in folders}
    for part, info in found.items():
        if info["identity"] != found[folders[0]]["identity"]:
            raise UserError(
                f"{folders[0]} and {part} are parts of different photographs or settings; merge those of one"
            )
    ordered = in_order(((part, Shard.parsed(info["shard"])) for part, info in found.items()), "prepare")
    return {part: found[part] for part in ordered}


def merge_parts(parts: Mapping[Path, Mapping[str, Any]], folder: Path) -> PreparedSet:
    """Merge all parts of a set, as ``finished_parts`` gives them, into ``folder`` and open it.

    A set that exists already and was made from the same photographs and settings is opened. Masks become hard links if
    the file system has them, else copies.

    Raises:
        UserError: No photograph of any part could be read, or ``folder`` holds something else.
    """
    info = {key: value for key, value in next(iter(parts.values())).items() if key != "shard"}
    if is_occupied(folder):
        return open_same(folder, info["identity"])
    counts = {name: sum(part["counts"].get(name, 0) for part in parts.values()) for name in info["counts"]}
    if not counts["prepared"]:
        raise no_photograph_error(info["root"], (reason for part in parts for _, reason in _read_rejected(part)))

    # Not .partial: one command over all photographs may be writing there.
    partial = folder.with_name(folder.name + ".merging")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "manifest").mkdir(parents=True)
    concatenate([part / "pixels.npy" for part in parts], partial / "pixels.npy")
    for name in ("images.csv", "readings.csv", "lesions.csv"):
        _merge_tables([part / "manifest" / name for part in parts], partial / "manifest" / name)
    for part in parts:
        for mask in (part / "manifest" / "lesions").glob("*/*.png"):
            target = partial / mask.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            link(mask, target)
    _merge_rejected(parts, partial / "rejected.csv")
    _merge_tables([part / "flagged.csv" for part in parts], partial / "flagged.csv")
    if all((part / RECORD).is_file() for part in parts):
        with (partial / RECORD).open("wb") as out:
            for part in parts:
                out.write((part / RECORD).read_bytes())
    images = pd.read_csv(partial / "manifest" / "images.csv", usecols=["image_id"], dtype=str, keep_default_na=False)
    counts["duplicate_groups"] = write_duplicates(
        partial, images["image_id"], info["parameters"]["duplicates_distance"]
    )
    return finish(partial, folder, info | {"counts": counts, "versions": _join_versions(list(parts.values()))})


def _check_part(part: Path) -> dict[str, Any]:
    """The contents of a part's ``prepared.yaml``; raises UserError unless the part has all that merging needs."""
    prepared = open_prepared(part)
    if "shard" not in prepared.info:
        raise UserError(f"{part} is a complete prepared set and not a part; give parts only")
    if not (part / "rejected.csv").is_file():
        raise UserError(f"{part} is damaged (rejected.csv is missing): prepare it again")
    return prepared.info


def _merge_tables(files: Sequence[Path], target: Path) -> None:
    """Concatenate the ``files`` that exist; a table without rows has no file."""
    there = [file for file in files if file.is_file()]
    for number, file in enumerate(there):
        with file.open("rb") as source, target.open("ab") as out:
            header = source.readline()
            if number == 0:
                out.write(header)
                first = header
            elif header != first:
                raise UserError(f"{file} and {there[0]} have other columns: prepare all parts with one version")
            shutil.copyfileobj(source, out)


def _merge_rejected(parts: Mapping[Path, Mapping[str, Any]], target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(REJECTED_COLUMNS)
        # Photographs come first and masks last, in a part as in the complete set.
        for part, info in parts.items():
            writer.writerows(islice(_read_rejected(part), info["counts"]["rejected"]))
        for part, info in parts.items():
            writer.writerows(islice(_read_rejected(part), info["counts"]["rejected"], None))


def _read_rejected(part: Path) -> Iterator[list[str]]:
    with (part / "rejected.csv").open(encoding="utf-8", newline="") as stream:
        yield from islice(csv.reader(stream), 1, None)


def _join_versions(infos: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Versions that the parts were made with; a mixture is logged, because it may give other pixels."""
    names = dict.fromkeys(name for info in infos for name in info["versions"])
    found = {name: sorted({str(info["versions"].get(name)) for info in infos}) for name in names}
    for name, several in found.items():
        if len(several) > 1:
            log.warning("parts were prepared with several versions of %s: %s", name, ", ".join(several))
    return {name: ", ".join(several) for name, several in found.items()}
