"""The manifest format itself, as a user or the annotation page writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fundusnet.data import dicom
from fundusnet.data.manifest import Manifest, read_manifest


def load(root: Path, classes: Sequence[str] = ()) -> Manifest:
    """The manifest in ``root``; ``classes`` names the grades 0 … K-1 if the table has grades.

    Raises:
        UserError: The manifest is wrong, or it has a DICOM file and pydicom is not installed.
    """
    manifest = read_manifest(root, tuple(classes))
    dicom.check_installed(root / path for path in manifest.images["path"])
    return manifest
