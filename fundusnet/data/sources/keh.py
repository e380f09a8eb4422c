"""Kim's Eye Hospital, "Machine learn for glaucoma" (Harvard Dataverse, doi 10.7910/DVN/1YRRAC).

Disc-centred crops, 240 x 240, graded normal < early < advanced glaucoma: ordered, but "early" is glaucoma,
not the "suspicious" of S2. Neither patients nor eyes nor foveas are known.
"""

from __future__ import annotations

from pathlib import Path

from fundusnet.data.listing import photographs, relative_path, unique_ids
from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.sources import listing
from fundusnet.data.sources.tables import report_count
from fundusnet.errors import UserError

CLASSES = ("normal", "early", "advanced")
# Folder of each grade in order, and its number of photographs in the published set.
FOLDERS = {"normal_control": 788, "early_glaucoma": 289, "advanced_glaucoma": 467}


def load(root: Path) -> Manifest:
    """Every crop under the three folders, with grades 0 (normal), 1 (early), 2 (advanced).

    Raises:
        UserError: One of the folders is absent or empty.
    """
    rows: list[dict[str, object]] = []
    for grade, (name, published) in enumerate(FOLDERS.items()):
        if not (root / name).is_dir():
            raise UserError(f"root={root}: source=keh expects folders {', '.join(FOLDERS)}, found {listing(root)}")
        files = photographs(root / name)
        if not files:
            raise UserError(f"root={root}: folder '{name}' holds no photograph, found {listing(root / name)}")
        report_count(f"KEH {name}", len(files), published)
        paths = [relative_path(file, root) for file in files]
        rows += [
            {"image_id": image_id, "path": path, "grade": grade}
            for image_id, path in zip(unique_ids(paths), paths, strict=True)
        ]
    return Manifest(root, images_table(rows), classes=CLASSES)
