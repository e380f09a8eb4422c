"""RFMiD (Pachade et al. 2021): 3200 photographs, each with any of 45 diseases and findings, in official splits."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from fundusnet.data.manifest import READING_COLUMNS, Manifest, images_table
from fundusnet.data.sources import listing
from fundusnet.data.sources.tables import (
    by_stem,
    columns_of,
    find_table,
    innermost,
    read_table,
    report_count,
    with_picture,
)
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

CODES = {"0": 0, "1": 1}
RISK = "Disease_Risk"
# Findings of columns; any other column is a finding of its own name in lower case. MH is media haze, MHL macular hole.
FINDINGS = {
    "DR": "diabetic_retinopathy",
    "ARMD": "age_related_macular_degeneration",
    "MH": "media_haze",
    "DN": "drusen",
    "MYA": "myopia",
    "BRVO": "branch_retinal_vein_occlusion",
    "TSLN": "tessellation",
    "ERM": "membrane",
    "ODC": "optic_disc_cupping",
    "ODP": "optic_disc_pallor",
    "ODE": "optic_disc_edema",
    "RPEC": "retinal_pigmentary_change",
    "MHL": "macular_hole",
    "CWS": "cotton_wool_patch",
}
# Split → names of its folder of photographs, its table, and its published size.
PARTS = {
    "train": (("a. Training Set", "Training"), "*RFMiD_Training_Labels.csv", 1920),
    "val": (("b. Validation Set", "Validation"), "*RFMiD_Validation_Labels.csv", 640),
    "test": (("c. Testing Set", "Test"), "*RFMiD_Testing_Labels.csv", 640),
}
READER = "rfmid"


def load(root: Path) -> Manifest:
    """One reading per photograph. There are no regions; neither patients nor eyes are known.

    Raises:
        UserError: No part is found, a part lacks its table, or a cell is neither 0 nor 1.
    """
    images: list[dict[str, object]] = []
    readings: list[tuple[str, str, str, str]] = []
    for split, (names, pattern, published) in PARTS.items():
        place = innermost(root, names)
        if place is None:
            log.warning("RFMiD %s: no folder %s below %s", split, " or ".join(names), root)
            continue
        table = find_table(root, pattern)
        diseases = [name for name in columns_of(table) if re.sub(r"\W", "", name) not in ("ID", RISK)]
        # Numbers start at 1 in each part, so photographs are looked up within the part.
        pairs = with_picture(read_table(table, ("ID", RISK, *diseases)), "ID", by_stem(place), place)
        report_count(f"RFMiD {split}", len(pairs), published)
        for row, file in pairs:
            image_id = f"{split}_{file.stem}"
            images.append({"image_id": image_id, "path": file.relative_to(root).as_posix(), "split": split})
            present = [FINDINGS.get(name, name.lower()) for name in diseases if row.code(name, CODES)]
            if not present and row.code(RISK, CODES):
                present = ["other"]
            readings += [(image_id, READER, finding, "") for finding in present or [""]]
    if not images:
        expected = ", ".join(f"'{names[0]}'" for names, _, _ in PARTS.values())
        raise UserError(f"root={root}: source=rfmid expects photographs in {expected}, found {listing(root)}")
    return Manifest(root, images_table(images), pd.DataFrame(readings, columns=list(READING_COLUMNS), dtype=str))
