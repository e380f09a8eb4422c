"""A folder of photographs: ``<class>/<photograph>``, or ungraded ones at any depth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fundusnet.data import dicom
from fundusnet.data.listing import kinds, photographs, relative_path, suffixes, unique_ids
from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources import listing
from fundusnet.errors import UserError
from fundusnet.system.progress import track

log = logging.getLogger(__name__)


def load(root: Path, classes: Sequence[str] = ()) -> Manifest:
    """Photographs below ``root``; grade = position of their class folder in ``classes``, in ascending order.

    Without ``classes`` every photograph below ``root`` is listed, ungraded. Folders not in ``classes`` are left out and
    logged. Patient and eye of DICOM files are read from their headers.

    Raises:
        UserError: A class folder is missing or twice in ``classes``, there is no photograph, or there is a DICOM file
            and pydicom is not installed.
    """
    if len(set(classes)) != len(classes):
        raise UserError(f"classes={list(classes)}: a folder is named twice; give each grade its own")
    found: list[tuple[Path, int | None]] = []
    for grade, name in enumerate(classes):
        if not (root / name).is_dir():
            raise UserError(f"root={root}: class folder '{name}' is missing, found {listing(root)}; change classes")
        files = photographs(root / name, say=True)
        if not files:
            raise UserError(f"root={root}: class folder '{name}' holds no photograph, found {listing(root / name)}")
        found += [(file, grade) for file in files]
    if not classes:
        found = [(file, None) for file in photographs(root, say=True)]
    if not found:
        raise UserError(f"root={root}: no photograph ({kinds()}) in it, found {listing(root)}")
    dicom.check_installed(file for file, _ in found)
    _report(root, classes, len(found))

    headers = _headers([file for file, _ in found if file.suffix.lower() not in suffixes()])
    rows: list[dict[str, object]] = []
    for file, position in found:
        patient_id, eye = headers.get(file, ("", ""))
        path = relative_path(file, root)
        rows.append({"path": path, "grade": position, "patient_id": patient_id, "eye": eye})
    identifiers = unique_ids([str(row["path"]) for row in rows])
    images = images_table([{"image_id": name, **row} for name, row in zip(identifiers, rows, strict=True)])
    return Manifest(root, images, classes=tuple(classes))


def _report(root: Path, classes: Sequence[str], count: int) -> None:
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes and folders:
        log.info("%d ungraded photographs; to grade by folder set classes to an order of %s", count, folders)
    elif left_out := [name for name in folders if name not in {Path(name).parts[0] for name in classes}]:
        log.warning("left out, not in classes: %s", ", ".join(left_out))


def _headers(files: Sequence[Path]) -> dict[Path, tuple[str, str]]:
    """Patient and eye of each DICOM file, "" if its header lacks them."""
    headers = {file: dicom.patient_and_eye(file) for file in track(files, "reading DICOM headers")}
    if headers:
        patients = {patient for patient, _ in headers.values()} - {""}
        log.info("DICOM files: %d, patients named in them: %d", len(headers), len(patients))
    return headers
