"""Heat maps as files: the photograph under its map, and the map itself (S1.6)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundusnet.data.decode import Pixels
from fundusnet.errors import UserError
from fundusnet.evaluation import figures
from fundusnet.prediction.maps import Map

FOLDER = "heatmaps"
_LONGEST = 180  # bytes of a file's name: file systems take 255
# Of OpenCV's ways to pack a PNG the one that takes half the time of its default for files as large.
_QUICK = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
]


@dataclass(frozen=True)
class HeatMaps:
    """How heat maps are drawn.

    Args:
        blurred: whether a map is blurred and stretched, as the paper draws activation maps; masks are shown as they
            are.
        side_by_side: put the photograph left of the overlay.
        raw: also write the map as a 16-bit PNG, 65535 for an activation of 1, neither blurred nor stretched.
    """

    blurred: bool
    side_by_side: bool
    raw: bool

    def write(self, folder: Path, image_id: str, pixels: Pixels, maps: dict[str, Map]) -> None:
        """Draw the ``maps`` of one prepared photograph ``(S, S, 3)`` into ``folder``; raises UserError."""
        for part, cells in maps.items():
            size = pixels.shape[:2]
            shown = figures.overlay(pixels, figures.heatmap(cells, size) if self.blurred else _scaled(cells, size))
            if self.side_by_side:
                shown = np.hstack([pixels, shown])
            _write(folder / file_name(image_id, part), shown[:, :, ::-1])
            if self.raw:
                sixteen = np.rint(_scaled(cells, size) * 65535).astype(np.uint16)
                _write(folder / file_name(image_id, part, "raw"), sixteen)


def _scaled(cells: Map, size: tuple[int, ...]) -> Map:
    """A map ``(h, w)`` at ``size`` ``(H, W)``, bilinear."""
    large = cv2.resize(cells, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large.clip(0, 1), dtype=np.float32)


def file_name(image_id: str, *parts: str) -> str:
    """The name of a heat map's file; ids too long for a file system are cut and told apart by a checksum."""
    data = image_id.encode()
    if len(data) > _LONGEST:
        image_id = f"{data[:_LONGEST].decode(errors='ignore')}-{zlib.crc32(data):08x}"
    return ".".join([image_id, *filter(None, parts), "png"])


def _write(file: Path, picture: Any) -> None:
    data = cv2.imencode(".png", picture, _QUICK)[1]
    try:
        file.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror}; make room, and the same command goes on"
        ) from error
