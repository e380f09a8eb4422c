"""Photographs with the points that are given and those that were found."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.data.decode import Pixels

GIVEN, FOUND = (64, 220, 120), (255, 255, 255)


def with_points(pixels: Pixels, given: NDArray[np.floating], found: NDArray[np.floating]) -> Pixels:
    """Return a copy of ``pixels`` (S, S, 3): a green ring around each given point, a white cross at each found one.

    Args:
        pixels: The picture.
        given, found: ``(2, 2)``, disc and fovea, in its pixels; NaN = not drawn.
    """
    drawn = np.ascontiguousarray(pixels).copy()
    size = pixels.shape[0]
    width = max(1, size // 200)
    for point in given[np.isfinite(given).all(axis=1)]:
        cv2.circle(drawn, np.round(point).astype(int).tolist(), size // 28, GIVEN, width, cv2.LINE_AA)
    for point in found[np.isfinite(found).all(axis=1)]:
        place = np.round(point).astype(int).tolist()
        cv2.drawMarker(drawn, place, FOUND, cv2.MARKER_CROSS, size // 20, width, cv2.LINE_AA)
    return drawn
