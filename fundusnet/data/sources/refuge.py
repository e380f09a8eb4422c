"""REFUGE (Orlando et al. 2020): 1200 photographs with glaucoma or without, discs and cups outlined, foveas marked.

Its archives unpack to various nestings, so each part is searched for by its name anywhere below the root.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources import eye_side, listing
from fundusnet.data.sources.tables import by_stem, find_table, innermost, picture_of, read_table, report_count
from fundusnet.errors import UserError
from fundusnet.system.progress import track

log = logging.getLogger(__name__)

Known = dict[str, float]  # grade and coordinates, as far as they are known

CLASSES = ("non_glaucoma", "glaucoma")
CODES = {"0": 0, "1": 1}
# Split → names of its folder of photographs, and its table.
PARTS = {
    "train": (("Training400",), "Fovea_location.xlsx"),
    "val": (("REFUGE-Validation400", "Validation400"), "Fovea_locations.xlsx"),
    "test": (("Test400", "REFUGE-Test400"), "Glaucoma_label_and_Fovea_location.xlsx"),
}
PUBLISHED = 400  # photographs of each part
MASKS = "Disc_Cup_Masks"
COPY_TABLE = "index.json"
# Grey levels of a mask: 255 background, 128 disc, 0 cup, which is part of the disc.
BACKGROUND_ABOVE = 191


def load(root: Path) -> Manifest:
    """The parts found, in the official splits, with fovea, disc centre, and grade 0 or 1 (glaucoma).

    The eye follows from disc and fovea. Patients are not known.

    Raises:
        UserError: No part is found, or one without its labels.
    """
    if copy := _copy(root):
        return _load_copy(root, copy)
    masks: dict[str, Path] = {}
    for folder in sorted(root.rglob(MASKS)):
        masks |= by_stem(folder)
    if not masks:
        log.warning("REFUGE: no masks %s below %s: disc centres stay unknown", MASKS, root)
    rows: list[dict[str, object]] = []
    for split, (names, table) in PARTS.items():
        place = innermost(root, names)
        if place is None:
            log.warning("REFUGE %s: no folder %s below %s", split, " or ".join(names), root)
            continue
        pictures = by_stem(place)
        labels = _training(root, table, pictures, place) if split == "train" else _table(root, table, pictures)
        report_count(f"REFUGE {split}", len(labels), PUBLISHED)
        stems = sorted(labels)
        with ThreadPoolExecutor() as pool:
            centres = pool.map(_disc, [masks.get(stem) for stem in stems])
            for stem, disc in zip(stems, track(centres, f"disc centres, {split}", total=len(stems)), strict=True):
                known = labels[stem] | disc
                path = pictures[stem].relative_to(root).as_posix()
                eye = eye_side(known.get("disc_x"), known.get("fovea_x"))
                rows.append({"image_id": pictures[stem].stem, "path": path, "eye": eye, "split": split, **known})
    if not rows:
        expected = ", ".join(names[0] for names, _ in PARTS.values())
        raise UserError(f"root={root}: source=refuge expects photographs in {expected}, found {listing(root)}")
    return Manifest(root, images_table(rows), classes=CLASSES)


def _copy(root: Path) -> Path | None:
    """The folder of the copy on Kaggle, with train, val and test in it, each with ``Images`` and ``index.json``."""
    found = sorted(root.rglob(COPY_TABLE), key=lambda file: (len(file.parts), file))
    return next((file.parent.parent for file in found if file.parent.name in PARTS), None)


def _load_copy(root: Path, base: Path) -> Manifest:
    rows: list[dict[str, object]] = []
    for split in PARTS:
        file, place = base / split / COPY_TABLE, base / split / "Images"
        if not file.is_file() or not place.is_dir():
            log.warning("REFUGE %s: no %s and Images in %s", split, COPY_TABLE, base / split)
            continue
        pictures, found = by_stem(place), 0
        masks = by_stem(base / split / "Masks") if (base / split / "Masks").is_dir() else {}
        for entry in _entries(file):
            if (picture := picture_of(str(entry.get("ImgName", "")), pictures)) is None:
                continue
            found += 1
            known: Known = {"fovea_x": entry["Fovea_X"], "fovea_y": entry["Fovea_Y"]} if "Fovea_X" in entry else {}
            if str(entry.get("Label")) in CODES:
                known["grade"] = CODES[str(entry["Label"])]
            known |= _disc(masks.get(picture.stem.lower()))
            eye = eye_side(known.get("disc_x"), known.get("fovea_x"))
            path = picture.relative_to(root).as_posix()
            rows.append({"image_id": picture.stem, "path": path, "eye": eye, "split": split, **known})
        report_count(f"REFUGE {split}", found, PUBLISHED)
    if not rows:
        raise UserError(f"{base}: none of the photographs that {COPY_TABLE} names is in Images, found {listing(base)}")
    return Manifest(root, images_table(rows), classes=CLASSES)


def _entries(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        return [dict(entry) for entry in (content.values() if isinstance(content, dict) else content)]
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is not a list of photographs in JSON: {error}") from error


def _training(root: Path, table: str, pictures: Mapping[str, Path], place: Path) -> dict[str, Known]:
    """Labels of the training part, whose folders tell glaucoma; its table has foveas only."""
    try:
        foveas = _table(root, table, pictures)
    except UserError as error:
        log.warning("REFUGE train: foveas stay unknown (%s)", error)
        foveas = {}
    labels: dict[str, Known] = {}
    for stem, file in pictures.items():
        folder = file.relative_to(place).parts[0].lower()
        if folder not in ("glaucoma", "non-glaucoma"):
            log.warning("REFUGE train: %s left out, it is in neither Glaucoma nor Non-Glaucoma", file.name)
            continue
        labels[stem] = foveas.get(stem, {}) | {"grade": float(folder == "glaucoma")}
    return labels


def _table(root: Path, table: str, pictures: Mapping[str, Path]) -> dict[str, Known]:
    """The labels in a table of the photographs found."""
    labels: dict[str, Known] = {}
    label = "Glaucoma Label|Label(Glaucoma=1)"
    for row in read_table(find_table(root, table), ("ImgName", "Fovea_X", "Fovea_Y"), (label,)):
        if (picture := picture_of(row["ImgName"], pictures)) is None:
            continue
        known = {"fovea_x": row.number("Fovea_X"), "fovea_y": row.number("Fovea_Y")}
        if row["Glaucoma Label"]:
            known["grade"] = row.code("Glaucoma Label", CODES)
        labels[picture.stem.lower()] = known
    return labels


def _disc(mask: Path | None) -> Known:
    grey = None if mask is None else cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        return {}
    rows, columns = np.nonzero(grey <= BACKGROUND_ABOVE)
    return {"disc_x": float(columns.mean()), "disc_y": float(rows.mean())} if len(rows) else {}
