"""Writes heat maps: the photograph under its activation map, and the map itself (S1.6)."""

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
from fundusnet.prediction.map_geometry import Map

HEATMAPS = "heatmaps"
_LONGEST = 180  # bytes of an image id in a file name; file systems allow 255 for the whole name
# Takes half the time of OpenCV's default settings, for files of the same size.
_FAST_PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
]


@dataclass(frozen=True)
class HeatmapStyle:
    """How heat maps are drawn.

    Attributes:
        blurred: Whether maps are blurred and stretched to their range, as the paper draws activation maps; masks are
            drawn as they are.
        side_by_side: Put the photograph left of the overlay.
        raw: Also write the map as a 16-bit PNG, 65535 for an activation of 1, neither blurred nor stretched.
    """

    blurred: bool
    side_by_side: bool
    raw: bool

    def write(self, folder: Path, image_id: str, pixels: Pixels, maps: dict[str, Map]) -> None:
        """Draw the maps of one photograph.

        Args:
            folder: Where the files go.
            image_id: Start of their names.
            pixels: Prepared photograph, uint8 RGB ``(S, S, 3)``.
            maps: Part of the file name → map ``(h, w)`` in [0, 1].

        Raises:
            UserError: A file cannot be written.
        """
        for part, cells in maps.items():
            size = pixels.shape[:2]
            shown = figures.overlay(pixels, figures.heatmap(cells, size) if self.blurred else _resized(cells, size))
            if self.side_by_side:
                shown = np.hstack([pixels, shown])
            _write(folder / file_name(image_id, part), shown[:, :, ::-1])
            if self.raw:
                sixteen = np.rint(_resized(cells, size) * 65535).astype(np.uint16)
                _write(folder / file_name(image_id, part, "raw"), sixteen)


def file_name(image_id: str, *parts: str) -> str:
    """The file name of a heat map; an id too long for a file system is cut and made unique by a checksum.

    Examples:
        >>> file_name("eye_01", "drusen", "raw")
        'eye_01.drusen.raw.png'
    """
    data = image_id.encode()
    if len(data) > _LONGEST:
        image_id = f"{data[:_LONGEST].decode(errors='ignore')}-{zlib.crc32(data):08x}"
    return ".".join([image_id, *filter(None, parts), "png"])


def _resized(cells: Map, size: tuple[int, ...]) -> Map:
    """A map ``(h, w)`` at ``size`` ``(H, W)``, bilinear."""
    large = cv2.resize(cells, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large.clip(0, 1), dtype=np.float32)


def _write(file: Path, picture: Any) -> None:
    data = cv2.imencode(".png", picture, _FAST_PNG)[1]
    try:
        file.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror}; make room and run the same command again to resume"
        ) from error
