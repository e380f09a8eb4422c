"""IDRiD, the Indian Diabetic Retinopathy Image Dataset (Porwal et al. 2018, CC BY 4.0).

Part A has lesion masks, part B a retinopathy grade, part C (numbered as B) disc and fovea centres. A and B
share photographs under unrelated numbers, so those are recognised by content and become one photograph: A's
file and masks with B's grade and C's points. Many of part A's testing set stand in part B's *training* set: who
trains on B and tests on A is misled by the set itself. Here these photographs are in the test split, in both tasks.
Numbers restart with each split; ids of the testing set contain ``test``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from fundusnet.data.decode import Unreadable, read_photograph
from fundusnet.data.manifest import LESION_COLUMNS, Manifest, images_table
from fundusnet.data.sources import eye_side, found_near, listing
from fundusnet.data.sources.tables import read_table, report_count, report_findings
from fundusnet.errors import UserError
from fundusnet.system.progress import track

log = logging.getLogger(__name__)

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")
LESIONS = {
    "microaneurysm": ("1. Microaneurysms", "MA"),
    "hemorrhage": ("2. Haemorrhages", "HE"),
    "hard_exudate": ("3. Hard Exudates", "EX"),
    "cotton_wool_patch": ("4. Soft Exudates", "SE"),
}
PICTURES = {"A": "A. Segmentation/1. Original Images", "B": "B. Disease Grading/1. Original Images"}
MASKS = "A. Segmentation/2. All Segmentation Groundtruths"
GRADES = "B. Disease Grading/2. Groundtruths"
DISCS = "C. Localization/2. Groundtruths/1. Optic Disc Center Location"
FOVEAS = "C. Localization/2. Groundtruths/2. Fovea Center Location"
# Folder of each split, the word in its tables' names, and its name in the manifest: "" for the training set, so that a
# validation set can be drawn from it.
SPLITS = (("a. Training Set", "Training", ""), ("b. Testing Set", "Testing", "test"))
PUBLISHED = {("A", ""): 54, ("A", "test"): 27, ("B", ""): 413, ("B", "test"): 103}
# Two encodings of one photograph differ by less than 1 grey level (root mean square over the thumbnail), different
# photographs by more than 4 (measured on 50 photographs of A and 171 of B).
SAME_BELOW = 2.0
THUMBNAIL = 32


@dataclass(frozen=True)
class Picture:
    """One file of part A or B, with the labels of parts B and C."""

    part: str
    split: str
    name: str  # IDRiD_01
    file: Path
    known: dict[str, float]  # grade and coordinates; empty for part A at first

    @property
    def image_id(self) -> str:
        return "_".join(filter(None, (self.part, self.split, self.name)))


def load(
    root: Path,
    task: Literal["findings", "grading"] = "findings",
    negatives: Literal["grade0", "within_a", "both"] = "both",
) -> Manifest:
    """Photographs of IDRiD with the labels of ``task``.

    Args:
        task: "findings": parts A and B with lesions; "grading": all with a retinopathy grade 0 … 4.
        negatives: Where a finding is absent. "grade0": in eyes without retinopathy (part B); "within_a": in part A if
            its mask is missing, with grade 0 left out of the set; "both". All eyes of part A are diseased, so "present"
            against grade 0 also separates diseased from healthy eyes, and part A from part B. Diseased eyes without
            masks stay undecided.

    Raises:
        UserError: The layout is wrong; names what was expected and found.
    """
    segmented, graded = _part_a(root), _part_b(root)
    _require(root, task, segmented, graded)
    pictures = _join_parts(segmented, graded)
    lesions = pd.DataFrame(columns=list(LESION_COLUMNS), dtype=str)
    if task == "grading":
        ungraded = [picture for picture in pictures if "grade" not in picture.known]
        log.info("IDRiD: %d photographs without a grade left out of grading", len(ungraded))
        pictures = [picture for picture in pictures if "grade" in picture.known]
    else:
        if negatives == "within_a":
            pictures = [picture for picture in pictures if picture.part == "A" or picture.known.get("grade") != 0]
        rows = [row for picture in pictures for row in _lesion_rows(root, picture, negatives)]
        lesions = pd.DataFrame(rows, columns=list(LESION_COLUMNS), dtype=str)
        report_findings("IDRiD", lesions, LESIONS, len(pictures))
    images = images_table(
        [
            {
                "image_id": picture.image_id,
                "path": picture.file.relative_to(root).as_posix(),
                "eye": eye_side(picture.known.get("disc_x"), picture.known.get("fovea_x")),
                "split": picture.split,
                **picture.known,
            }
            for picture in pictures
        ]
    )
    return Manifest(root, images, lesions=lesions, classes=CLASSES)


def _part_a(root: Path) -> list[Picture]:
    return [
        Picture("A", split, file.stem, file, {})
        for folder, _, split in SPLITS
        for file in _files(root / PICTURES["A"] / folder, "A", split)
    ]


def _part_b(root: Path) -> list[Picture]:
    pictures = []
    for folder, word, split in SPLITS:
        files = _files(root / PICTURES["B"] / folder, "B", split)
        if not files:
            continue
        grades = _numbers(root / GRADES, f"*Disease Grading*{word} Labels.csv", ("Retinopathy grade",))
        discs = _numbers(root / DISCS, f"*OD_Center*{word}*Markups.csv", ("X- Coordinate", "Y - Coordinate"))
        foveas = _numbers(root / FOVEAS, f"*Fovea_Center*{word}*Markups.csv", ("X- Coordinate", "Y - Coordinate"))
        for file in files:
            known: dict[str, float] = {}
            for table, columns in (
                (grades, ("grade",)),
                (discs, ("disc_x", "disc_y")),
                (foveas, ("fovea_x", "fovea_y")),
            ):
                known |= dict(zip(columns, table.get(file.stem, ()), strict=False))
            if known.get("grade", 0) not in range(len(CLASSES)):
                raise UserError(f"{root / GRADES}: grade {known['grade']:g} of {file.stem} is not one of 0 to 4")
            pictures.append(Picture("B", split, file.stem, file, known))
    return pictures


def _files(folder: Path, part: str, split: str) -> list[Path]:
    """Photographs ``IDRiD_<number>.jpg`` in a folder; other files are ignored."""
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if re.fullmatch(r"IDRiD_\d+\.jpg", file.name, re.IGNORECASE))
    report_count(f"IDRiD part {part}, {folder.name}", len(files), PUBLISHED[part, split])
    return files


def _numbers(folder: Path, pattern: str, columns: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Numbers by photograph from the table that ``pattern`` finds; {} if there is none. Rows of notes are dropped."""
    files = sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))
    if not files:
        log.warning("IDRiD: no table '%s' in %s; its values stay unknown", pattern, folder)
        return {}
    return {
        row.first: tuple(row.number(column) for column in columns)
        for row in read_table(files[0], columns)
        if row.first.startswith("IDRiD_") and all(row[column] for column in columns)
    }


