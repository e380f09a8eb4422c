"""Writes heat maps: the photograph, at its own size, under its activation map, and the map itself (S1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundusnet.data.decode import Pixels
from fundusnet.data.listing import file_name
from fundusnet.errors import UserError
from fundusnet.evaluation import overlays
from fundusnet.prediction.map_geometry import Map, warp_to_photograph
from fundusnet.prediction.preparation import PreparedPhotograph

HEATMAPS = "heatmaps"
QUALITY = 92  # of a JPEG
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
        masks: Whether the maps are masks of a grading stage, which have a scale of their own.
        relative: Blur each activation map and stretch it to its own range, as the paper draws it.
        longest: Longest side of the pictures in pixels; None is the photograph's own.
        side_by_side: Put the photograph left of the overlay.
        raw: Also write the map as a 16-bit PNG, 65535 for an activation of 1, never stretched.
        levels: Finding → operating point, around which a line is drawn.
    """

    masks: bool
    relative: bool
    longest: int | None
    side_by_side: bool
    raw: bool
    levels: Mapping[str, float] = field(default_factory=dict)

    def write(
        self, folder: Path, image_id: str, pixels: Pixels, picture: PreparedPhotograph, size: int, maps: dict[str, Map]
    ) -> None:
        """Draw the maps of one photograph.

        Args:
            folder: Where the files go.
            image_id: Start of their names.
            pixels: The upright photograph, uint8 RGB ``(H, W, 3)``, perhaps reduced.
            picture: The photograph in the frame of the networks.
            size: Side in pixels of that frame.
            maps: Part of the file name → map ``(h, w)`` in [0, 1].

        Raises:
            UserError: A file cannot be written.
        """
        for part, cells in maps.items():
            relative = self.relative and not self.masks
            heat = overlays.heatmap(cells, (size, size), relative=relative)
            warped = warp_to_photograph(heat, picture, size, pixels.shape[1])
            level = None if relative else self.levels.get(part)
            shown = overlays.contoured(overlays.overlay(pixels, warped), warped, level)
            shown = overlays.with_scale(shown, *self._scale(part, cells, level), level)
            if self.side_by_side:
                shown = np.hstack([pixels, shown])
            write_picture(folder / file_name(image_id, part, suffix="jpg"), shown[:, :, ::-1])
            if self.raw:
                plain = warp_to_photograph(cells, picture, size, pixels.shape[1])
                sixteen = np.rint(plain.clip(0, 1) * 65535).astype(np.uint16)
                write_picture(folder / file_name(image_id, part, "raw"), sixteen)

    def _scale(self, part: str, cells: Map, level: float | None) -> tuple[list[str], tuple[str, str]]:
        """What is written on the picture: lines, and the ends of the colour bar."""
        if self.masks:
            return ["mask of the network,", "on its own scale"], ("0", "1")
        name = part.replace("_", " ")
        if self.relative:
            return [name, "stretched to this", "map's own range"], (f"{cells.min():.3f}", f"{cells.max():.3f}")
        lines = [name, "activation"]
        return lines if level is None else [*lines, f"line: {level:.3f}"], ("0", "1")


def write_picture(file: Path, picture: Any, quality: int = QUALITY) -> None:
    """Write BGR or grey pixels as the PNG or JPEG that the suffix names.

    Raises:
        UserError: The file cannot be written.
    """
    how = _FAST_PNG if file.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, quality]
    write_bytes(file, cv2.imencode(file.suffix, picture, how)[1].tobytes())


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file of the output folder.

    Raises:
        UserError: It cannot be written.
    """
    try:
        file.write_bytes(data)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror}; make room and run the same command again to resume"
        ) from error
