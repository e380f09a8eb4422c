"""Pieces of miniature public sets: pictures, masks and spreadsheets, as the sets name and nest them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from openpyxl import Workbook


def touch(root: Path, *names: str) -> Path:
    """Empty files: sources list photographs, they do not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def text(file: Path, content: str) -> Path:
    """A text file with just these bytes, line ends and byte order mark included."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode("utf-8"))
    return file


def sheet(file: Path, rows: Sequence[Sequence[object]]) -> Path:
    """An Excel file of one sheet; None is an empty cell."""
    file.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(file)
    return file


def picture(file: Path, seed: int, size: int = 96) -> Path:
    """A round field of coarse noise: no two seeds are near-identical."""
    noise = np.random.default_rng(seed).integers(60, 255, (8, 8, 3), dtype=np.uint8)
    noise = np.maximum(cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC), 50)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.where((x**2 + y**2 < (0.48 * size) ** 2)[..., None], noise, 0).astype(np.uint8))
    return file


def mask(file: Path, level: int, size: int = 96, background: int = 0) -> Path:
    """A grey mask with a square of one level, columns 40 to 49 and rows 20 to 29."""
    pixels = np.full((size, size), background, np.uint8)
    pixels[20:30, 40:50] = level
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), pixels)
    return file
