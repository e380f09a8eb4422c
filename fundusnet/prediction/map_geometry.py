"""Averages activation maps of several networks and warps them into the frame of the photograph."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.prediction.preparation import PreparedPhotograph

Map = NDArray[np.float32]


def mean_map(maps: Sequence[Map]) -> Map:
    """The mean of maps ``(h, w)``, the smaller ones resized to the largest.

    Examples:
        >>> mean_map([np.zeros((2, 2), np.float32), np.ones((4, 4), np.float32)]).shape
        (4, 4)
    """
    if len(maps) == 1:
        return maps[0]
    height, width = (max(each.shape[axis] for each in maps) for axis in (0, 1))
    resized = [cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in maps]
    return np.asarray(np.mean(resized, axis=0), dtype=np.float32)


def warp_to_photograph(cells: Map, picture: PreparedPhotograph, size: int, width: int | None = None) -> Map:
    """A map of the prepared frame in the frame of the photograph, interpolated bilinearly.

    Args:
        cells: Map ``(h, w)``.
        picture: The photograph that the map belongs to.
        size: Side in pixels of the prepared frame.
        width: Of the result, for a photograph that is shown smaller; None is the photograph's own.

    Returns:
        ``(height, width)`` of the photograph, both scaled alike; 0 outside the field of view, which no network saw.
    """
    frame = picture.frames[size]
    prepared = cv2.resize(np.asarray(cells, dtype=np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    shown = width or picture.width
    # Pixel centres lie half a pixel inside their edges at either size.
    step = picture.width / shown
    dx, dy = (shift + frame.scale * (step - 1) / 2 for shift in (frame.dx, frame.dy))
    matrix = np.array([[frame.scale * step, 0, dx], [0, frame.scale * step, dy]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    high = shown_height(picture.width, picture.height, shown)
    warped = cv2.warpAffine(prepared, matrix, (shown, high), flags=flags)
    return np.asarray(warped, dtype=np.float32)


def shown_height(width: int, height: int, shown: int) -> int:
    """The height at which a photograph is ``shown`` pixels wide.

    Examples:
        >>> shown_height(4288, 2848, 1072)
        712
    """
    return max(1, round(height * shown / width))
