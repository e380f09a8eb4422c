"""JustRAIGS (2024): referable glaucoma or not, and its features as marked by two or three graders.

The photographs are those of AIROGS under the same names: never test a network of one set on the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd

from fundusnet.data.fellow_eyes import patients_of
from fundusnet.data.manifest import READING_COLUMNS, Manifest, empty_table, images_table
from fundusnet.data.sources.tables import Row, by_stem, find_table, read_table, with_picture
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

CLASSES = ("no_referable_glaucoma", "referable_glaucoma")
CODES = {"NRG": 0, "RG": 1}
GRADERS = ("G1", "G2", "G3")
# Superior and inferior are one finding: its place would be given by regions, which need disc and fovea.
FINDINGS = {
    "ANRS": "neuroretinal_rim_change",
    "ANRI": "neuroretinal_rim_change",
    "RNFLDS": "rnfl_defect",
    "RNFLDI": "rnfl_defect",
    "BCLVS": "baring_of_circumlinear_vessel",
    "BCLVI": "baring_of_circumlinear_vessel",
    "NVT": "nasalisation_of_vessel_trunk",
    "DH": "disc_hemorrhage",
    "LD": "laminar_dots",
    "LC": "large_cup",
}


def load(
    root: Path, task: Literal["findings", "grading"] = "findings", negatives: Literal["within", "both"] = "within"
) -> Manifest:
    """Photographs with the labels of ``task``; both eyes of a patient have the same patient id.

    Args:
        task: "findings": each grader's reading of the features of referable glaucoma; "grading": the final label.
        negatives: Where a feature is absent. Only graders who called an eye referable were asked for features.
            "within": in referable eyes, as read by those graders; "both": also in the reading of a grader who called
            an eye not referable.

    Raises:
        UserError: The table is missing or names none of the photographs here, or a label is unknown.
    """
    features = [f"{grader} {feature}" for grader in GRADERS for feature in FINDINGS] if task == "findings" else []
    labels = [f"Label {grader}" for grader in GRADERS] if task == "findings" else []
    rows = read_table(
        find_table(root, "JustRAIGS_Train_labels.csv", "*JustRAIGS*labels*.csv"),
        ("Eye ID", "Final Label", *labels[:2], *features[: 2 * len(FINDINGS)]),
        ("Fellow Eye ID", *labels[2:], *features[2 * len(FINDINGS) :]),
    )
    known = [row for row in rows if row["Final Label"] in CODES]
    if left := len(rows) - len(known):
        log.warning("JustRAIGS: %d eyes left out, their final label is neither RG nor NRG", left)
    pairs = with_picture(known, "Eye ID", by_stem(root), root)
    if task == "findings" and negatives == "within":
        pairs = [(row, file) for row, file in pairs if row["Final Label"] == "RG"]
        if not pairs:
            raise UserError(f"root={root}: no photograph of referable glaucoma (RG) is here; use negatives: both")
    patients = patients_of([row["Eye ID"] for row, _ in pairs], [row["Fellow Eye ID"] for row, _ in pairs])
    images: list[dict[str, object]] = [
        {
            "image_id": row["Eye ID"],
            "path": file.relative_to(root).as_posix(),
            "patient_id": patients[row["Eye ID"]],
            "grade": CODES[row["Final Label"]],
        }
        for row, file in pairs
    ]
    log.info("JustRAIGS: found %d photographs, %d referable", len(images), sum(row["grade"] == 1 for row in images))
    readings = empty_table(READING_COLUMNS)
    if task == "findings":
        cells = [reading for row, _ in pairs for reading in _readings(row, negatives)]
        readings = pd.DataFrame(cells, columns=list(READING_COLUMNS), dtype=str)
    return Manifest(root, images_table(images), readings, classes=CLASSES)


def _readings(row: Row, negatives: str) -> Iterator[tuple[str, str, str, str]]:
    for grader in GRADERS:
        label = row[f"Label {grader}"]
        if label == "RG":
            marked = {name for feature, name in FINDINGS.items() if row[f"{grader} {feature}"] in ("1", "1.0")}
            for finding in sorted(marked) or [""]:
                yield row["Eye ID"], grader, finding, ""
        elif label == "NRG" and negatives == "both":
            yield row["Eye ID"], grader, "", ""
