"""A folder of photographs: ``<class>/<photograph>``, or ungraded ones in any nesting."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources import listing
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm"))


def load(root: Path, classes: Sequence[str] = ()) -> Manifest:
    """Photographs below ``root``; grade = position of their class folder in ``classes``, in ascending order.

    Without ``classes`` every photograph below ``root`` is listed, ungraded. Folders that ``classes`` does not
    name are left out, and the log says so. No patient is known.

    Raises
    ------
    UserError: a class folder is absent or stands twice in ``classes``, or there is no photograph.
    """
    if len(set(classes)) != len(classes):
        raise UserError(f"classes={list(classes)}: a folder is named twice; each grade needs its own")
    for name in classes:
        if not (root / name).is_dir():
            raise UserError(
                f"root={root}: class folder '{name}' is missing, found {listing(root)}; set classes to suit"
            )
        if not photographs(root / name):
            raise UserError(f"root={root}: class folder '{name}' holds no photograph, found {listing(root / name)}")

    files = [(file, None) for file in photographs(root)] if not classes else []
    graded = [(file, grade) for grade, name in enumerate(classes) for file in photographs(root / name)]
    if not files and not graded:
        raise UserError(f"root={root}: no photograph ({', '.join(sorted(SUFFIXES))}) in it, found {listing(root)}")
    _report(root, classes, len(files) + len(graded))

    rows = [{"path": file.relative_to(root).as_posix(), "grade": grade} for file, grade in (*files, *graded)]
    identifiers = unique_ids([str(row["path"]) for row in rows])
    images = images_table([{"image_id": name, **row} for name, row in zip(identifiers, rows, strict=True)])
    return Manifest(root, images, classes=tuple(classes))


def photographs(folder: Path) -> list[Path]:
    """Image files below ``folder`` in order of name, without hidden ones (``._x.jpg`` in a Mac's archive)."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def unique_ids(paths: Sequence[str]) -> list[str]:
    """An id a path: its parts joined by ``_``, and a checksum of the path where two would share one."""
    plain = ["_".join(Path(path).with_suffix("").parts).replace("\\", "_") for path in paths]
    count = Counter(plain)
    return [
        name if count[name] == 1 else f"{name}-{zlib.crc32(path.encode()):08x}"
        for name, path in zip(plain, paths, strict=True)
    ]


def _report(root: Path, classes: Sequence[str], count: int) -> None:
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes and folders:
        log.info("%d ungraded photographs; to grade by folder set classes to an order of %s", count, folders)
    elif left_out := [name for name in folders if name not in {Path(name).parts[0] for name in classes}]:
        log.warning("left out, as classes does not name them: %s", ", ".join(left_out))
