"""APTOS 2019 Blindness Detection (Kaggle): retinopathy grades of the training part; the test part has no labels."""

from __future__ import annotations

from pathlib import Path

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources.tables import by_stem, find_table, read_table, report_count, with_picture

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")
CODES = {str(grade): grade for grade in range(len(CLASSES))}
PUBLISHED = 3662


def load(root: Path) -> Manifest:
    """Every photograph in train.csv with its grade. Neither patients nor eyes are known.

    Raises:
        UserError: There is no train.csv, it names none of the photographs here, or a grade is not one of 0 … 4.
    """
    rows = read_table(find_table(root, "train.csv"), ("id_code", "diagnosis"))
    pairs = with_picture(rows, "id_code", by_stem(root), root)
    report_count("APTOS 2019", len(pairs), PUBLISHED)
    images: list[dict[str, object]] = [
        {"image_id": file.stem, "path": file.relative_to(root).as_posix(), "grade": row.code("diagnosis", CODES)}
        for row, file in pairs
    ]
    return Manifest(root, images_table(images), classes=CLASSES)
