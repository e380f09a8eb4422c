"""Messidor-2 (Decencière et al. 2014; Abràmoff et al. 2013) with the adjudicated grades of Krause et al. 2018.

Photographs and the list of pairs are published by ADCIS, the grades elsewhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources.tables import by_stem, find_table, picture_of, read_table, report_count, with_picture
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")
CODES = {str(grade): grade for grade in range(len(CLASSES))}
GRADES = "messidor_data.csv"
PAIRS = "messidor-2.csv"
PUBLISHED = 1744  # gradable


def load(root: Path) -> Manifest:
    """Every gradable photograph with its adjudicated grade; both eyes of an examination share a patient.

    Raises:
        UserError: There is no table of grades, it names none of the photographs here, or a grade is not one of 0 … 4.
    """
    grade = "adjudicated_dr_grade|diagnosis"
    rows = read_table(find_table(root, GRADES), ("image_id|id_code", grade), ("adjudicated_gradable",))
    gradable = [row for row in rows if row["adjudicated_dr_grade"] and row["adjudicated_gradable"] not in ("0", "0.0")]
    if left := len(rows) - len(gradable):
        log.info("Messidor-2: %d photographs left out as ungradable", left)
    pictures = by_stem(root)
    pairs = with_picture(gradable, "image_id", pictures, root)
    report_count("Messidor-2", len(pairs), PUBLISHED)
    patients = _patients(root, pictures)
    images: list[dict[str, object]] = [
        {
            "image_id": file.stem,
            "path": file.relative_to(root).as_posix(),
            "patient_id": patients.get(file.stem.lower(), ""),
            "grade": row.code("adjudicated_dr_grade", CODES),
        }
        for row, file in pairs
    ]
    return Manifest(root, images_table(images), classes=CLASSES)


def _patients(root: Path, pictures: Mapping[str, Path]) -> dict[str, str]:
    """Patient of each photograph: a line of the list names the two eyes of one examination."""
    try:
        file = find_table(root, PAIRS)
    except UserError:
        log.warning("Messidor-2: no %s: the two eyes of a patient may fall into different splits", PAIRS)
        return {}
    patients: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        found = [picture_of(cell.strip(' "'), pictures) for cell in re.split(r"[;,\t]", line)]
        stems = [picture.stem.lower() for picture in found if picture is not None]
        patients |= dict.fromkeys(stems, min(stems, default=""))
    return patients