def _require(root: Path, task: str, segmented: list[Picture], graded: list[Picture]) -> None:
    part, pictures = ("A", segmented) if task == "findings" else ("B", graded)
    if not pictures:
        place = root / PICTURES[part] / SPLITS[0][0]
        raise UserError(
            f"root={root}: source=idrid task={task} expects photographs IDRiD_*.jpg in "
            f"'{PICTURES[part]}/{SPLITS[0][0]}', {found_near(place)}"
        )
    if task == "grading" and not any("grade" in picture.known for picture in graded):
        raise UserError(f"{root / GRADES}: no grade for any photograph of part B, found {listing(root)}")
    if task == "findings":
        for split in {picture.split for picture in segmented}:
            for folder, _ in LESIONS.values():
                # A missing mask means absent: without this folder all eyes would have no lesions.
                place = root / MASKS / _folder_of(split) / folder
                if not place.is_dir():
                    raise UserError(
                        f"{place} is missing: unpack the masks of part A, or its lesion would be absent in every eye"
                    )


def _join_parts(segmented: list[Picture], graded: list[Picture]) -> list[Picture]:
    """Part A with the grade and points of the same photograph in part B, then the rest of part B."""
    if not segmented or not graded:
        return segmented + graded
    thumbnails = _thumbnails([picture.file for picture in segmented + graded])
    ours, theirs = thumbnails[: len(segmented)], thumbnails[len(segmented) :]
    merged, twins = list[Picture](), dict[int, Picture]()
    for picture, thumbnail in zip(segmented, ours, strict=True):
        distance = np.sqrt(((theirs - thumbnail) ** 2).mean(axis=1))  # NaN if a file cannot be read
        nearest = int(np.argmin(np.where(np.isnan(distance), np.inf, distance)))
        if not distance[nearest] < SAME_BELOW:
            merged.append(picture)
            continue
        twin = graded[nearest]
        log.debug("IDRiD: %s is %s (%.2f grey levels)", picture.image_id, twin.image_id, distance[nearest])
        merged.append(replace(picture, known=twin.known))
        twins[nearest] = picture
    shared = [(graded[position].split, picture.split) for position, picture in twins.items()]
    log.info("IDRiD: %d of %d photographs of part A are in part B too", len(twins), len(segmented))
    if across := sum("test" == ours != theirs for theirs, ours in shared):
        log.warning(
            "IDRiD: %d photographs of part A's testing set are in part B's training set; they are in the test split "
            "here and not in training",
            across,
        )
    # A twin of A's training set in B's testing set stays: prepare finds such duplicates, and testing comes first.
    gone = {position for position, picture in twins.items() if picture.split in (graded[position].split, "test")}
    return merged + [picture for position, picture in enumerate(graded) if position not in gone]


def _thumbnails(files: list[Path]) -> npt.NDArray[np.float32]:
    """Grey thumbnails (N, 32*32), 0 … 255, NaN if unreadable; decoded at an eighth of the size."""

    def thumbnail(file: Path) -> npt.NDArray[np.float32]:
        try:
            grey = cv2.cvtColor(read_photograph(file, 8).pixels, cv2.COLOR_RGB2GRAY)
        except Unreadable:  # rejected by name when it is prepared
            return np.full(THUMBNAIL * THUMBNAIL, np.nan, np.float32)
        return cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()

    with ThreadPoolExecutor() as pool:
        return np.stack(list(track(pool.map(thumbnail, files), "matching parts A and B", total=len(files))))


def _lesion_rows(root: Path, picture: Picture, negatives: str) -> Iterator[tuple[str, str, str]]:
    for finding, (folder, letters) in LESIONS.items():
        mask = root / MASKS / _folder_of(picture.split) / folder / f"{picture.name}_{letters}.tif"
        if picture.part == "A" and mask.is_file():
            yield picture.image_id, finding, mask.relative_to(root).as_posix()
        elif picture.known.get("grade") == 0 or (picture.part == "A" and negatives != "grade0"):
            yield picture.image_id, finding, ""


def _folder_of(split: str) -> str:
    return next(folder for folder, _, name in SPLITS if name == split)
