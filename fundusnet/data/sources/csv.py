"""The manifest format itself, as a user or the annotation page writes it."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fundusnet.config.conf import conf_folder, values_in_files
from fundusnet.data import dicom
from fundusnet.data.manifest import UNANSWERED, Manifest, read_manifest

log = logging.getLogger(__name__)

#: what people write for an unknown patient
PLACEHOLDERS = frozenset(("na", "n/a", "nan", "none", "null", "unknown", "-", "?", "0", "missing"))


def load(root: Path, classes: Sequence[str] = ()) -> Manifest:
    """The manifest in ``root``; ``classes`` names the grades 0 … K-1 if the table has grades.

    Raises:
        UserError: The manifest is wrong, or it has a DICOM file and pydicom is not installed.
    """
    manifest = read_manifest(root, tuple(classes))
    for table in (manifest.images, manifest.lesions):
        table["path"] = as_on_disk(root, table["path"].tolist())
    for table in (manifest.readings, manifest.lesions):
        table["finding"] = _as_known(table["finding"].tolist())
    if UNANSWERED in manifest.readings:
        cells = manifest.readings[UNANSWERED].unique().tolist()
        names = {cell: ";".join(_as_known([name.strip() for name in cell.split(";")])) for cell in cells}
        manifest.readings[UNANSWERED] = manifest.readings[UNANSWERED].map(names)
    dicom.check_installed(root / path for path in manifest.images["path"])
    _warn_of_placeholders(manifest.images["patient_id"].tolist())
    return manifest


def as_on_disk(root: Path, paths: list[str]) -> list[str]:
    """Paths with the slashes, the case of letters and the umlauts (one sign, or two) that the files have.

    Those of missing files stay as they are.
    """
    names: dict[Path, dict[str, str]] = {}

    def plain(name: str) -> str:
        return unicodedata.normalize("NFC", name).lower()

    def on_disk(path: str) -> str:
        if not path or (root / path).exists():
            return path
        parts, place = path.replace("\\", "/").split("/"), root
        for part in parts:
            if place not in names:
                names[place] = {plain(each.name): each.name for each in (place.iterdir() if place.is_dir() else ())}
            place = place / (part if (place / part).exists() else names[place].get(plain(part), part))
        return place.relative_to(root).as_posix() if place.exists() else path

    found = [on_disk(path) for path in paths]
    if changed := sum(before != after for before, after in zip(paths, found, strict=True)):
        log.info("%d paths are written differently on disk (slashes, umlauts, or the case of letters)", changed)
    return found


def _as_known(findings: list[str]) -> list[str]:
    """Findings under the names that ``conf/finding`` has, where only case, spaces or hyphens differ."""
    known = {str(name) for names in values_in_files([conf_folder()], "finding", "names") for name in names}
    spelt = {name: re.sub(r"[\s-]+", "_", name.strip().lower()) for name in set(findings)}
    renamed = {name: plain for name, plain in spelt.items() if name not in known and plain in known}
    for name, plain in renamed.items():
        log.warning("finding '%s' is taken as %s", name, plain)
    return [renamed.get(name, name) for name in findings]


def _warn_of_placeholders(patients: list[str]) -> None:
    """Warn of a patient id that stands for an unknown patient, or that all photographs share."""
    for name, count in Counter(patients).items():
        alone = count == len(patients)
        if name and count > 1 and (alone or name.lower() in PLACEHOLDERS):
            log.warning(
                "patient_id '%s' on %d of %d photographs makes them one patient, all in one split; leave the cell "
                "empty if the patient is unknown",
                name,
                count,
                len(patients),
            )
