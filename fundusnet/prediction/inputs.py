"""Finds the photographs to predict: a file, a folder with subfolders, or a manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from fundusnet.data import dicom
from fundusnet.data.listing import kinds, photographs, relative_path, unique_ids
from fundusnet.data.manifest import COORDINATES, read_manifest
from fundusnet.data.regions import Point
from fundusnet.data.sources import listing
from fundusnet.data.sources.csv import as_on_disk
from fundusnet.errors import UserError
from fundusnet.landmarks.points import SHIPPED
from fundusnet.prediction.preparation import Points


@dataclass(frozen=True, slots=True)
class Entry:
    """A photograph to predict.

    Attributes:
        image_id: Unique among the photographs.
        path: Relative to the input.
        patient_id: "" if unknown.
        eye: "left" or "right"; "" if unknown.
        points: Disc and fovea (x, y) in pixels of the upright photograph; None if unknown.
    """

    image_id: str
    path: str
    patient_id: str = ""
    eye: str = ""
    points: Points = (None, None)


def find_inputs(given: Path) -> tuple[Path, list[Entry]]:
    """The folder that paths are relative to, and the photographs in order of path.

    A folder with ``images.csv``, or that file itself, is a manifest. Any other folder is searched with its subfolders
    for photographs and DICOM files; hidden files are skipped.

    Raises:
        UserError: ``given`` does not exist, holds no photograph, or holds a DICOM file and pydicom is not installed.
    """
    if given.is_dir() and (given / "images.csv").is_file():
        root, entries = given, _of_manifest(given)
    elif given.is_dir():
        root, entries = given, _of_folder(given)
    elif given.name == "images.csv" and given.is_file():
        root, entries = given.parent, _of_manifest(given.parent)
    elif given.is_file():
        root, entries = given.parent, [Entry(given.stem, given.name)]
    else:
        raise UserError(f"input={given} does not exist; give a photograph, a folder of them or a manifest")
    dicom.check_installed(root / entry.path for entry in entries)
    return root, sorted(entries, key=lambda entry: (entry.path, entry.image_id))


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file: ``path`` itself, or the best one of a run folder.

    "landmarks" is the network that comes with the package, unless there is a file or folder of this name.

    Raises:
        UserError: There is no such file.
    """
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if str(path) == "landmarks" and not path.exists():
        return SHIPPED
    if not file.is_file():
        raise UserError(f"checkpoint {file} does not exist; give a run folder or a .ckpt file that a training wrote")
    return file


def digest(root: Path, entries: Iterable[Entry]) -> str:
    """A hash of the photographs; it changes when a file is added, removed or modified (by size and time)."""
    state = hashlib.sha256()
    for entry in entries:
        try:
            found = (root / entry.path).stat()
            stamp = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            stamp = "missing"
        points = [str(each) for each in entry.points if each]
        state.update("\0".join((entry.image_id, entry.path, entry.patient_id, entry.eye, *points, stamp, "")).encode())
    return state.hexdigest()[:32]


def _of_folder(folder: Path) -> list[Entry]:
    paths = [relative_path(file, folder) for file in photographs(folder, say=True)]
    if not paths:
        raise UserError(f"input={folder}: no photograph ({kinds()}) in it, found {listing(folder)}")
    return [Entry(image_id, path) for image_id, path in zip(unique_ids(paths), paths, strict=True)]


def _of_manifest(folder: Path) -> list[Entry]:
    images = read_manifest(folder).images
    images["path"] = as_on_disk(folder, images["path"].tolist())
    columns = (images[name].astype(str) for name in ("image_id", "path", "patient_id", "eye"))
    places = images[list(COORDINATES)].to_numpy(dtype=float).tolist()
    entries = [
        Entry(image_id, path, patient_id, eye, (_point(*place[:2]), _point(*place[2:])))
        for image_id, path, patient_id, eye, place in zip(*columns, places, strict=True)
    ]
    if not entries:
        raise UserError(f"{folder / 'images.csv'} names no photograph; add a row for each")
    return entries


def _point(x: float, y: float) -> Point | None:
    """The point, None if it is unknown. One with one coordinate only is refused with its photograph."""
    return None if isnan(x) and isnan(y) else (x, y)
