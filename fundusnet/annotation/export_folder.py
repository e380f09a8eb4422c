"""The folder of an export: which files in it are the export's own, and replacing these but nothing else."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fundusnet.annotation.record import RECORD, read_record
from fundusnet.errors import UserError
from fundusnet.system.files import write_json

MARKER = "export.json"
"""Names the study that wrote the folder and the files it wrote: tables with their SHA-256, photographs with null."""
_TABLES = ("images.csv", "readings.csv", "readings_blind.csv", RECORD)  # of 0.1.0, which wrote no marker


def write_marker(folder: Path, study: str) -> None:
    """Mark ``folder``, as it is now, as written by this study."""
    files = {name: _digest(folder / name) if "/" not in name else None for name in sorted(_files(folder))}
    write_json(folder / MARKER, {"format": 1, "study": study, "files": files})


def earlier_export(folder: Path, study: str) -> frozenset[str]:
    """The files in ``folder`` that an export of this study wrote; none if it is missing or empty.

    Raises:
        UserError: There is something else, another study's export, or a table that was changed since.
    """
    if not folder.exists():
        return frozenset()
    if not folder.is_dir():
        raise UserError(f"export={folder} exists and is no folder; name another one")
    if not any(folder.iterdir()):
        return frozenset()
    written_by, files = _marked(folder) or _of_old(folder) or ("", {})
    if not written_by:
        raise UserError(f"export={folder} exists and is not an earlier export of this study; name another folder")
    if written_by != study:
        raise UserError(f"export={folder} is an export of another study; name another folder")
    for name, digest in files.items():
        if digest is not None and (folder / name).is_file() and _digest(folder / name) != digest:
            raise UserError(f"{folder / name} was changed since it was exported; move it, or name another folder")
    return frozenset(files) | {MARKER}


def replace_export(target: Path, building: Path, earlier: frozenset[str]) -> None:
    """Put ``building`` in the place of ``target``, whose files ``earlier`` are dropped; all others stay in ``target``.

    The others are linked into ``building`` first, so that each is in one of the two folders at every moment, and nobody
    ever sees half an export.

    Raises:
        UserError: A file that stays has the name of a new one, or cannot be linked.
    """
    if not target.exists():
        building.rename(target)
        return
    for name in sorted(_files(target) - earlier):
        _keep(target, building, name)
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        target.rename(old)
        building.rename(target)
    finally:
        if not target.exists():
            old.rename(target)
        else:
            _remove(old, target, earlier)


def _keep(target: Path, building: Path, name: str) -> None:
    new = building / name
    if os.path.lexists(new) and not (new.is_dir() and (target / name).is_dir()):
        raise UserError(f"{target / name} was not written by the export, which needs this name; move it")
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        if (target / name).is_dir() and not (target / name).is_symlink():
            new.mkdir(exist_ok=True)
            shutil.copystat(target / name, new)
        else:
            os.link(target / name, new, follow_symlinks=False)
    except OSError as error:
        reason = f"{error.strerror}; move it, or name another folder"
        raise UserError(f"{target / name} is not of the export and cannot be kept beside it: {reason}") from error


def _remove(old: Path, target: Path, earlier: frozenset[str]) -> None:
    """Remove the replaced folder, but no file that is neither the export's nor in ``target`` now."""
    for name in sorted(_files(old), reverse=True):
        file = old / name
        with suppress(OSError):
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            elif name in earlier or os.path.samestat(file.lstat(), (target / name).lstat()):
                file.unlink()
    for folder, _, _ in os.walk(old, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def _marked(folder: Path) -> tuple[str, Mapping[str, str | None]] | None:
    """Study and files that the marker names; None without a valid one."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        study, files = found["study"], found["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    valid = isinstance(study, str) and isinstance(files, dict) and found.get("format") == 1
    return (study, files) if valid else None


def _of_old(folder: Path) -> tuple[str, Mapping[str, str | None]] | None:
    """Study and files of an export of 0.1.0, which wrote no marker; None if it is none."""
    try:
        record = read_record(folder)
        with (folder / "images.csv").open(encoding="utf-8", newline="") as table:
            paths = [row["path"] for row in csv.DictReader(table)]
    except (UserError, OSError, ValueError, KeyError):
        return None
    return record.study, dict.fromkeys([*_TABLES, *paths])


def _files(folder: Path) -> set[str]:
    """Paths below ``folder`` of all files, links and empty folders."""
    return set(_below(folder, folder))


def _below(place: Path, folder: Path) -> Iterator[str]:
    for entry in os.scandir(place):
        inner = Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and any(inner.iterdir()):
            yield from _below(inner, folder)
        else:
            yield inner.relative_to(folder).as_posix()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
