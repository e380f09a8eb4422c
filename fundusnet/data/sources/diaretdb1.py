"""DIARETDB1 v1.1 (Kauppi et al. 2007): 89 photographs in which four experts marked four findings.

A mask sums what the experts said at each pixel, in twelfths: each of the four marked with a confidence of a third, two
thirds or one, and 252 is all four with certainty. The set's own evaluation takes what has 0.75 of it, grey 189.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from fundusnet.data.decode import Unreadable, read_mask
from fundusnet.data.manifest import LESION_COLUMNS, Manifest, images_table
from fundusnet.data.sources import found_near, listing
from fundusnet.data.sources.tables import by_stem, picture_of, report_count, report_findings
from fundusnet.errors import UserError
from fundusnet.system.progress import track

log = logging.getLogger(__name__)

CERTAIN = 252  # grey level of full confidence
FINDINGS = {
    "hard_exudate": "hardexudates",
    "cotton_wool_patch": "softexudates",
    "hemorrhage": "hemorrhages",
    "microaneurysm": "redsmalldots",
}
PICTURES = "images/ddb1_fundusimages"
TRUTH = "images/ddb1_groundtruth"
# Split in the manifest: "" for the training set, so that a validation set can be drawn from it.
LISTS = {"": "traindatasets/trainset.txt", "test": "testdatasets/testset.txt"}
PUBLISHED = {"": 28, "test": 61}


def load(root: Path, confidence: float = 0.75) -> Manifest:
    """Photographs with the lesions that have at least this ``confidence`` of the four experts together, 0 = any mark.

    A finding is present if a pixel has it, absent if nobody marked one, and undecided (no row) otherwise, as for
    readings (S1.2). Neither patients nor disc or fovea are known.

    Raises:
        UserError: ``confidence`` is not 0 to 1, or a folder or list of the set is missing.
    """
    if not 0 <= confidence <= 1:
        raise UserError(f"data.options.confidence={confidence} is not 0 to 1: 0 takes any mark, 0.75 is the set's own")
    base = root / "resources" if (root / "resources").is_dir() else root
    for place in (PICTURES, *(f"{TRUTH}/{folder}" for folder in FINDINGS.values())):
        if not (base / place).is_dir():
            raise UserError(f"root={root}: source=diaretdb1 expects a folder {place}, {found_near(base / place)}")
    pictures = by_stem(base / PICTURES)
    rows: list[dict[str, object]] = []
    for split, name in LISTS.items():
        files = [file for line in _list(base / name) if (file := picture_of(line, pictures)) is not None]
        report_count(f"DIARETDB1 {Path(name).stem}", len(files), PUBLISHED[split])
        rows += [
            {"image_id": file.stem, "path": file.relative_to(root).as_posix(), "split": split}
            for file in dict.fromkeys(files)
        ]
    if not rows:
        raise UserError(
            f"root={root}: none of the photographs in {' and '.join(LISTS.values())} is in {PICTURES}, found "
            f"{listing(base / PICTURES)}"
        )
    # The lowest mark is 21: half a step below leaves room for a mask that was saved again.
    above = max(0, math.ceil(CERTAIN * confidence) - 11)
    lesions = pd.DataFrame(_lesions(root, base, rows, above), columns=list(LESION_COLUMNS), dtype=str)
    report_findings("DIARETDB1", lesions, FINDINGS, len(rows))
    return Manifest(root, images_table(rows), lesions=lesions, lesion_above=above)


def _list(file: Path) -> list[str]:
    """Names of photographs, one a line, with or without a folder before them."""
    if not file.is_file():
        raise UserError(f"{file} is missing, {found_near(file)}")
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _lesions(root: Path, base: Path, rows: list[dict[str, object]], above: int) -> Iterator[tuple[str, str, str]]:
    masks = {finding: by_stem(base / TRUTH / folder) for finding, folder in FINDINGS.items()}
    wanted = [
        (str(row["image_id"]), finding, mask)
        for row in rows
        for finding in FINDINGS
        if (mask := masks[finding].get(str(row["image_id"]).lower())) is not None
    ]
    if absent := len(rows) * len(FINDINGS) - len(wanted):
        log.warning("DIARETDB1: %d masks are missing; their findings stay undecided", absent)
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(lambda job: _verdict(job[2], above), wanted)
        for (image_id, finding, mask), verdict in zip(
            wanted, track(verdicts, "experts' masks", total=len(wanted)), strict=True
        ):
            if verdict != "undecided":
                yield image_id, finding, mask.relative_to(root).as_posix() if verdict == "present" else ""


def _verdict(mask: Path, above: int) -> str:
    try:
        if not read_mask(mask).any():
            return "absent"
        return "present" if read_mask(mask, above).any() else "undecided"
    except Unreadable as error:
        log.warning("%s: %s; its finding stays undecided", mask, error)
        return "undecided"
