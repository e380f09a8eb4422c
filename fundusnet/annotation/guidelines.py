"""A study's guidelines: Markdown and example pictures in the folder ``guidelines`` of the study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

GENERAL = "general"
"""Name of the guidelines that concern all findings."""
PICTURES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_LARGEST = 200_000  # characters of one file


def read_guidelines(folder: Path, findings: Sequence[str]) -> dict[str, str]:
    """Markdown by finding, and under ``GENERAL`` what concerns all; empty if the study has none.

    ``<finding>.md`` is that of a finding. Files are read each time, so that they can be changed while the page is open.
    """
    files = {name: folder / f"{name}.md" for name in (GENERAL, *findings)}
    return {
        name: file.read_text(encoding="utf-8-sig", errors="replace")[:_LARGEST]
        for name, file in files.items()
        if file.is_file()
    }


def guideline_picture(folder: Path, name: str) -> Path | None:
    """The file of a picture below ``folder``; None if there is none of this name, or it lies elsewhere."""
    try:
        file = (folder / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    inside = file.is_relative_to(folder.resolve()) and file.is_file()
    return file if inside and file.suffix.lower() in PICTURES else None
