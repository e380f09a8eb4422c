"""AIROGS (de Vente et al. 2023): referable glaucoma or not, in photographs of a screening programme."""

from __future__ import annotations

import logging
from pathlib import Path

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources.tables import by_stem, find_table, read_table, with_picture

log = logging.getLogger(__name__)

CLASSES = ("no_referable_glaucoma", "referable_glaucoma")
CODES = {"NRG": 0, "RG": 1}


def load(root: Path) -> Manifest:
    """Every photograph in train_labels.csv with grade 0 or 1 (referable). Neither patients nor eyes are published.

    Raises:
        UserError: There is no such table, it names none of the photographs here, or a class is neither RG nor NRG.
    """
    rows = read_table(find_table(root, "train_labels.csv", "*train*labels*.csv"), ("challenge_id", "class"))
    pairs = with_picture(rows, "challenge_id", by_stem(root), root)
    images: list[dict[str, object]] = [
        {"image_id": file.stem, "path": file.relative_to(root).as_posix(), "grade": row.code("class", CODES)}
        for row, file in pairs
    ]
    log.info("AIROGS: found %d photographs, %d referable", len(images), sum(row["grade"] == 1 for row in images))
    return Manifest(root, images_table(images), classes=CLASSES)
