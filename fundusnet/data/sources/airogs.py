"""AIROGS (de Vente et al. 2023): referable glaucoma or not, in photographs of a screening programme."""

from __future__ import annotations

import logging
from pathlib import Path

from fundusnet.data.fellow_eyes import patients_of
from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources.tables import by_stem, find_table, read_table, with_picture

log = logging.getLogger(__name__)

CLASSES = ("no_referable_glaucoma", "referable_glaucoma")
CODES = {"NRG": 0, "RG": 1}


def load(root: Path, patients: str = "") -> Manifest:
    """Every photograph in train_labels.csv with grade 0 or 1 (referable). Neither patients nor eyes are published.

    JustRAIGS holds the same 101,423 eyes and names the fellow eye of each: where its table lies below ``root`` too, or
    in the file ``patients``, fellow eyes get one patient id. Never test a network of one set on the other.

    Raises:
        UserError: There is no such table, it names none of the photographs here, or a class is neither RG nor NRG.
    """
    rows = read_table(find_table(root, "train_labels.csv", "[!J]*train*labels*.csv"), ("challenge_id", "class"))
    pairs = with_picture(rows, "challenge_id", by_stem(root), root)
    fellows = _patients(root, patients)
    images: list[dict[str, object]] = [
        {
            "image_id": file.stem,
            "path": file.relative_to(root).as_posix(),
            "patient_id": fellows.get(row["challenge_id"], row["challenge_id"]) if fellows else "",
            "grade": row.code("class", CODES),
        }
        for row, file in pairs
    ]
    log.info("AIROGS: found %d photographs, %d referable", len(images), sum(row["grade"] == 1 for row in images))
    return Manifest(root, images_table(images), classes=CLASSES)


def _patients(root: Path, file: str) -> dict[str, str]:
    """Eye → patient, from JustRAIGS' table; {} without one."""
    tables = [Path(file).expanduser()] if file else sorted(root.rglob("*JustRAIGS*abels*.csv"))
    if not tables:
        log.info(
            "AIROGS: patients are unknown; JustRAIGS' table of the same eyes knows them: data.options.patients=FILE"
        )
        return {}
    rows = read_table(tables[0], ("Eye ID",), ("Fellow Eye ID",))
    return patients_of([row["Eye ID"] for row in rows], [row["Fellow Eye ID"] for row in rows])
