"""The manifest format itself, as a user or the annotation page writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fundusnet.data.manifest import Manifest, read_manifest


def load(root: Path, classes: Sequence[str] = ()) -> Manifest:
    """The manifest in ``root``; ``classes`` names the grades 0 … K-1 where the table has grades."""
    return read_manifest(root, tuple(classes))
