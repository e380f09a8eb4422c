"""APTOS 2019 Blindness Detection (Kaggle): retinopathy grades of the training part; the test part has no labels."""

from __future__ import annotations

from pathlib import Path

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources.tables import by_stem, find_table, read_table, report_count, with_picture

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")
CODES = {str(grade): grade for grade in range(len(CLASSES))}
PUBLISHED = 3662
# The copy on Kaggle that divides the labelled photographs: its tables, and the splits that they are.
COPY = {"train_1.csv": "train", "valid.csv": "val", "test.csv": "test"}


def load(root: Path) -> Manifest:
    """Every photograph in train.csv, or in the three tables of the divided copy, with its grade.

    Neither patients nor eyes are known.

    Raises:
        UserError: There is no such table, it names none of the photographs here, or a grade is not one of 0 … 4.
    """
    tables = {"train.csv": ""}
    if not any(root.rglob("train.csv")) and any(root.rglob("train_1.csv")):
        tables = COPY
    pictures = by_stem(root)
    images: list[dict[str, object]] = []
    for name, split in tables.items():
        rows = read_table(find_table(root, name), ("id_code", "diagnosis"))
        images += [
            {
                "image_id": file.stem,
                "path": file.relative_to(root).as_posix(),
                "split": split,
                "grade": row.code("diagnosis", CODES),
            }
            for row, file in with_picture(rows, "id_code", pictures, root)
        ]
    report_count("APTOS 2019", len(images), PUBLISHED)
    return Manifest(root, images_table(images), classes=CLASSES)
