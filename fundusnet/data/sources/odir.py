"""ODIR-5K (Peking University, 2019): the diagnoses of either eye of 3500 patients, as keywords."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from fundusnet.data.manifest import READING_COLUMNS, Manifest, images_table
from fundusnet.data.sources import listing
from fundusnet.data.sources.tables import by_stem, find_table, innermost, picture_of, read_table, report_count
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

PUBLISHED, PUBLISHED_WITH_TESTS = 7000, 10000
TABLES = ("*Training_Annotations*.xlsx", "data.xlsx")
# Of OIA-ODIR, and of the copy on Kaggle, where a patient's row is there for either eye.
COPIES = ("*training annotation*.xlsx", "full_df.csv")
# The parts of OIA-ODIR that are for testing have tables of their own.
TESTS = ("*off-site test annotation*.xlsx", "*on-site test annotation*.xlsx")
# Some copies also hold reduced photographs under the same names.
FOLDERS = ("ODIR-5K_Training_Dataset", "ODIR-5K_Training_Images", "Training Images")
NORMAL = "normal fundus"
# Part of a keyword → its finding; a keyword without any of these is a finding of its own name.
FINDINGS = {
    "diabetic retinopathy": "diabetic_retinopathy",
    "proliferative retinopathy": "diabetic_retinopathy",  # and nonproliferative
    "glaucoma": "glaucoma",
    "cataract": "cataract",
    "age-related macular degeneration": "age_related_macular_degeneration",
    "hypertensive retinopathy": "hypertensive_retinopathy",
    "myopi": "pathological_myopia",
    "epiretinal membrane": "membrane",
}
# Of the photograph, not of the eye.
QUALITY = ("lens dust", "optic disk photographically invisible", "low image quality", "image offset")
NO_FUNDUS = ("anterior segment image", "no fundus image")
DOUBT = ("suspected", "suspicious")
READER = "odir"


def load(root: Path) -> Manifest:
    """One reading per eye, from its own keywords (the set's N, D, G, C, A, H, M, O are of the patient). No regions.

    The labelled test sets of OIA-ODIR are the test split. Photographs without a fundus, and eyes in which something is
    only suspected, are left out. An eye with keywords of the photograph's quality only has no reading.

    Raises:
        UserError: There is no table, it has other columns, or none of its photographs is here.
    """
    copies = [] if any(any(root.rglob(name)) for name in TABLES) else [name for name in COPIES if any(root.rglob(name))]
    tables = [(find_table(root, *(copies or TABLES)), "")]
    tables += [(file, "test") for pattern in TESTS for file in sorted(root.rglob(pattern)) if file.name[0] not in ".~"]
    sides = (
        ("left", "Left-Fundus", "Left-Diagnostic Keywords"),
        ("right", "Right-Fundus", "Right-Diagnostic Keywords"),
    )
    images: list[dict[str, object]] = []
    readings: list[tuple[str, str, str, str]] = []
    seen: dict[Path, tuple[str, str]] = {}
    doubtful = blind = 0
    for table, split in tables:
        place = _place(root, table, split)
        pictures = by_stem(place)
        for row in read_table(table, ("ID", *(name for _, *names in sides for name in names))):
            for eye, fundus, diagnosis in sides:
                if (file := picture_of(row[fundus], pictures)) is None:
                    continue
                if file in seen:
                    if table.name == "full_df.csv" and seen[file] == (row["ID"], row[diagnosis]):
                        continue
                    raise row.wrong(fundus, "a photograph of this row only; remove the row that repeats it")
                seen[file] = row["ID"], row[diagnosis]
                keywords = split_keywords(row[diagnosis])
                if any(word in keyword for word in NO_FUNDUS for keyword in keywords):
                    blind += 1
                    continue
                if any(word in keyword for word in DOUBT for keyword in keywords):
                    doubtful += 1
                    continue
                about = {"image_id": file.stem, "path": file.relative_to(root).as_posix(), "patient_id": row["ID"]}
                images.append({**about, "eye": eye, "split": split})
                diagnoses = [keyword for keyword in keywords if keyword not in QUALITY]
                diseases = sorted({finding_of(keyword) for keyword in diagnoses if keyword != NORMAL})
                if diagnoses:
                    readings += [(file.stem, READER, finding, "") for finding in diseases or [""]]
    if not seen:
        table, place = tables[0][0], _place(root, *tables[0])
        raise UserError(f"{table}: none of its photographs is in {place}, found {listing(place)}")
    report_count("ODIR-5K", len(seen), PUBLISHED if len(tables) == 1 else PUBLISHED_WITH_TESTS)
    log.info("ODIR-5K: left out %d photographs without a fundus and %d of something suspected", blind, doubtful)
    return Manifest(root, images_table(images), pd.DataFrame(readings, columns=list(READING_COLUMNS), dtype=str))


def _place(root: Path, table: Path, split: str) -> Path:
    """Where the photographs of a table are: a test set's are below the folder that holds its table's folder."""
    if split or "training annotation" in table.name.lower():
        return table.parent if table.parent == root else table.parent.parent
    return innermost(root, FOLDERS) or root


def split_keywords(cell: str) -> list[str]:
    """Keywords of one eye, in lower case, separated by a full-width or a plain comma."""
    return [" ".join(word.lower().split()) for word in re.split("[\uff0c,]", cell) if word.strip()]


def finding_of(keyword: str) -> str:
    """Name of the finding of a keyword."""
    known = next((name for part, name in FINDINGS.items() if part in keyword), None)
    return known or re.sub(r"[^a-z0-9]+", "_", keyword).strip("_")
