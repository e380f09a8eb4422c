"""PAPILA (Kovalyk et al. 2022): both eyes of 244 patients, graded healthy < suspect < glaucoma.

Disc-centred photographs of 30 degrees. Diagnoses come from clinical data of both eyes, not from the photograph alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources import listing
from fundusnet.data.sources.tables import Row, by_stem, read_table, report_count
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

CLASSES = ("healthy", "suspect", "glaucoma")
# The set's codes are not in order of severity: 0 healthy, 1 glaucoma, 2 suspect.
GRADE_OF = {"0": 0, "2": 1, "1": 2}
PUBLISHED = {"healthy": 333, "suspect": 68, "glaucoma": 87}
EYES = {"OD": "right", "OS": "left"}
PICTURES = "FundusImages"
CLINICAL = "ClinicalData"
CONTOURS = "ExpertsSegmentations/Contours"


def load(root: Path) -> Manifest:
    """Every photograph with a diagnosis, its patient and eye, and the disc centre where an expert outlined it.

    Raises:
        UserError: Folders or tables are missing, or a diagnosis is not 0, 1 or 2.
    """
    base = next(
        (place for place in _places(root) if all((place / name).is_dir() for name in (PICTURES, CLINICAL))), None
    )
    if base is None:
        raise UserError(f"root={root}: source=papila expects folders {PICTURES} and {CLINICAL}, found {listing(root)}")
    pictures = by_stem(base / PICTURES)
    rows: list[dict[str, object]] = []
    lines: dict[str, int] = {}
    for letters, eye in EYES.items():
        for row in read_table(base / CLINICAL / f"patient_data_{letters.lower()}.xlsx", ("Diagnosis",)):
            patient = _patient(row)
            if patient is None or not row["Diagnosis"]:
                continue
            name = f"RET{patient}{letters}"
            if name in lines:
                raise UserError(
                    f"{row.file}, line {row.line}: {row.first} is on line {lines[name]} already; remove one"
                )
            lines[name] = row.line
            if (file := pictures.get(name.lower())) is None:
                log.warning("PAPILA: %s has a diagnosis and no photograph", name)
                continue
            disc_x, disc_y = _disc_centre(base / CONTOURS, name)
            rows.append(
                {
                    "image_id": name,
                    "path": file.relative_to(root).as_posix(),
                    "patient_id": patient,
                    "eye": eye,
                    "disc_x": disc_x,
                    "disc_y": disc_y,
                    "grade": row.code("Diagnosis", GRADE_OF),
                }
            )
    if not rows:
        raise UserError(
            f"root={root}: no photograph named in {CLINICAL} (RET002OD.jpg for #002) is in {PICTURES}, found "
            f"{listing(base / PICTURES)}"
        )
    rows.sort(key=lambda row: str(row["image_id"]))
    for grade, name in enumerate(CLASSES):
        report_count(f"PAPILA {name}", sum(row["grade"] == grade for row in rows), PUBLISHED[name])
    return Manifest(root, images_table(rows), classes=CLASSES)


def _places(root: Path) -> Iterator[Path]:
    """The root, and the folders in it and one below: archives are often unpacked into a folder of their own."""
    yield root
    for depth in ("*", "*/*"):
        yield from sorted(place for place in root.glob(depth) if place.is_dir() and place.name != "__MACOSX")


def _patient(row: Row) -> str | None:
    """The three digits of an id such as #002; None for the second header row and the bare row 'ID'."""
    found = re.fullmatch(r"#?\s*(\d+)", row.first)
    return f"{int(found[1]):03d}" if found else None


def _disc_centre(folder: Path, name: str) -> tuple[float, float]:
    """Mean over the experts of the centre of the area they outlined, NaN if none did.

    Names are matched completely: there are copies such as 'RET002OD_disc_exp1 2.txt'.
    """
    centres = [_centre(file) for expert in (1, 2) if (file := folder / f"{name}_disc_exp{expert}.txt").is_file()]
    x, y = np.mean(centres, axis=0) if centres else (np.nan, np.nan)
    return float(x), float(y)


def _centre(file: Path) -> tuple[float, float]:
    try:
        contour = np.loadtxt(file, ndmin=2)
    except ValueError as error:
        raise UserError(f"{file} is not a table of x and y: {error}") from error
    if contour.ndim != 2 or contour.shape[1] != 2 or not len(contour):
        raise UserError(f"{file} is not a table of x and y: it has shape {contour.shape}")
    moments = cv2.moments(contour.astype(np.float32)[:, None])
    if moments["m00"] == 0:
        return float(contour[:, 0].mean()), float(contour[:, 1].mean())
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
