"""Maps of networks: their mean, and where they lie in the photograph."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.prediction.picture import Picture

Map = NDArray[np.float32]


def mean_map(maps: Sequence[Map]) -> Map:
    """The mean of maps ``(h, w)``, those of fewer cells brought to the size of the largest."""
    if len(maps) == 1:
        return maps[0]
    height, width = (max(each.shape[axis] for each in maps) for axis in (0, 1))
    large = [cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in maps]
    return np.asarray(np.mean(large, axis=0), dtype=np.float32)


def in_photograph(cells: Map, picture: Picture, size: int) -> Map:
    """A map ``(h, w)`` of the prepared frame, bilinear in the frame of the photograph: ``(height, width)``.

    0 outside the field of view, which no network saw.
    """
    frame = picture.frames[size]
    whole = cv2.resize(np.asarray(cells, dtype=np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    matrix = np.array([[frame.scale, 0, frame.dx], [0, frame.scale, frame.dy]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(whole, matrix, (picture.width, picture.height), flags=flags)
    return np.asarray(moved, dtype=np.float32)
