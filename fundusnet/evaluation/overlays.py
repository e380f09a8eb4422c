"""Activation maps over photographs: colours on a stated scale, the contour of a level, and the scale itself (S1.6).

A map is drawn on the absolute scale of its sigmoid, 0 to 1, and is transparent at 0: without evidence a photograph
stays as it is. Stretched to its own range, as in the papers, every map glows; such a picture says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import matplotlib
import numpy as np
from numpy.typing import ArrayLike, NDArray

Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]
Mask = NDArray[np.bool_]

BLUR = 32  # side of the Gaussian kernel in pixels of the picture (S1.6)
COLORMAP = "viridis"  # greens and yellows, which a fundus lacks; the same to colour-blind readers, and in grey
HALF = 0.25  # activation at which the colours hide half of the photograph
LEVEL_COLOR = (255, 255, 255)


def heatmap(activation: ArrayLike, size: tuple[int, int], *, relative: bool = False) -> Heat:
    """Return the heat of each pixel from one activation map.

    Args:
        activation: ``(h, w)`` in [0, 1].
        size: ``(H, W)`` of the picture.
        relative: As the paper draws it (S1.6): scaled bilinearly, blurred by a 32×32 Gaussian kernel, and stretched to
            its own range, zeros where the map is constant. Otherwise only scaled, so that 0.3 is 0.3.

    Returns:
        float32 ``(H, W)`` in [0, 1].
    """
    source = np.asarray(activation, dtype=np.float32)
    height, width = size
    large = np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    if not relative:
        return large.clip(0, 1)
    # cv2.GaussianBlur takes odd kernels only. Our reading: sigma is the one OpenCV derives from the kernel's side.
    offset = np.arange(BLUR) - (BLUR - 1) / 2
    taps = np.exp(-0.5 * (offset / (0.3 * ((BLUR - 1) * 0.5 - 1) + 0.8)) ** 2)
    taps /= taps.sum()
    blurred = cv2.sepFilter2D(large, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_REPLICATE)
    low, high = float(blurred.min()), float(blurred.max())
    # Blurring a constant leaves rounding errors, which stretching would enlarge into a pattern.
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return np.zeros(size, dtype=np.float32)
    return np.asarray((blurred - low) / np.float32(high - low), dtype=np.float32)


def overlay(image: Pixels, heat: Heat) -> Pixels:
    """Return ``image`` ``(H, W, 3)`` uint8 under ``heat`` ``(H, W)`` in [0, 1], in 256 steps; nothing changes at 0."""
    shades = palette().astype(np.uint8)
    opacity = np.repeat(shades[:, 3:], 3, axis=1)
    painted = np.rint(shades[:, :3] * (opacity / 255)).astype(np.uint8)
    # Eight-bit lookup and mixing (at most one grey level off) because predict draws one for each photograph.
    levels = cv2.merge([cv2.convertScaleAbs(heat, alpha=255)] * 3)
    kept = cv2.multiply(image, cv2.LUT(levels, 255 - opacity[:, None]), scale=1 / 255)
    return np.asarray(cv2.add(kept, cv2.LUT(levels, painted[:, None])), dtype=np.uint8)


@lru_cache
def palette() -> NDArray[np.uint8]:
    """Return red, green, blue and opacity at each of 256 steps of heat, uint8 ``(256, 4)``.

    Opacity grows fastest where there is little heat, so that 0.1 is seen and 0.01 is not.
    """
    step = np.linspace(0, 1, 256)
    colors = matplotlib.colormaps[COLORMAP](step)
    colors[:, 3] = step / (step + HALF)
    return np.asarray(np.rint(colors * 255), dtype=np.uint8)


def outlined(image: Pixels, mask: Mask, color: tuple[int, int, int], *, dark_edge: bool = False) -> Pixels:
    """Return a copy of ``image`` with the outline of ``mask`` ``(H, W)`` drawn on it.

    ``dark_edge`` puts a wider dark line below it, which keeps a light line visible on a light lesion.
    """
    drawn = image.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(image.shape[0] / 300))
    if dark_edge:
        cv2.drawContours(drawn, contours, -1, (20, 20, 20), width + 2 * max(1, width // 2), cv2.LINE_AA)
    cv2.drawContours(drawn, contours, -1, color, width, cv2.LINE_AA)
    return drawn


def contoured(image: Pixels, heat: Heat, level: float | None) -> Pixels:
    """Return a copy of ``image`` with the line around what reaches ``level``; as it is for None."""
    return image if level is None else outlined(image, heat >= level, LEVEL_COLOR, dark_edge=True)


def with_scale(image: Pixels, words: Sequence[str], ends: tuple[str, str], level: float | None = None) -> Pixels:
    """Return a copy of ``image`` with the colour bar and what it means in its lower left corner, black in most frames.

    Args:
        image: uint8 ``(H, W, 3)``.
        words: Lines above the bar.
        ends: What stands at the lower and upper end of the bar.
        level: Marked on the bar, between 0 and 1; None marks nothing.
    """
    drawn, height = image.copy(), image.shape[0]
    unit = max(8, round(min(image.shape[:2]) / 42))  # height of a line in pixels
    size, thick = unit / 34, max(1, round(unit / 18))
    font, pad = cv2.FONT_HERSHEY_SIMPLEX, unit // 2
    wide = max(cv2.getTextSize(line, font, size, thick)[0][0] for line in (*words, "0" * 12))
    top, bottom = height - round((2.9 + 1.3 * len(words)) * unit) - pad, height - pad
    box = drawn[max(top, 0) : bottom, pad : 3 * pad + wide]
    box[:] = box // 4
    left, right = 2 * pad, 2 * pad + wide
    bar_top, bar_bottom = bottom - round(2.3 * unit), bottom - round(1.5 * unit)
    shades = palette().astype(np.float32)
    # On the grey of a fundus' red channel, as the colours are on the photograph.
    bar = shades[:, :3] * shades[:, 3:] / 255 + 70 * (1 - shades[:, 3:] / 255)
    place = drawn[bar_top:bar_bottom, left:right]
    place[:] = cv2.resize(np.rint(bar).astype(np.uint8)[None], (place.shape[1], place.shape[0]))

    def write(text: str, x: int, y: float) -> None:
        cv2.putText(drawn, text, (x, round(y)), font, size, (235, 235, 235), thick, cv2.LINE_AA)

    for number, line in enumerate(words):
        write(line, left, top + (1.1 + 1.3 * number) * unit)
    write(ends[0], left, bottom - 0.4 * unit)
    write(ends[1], right - cv2.getTextSize(ends[1], font, size, thick)[0][0], bottom - 0.4 * unit)
    if level is not None:
        x = left + round(level * (right - left))
        cv2.line(drawn, (x, bar_top - unit // 4), (x, bar_bottom + unit // 4), LEVEL_COLOR, max(1, unit // 6))
    return drawn
