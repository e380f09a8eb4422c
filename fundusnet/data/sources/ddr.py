"""DDR (Li et al. 2019): 13 673 photographs with a retinopathy grade, 757 others with lesion masks, official splits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd

from fundusnet.data.listing import relative_path
from fundusnet.data.manifest import LESION_COLUMNS, Manifest, images_table
from fundusnet.data.sources import listing
from fundusnet.data.sources.tables import by_stem, picture_of, read_table, report_count, with_picture
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")
UNGRADABLE = 5
FINDINGS = {"hard_exudate": "EX", "hemorrhage": "HE", "microaneurysm": "MA", "cotton_wool_patch": "SE"}
SPLITS = {"train": "train", "valid": "val", "test": "test"}
GRADED = "DR_grading"
SEGMENTED = "lesion_segmentation"
COPY, PUBLISHED_COPY = "DR_grading.csv", 12522  # on Kaggle
# The folder of masks has another name in the validation part.
LABELS = ("label", "segmentation label")
PUBLISHED = {GRADED: {"train": 6835, "valid": 2733, "test": 4105}, SEGMENTED: {"train": 383, "valid": 149, "test": 225}}


def load(
    root: Path, task: Literal["findings", "grading"] = "findings", negatives: Literal["within", "both"] = "within"
) -> Manifest:
    """Photographs of DDR with the labels of ``task``. Patients, eyes, disc and fovea are not known.

    Args:
        task: "findings": the photographs with lesion masks; "grading": those with a retinopathy grade 0 … 4.
        negatives: Where a finding is absent. "within": where its mask is empty, among eyes that all have retinopathy;
            "both": also in every photograph of grade 0, but "present" against grade 0 also separates diseased from
            healthy eyes, and one part of the set from the other.

    Raises:
        UserError: The layout is wrong; names what was expected and found.
    """
    if task == "grading":
        graded = [row for row in _graded(root) if row["grade"] != UNGRADABLE]
        return Manifest(root, images_table(graded), classes=CLASSES)
    rows, lesions = _segmented(root)
    if negatives == "both":
        healthy = [row for row in _graded(root) if row["grade"] == 0]
        rows += healthy
        lesions += [(str(row["image_id"]), finding, "") for row in healthy for finding in FINDINGS]
    table = pd.DataFrame(lesions, columns=list(LESION_COLUMNS), dtype=str)
    return Manifest(root, images_table(rows), lesions=table, classes=CLASSES)


def _graded(root: Path) -> list[dict[str, object]]:
    """A row for each line 'file grade' of the lists whose photograph is found."""
    if table := next((file for file in (root / COPY, root / GRADED / COPY) if file.is_file()), None):
        return _graded_copy(root, table)
    base = _base(root, GRADED)
    rows: list[dict[str, object]] = []
    seen: dict[Path, str] = {}
    for name, split in SPLITS.items():
        pictures = by_stem(base / name) if (base / name).is_dir() else {}
        file = base / f"{name}.txt"
        if not file.is_file():
            log.warning("DDR: no list %s; its photographs are left out", file)
            continue
        found = 0
        for line, text in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
            cells = text.split()
            if not cells:
                continue
            if len(cells) != 2 or cells[1] not in tuple("012345"):
                raise UserError(f"{file}, line {line}: '{text.strip()}' is not a file and a grade of 0 to 5")
            if (picture := picture_of(cells[0], pictures)) is not None:
                if picture in seen:
                    raise UserError(f"{file}, line {line}: {cells[0]} is on {seen[picture]} already; remove one")
                seen[picture] = f"line {line}"
                found += 1
                rows.append(_row(root, "G", split, picture) | {"grade": int(cells[1])})
        report_count(f"DDR {GRADED} {name}", found, PUBLISHED[GRADED][name])
    if not rows:
        raise UserError(f"{base}: none of the photographs in train.txt, valid.txt and test.txt is here, found "
                        f"{listing(base)}")  # fmt: skip
    log.info("DDR: %d ungradable photographs", sum(row["grade"] == UNGRADABLE for row in rows))
    return rows


def _graded_copy(root: Path, table: Path) -> list[dict[str, object]]:
    """The copy on Kaggle: one table of all gradable photographs, without the official splits."""
    rows = read_table(table, ("id_code", "diagnosis"))
    pairs = with_picture(rows, "id_code", by_stem(table.parent), table.parent)
    report_count("DDR, copy without splits", len(pairs), PUBLISHED_COPY)
    codes = {str(grade): grade for grade in range(UNGRADABLE + 1)}
    return [_row(root, "G", "", file) | {"grade": row.code("diagnosis", codes)} for row, file in pairs]


def _segmented(root: Path) -> tuple[list[dict[str, object]], list[tuple[str, str, str]]]:
    base = _base(root, SEGMENTED)
    rows: list[dict[str, object]] = []
    lesions: list[tuple[str, str, str]] = []
    for name, split in SPLITS.items():
        pictures = by_stem(base / name / "image") if (base / name / "image").is_dir() else {}
        report_count(f"DDR {SEGMENTED} {name}", len(pictures), PUBLISHED[SEGMENTED][name])
        if not pictures:
            continue
        rows += [_row(root, "S", split, picture) for picture in pictures.values()]
        lesions += _lesions(root, base / name, [(f"S_{split}_{file.stem}", file) for file in pictures.values()])
    if not rows:
        raise UserError(f"{base}: no photograph in train/image, valid/image and test/image, found {listing(base)}")
    return rows, lesions


def _lesions(root: Path, part: Path, pictures: list[tuple[str, Path]]) -> Iterator[tuple[str, str, str]]:
    """A row for each mask file: one without a lesion pixel means absent, a missing one leaves its finding undecided."""
    label = next((part / name for name in LABELS if (part / name).is_dir()), None)
    if label is None:
        raise UserError(f"{part}: no folder {' or '.join(LABELS)} with the masks, found {listing(part)}")
    for finding, letters in FINDINGS.items():
        masks = by_stem(label / letters) if (label / letters).is_dir() else {}
        rows = [(image_id, file) for image_id, picture in pictures if (file := masks.get(picture.stem.lower()))]
        if absent := len(pictures) - len(rows):
            log.warning("DDR: %d of %d masks are missing in %s", absent, len(pictures), label / letters)
        for image_id, file in rows:
            yield image_id, finding, file.relative_to(root).as_posix()


def _base(root: Path, name: str) -> Path:
    if not (root / name).is_dir():
        raise UserError(f"root={root}: source=ddr expects a folder {name}, found {listing(root)}")
    return root / name


def _row(root: Path, part: str, split: str, picture: Path) -> dict[str, object]:
    """Both parts use the same numbers, so the id contains the part."""
    image_id = "_".join(filter(None, (part, split, picture.stem)))
    return {"image_id": image_id, "path": relative_path(picture, root), "split": split}
