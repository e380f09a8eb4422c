"""Figures that both systems share: heat maps, outlines, panels, ROC curves (S1.6).

Every function returns a ``Figure`` outside pyplot's global state, so that threads and notebooks can draw at the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score, roc_curve

Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]
Mask = NDArray[np.bool_]

BLUR = 32  # side of the Gaussian kernel in pixels of the picture (S1.6)
COLORS = ("#1f77b4", "#d9541e", "#2a9d5c", "#8e5bbf", "#b58a00", "#c2407f")
OUTLINE_COLORS = ((120, 220, 255), (90, 255, 120))  # blue, green


def heatmap(activation: ArrayLike, size: tuple[int, int]) -> Heat:
    """Return the heat map of one activation map, as the paper draws it (S1.6).

    Args:
        activation: ``(h, w)``, scaled bilinearly to ``size`` and blurred by a 32×32 Gaussian kernel.
        size: ``(H, W)`` of the picture.

    Returns:
        float32 ``(H, W)``, stretched to [0, 1]; zeros where the map is constant.
    """
    source = np.asarray(activation, dtype=np.float32)
    height, width = size
    large = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    # cv2.GaussianBlur takes odd kernels only. Our reading: sigma is the one OpenCV derives from the kernel's side.
    offset = np.arange(BLUR) - (BLUR - 1) / 2
    taps = np.exp(-0.5 * (offset / (0.3 * ((BLUR - 1) * 0.5 - 1) + 0.8)) ** 2)
    taps /= taps.sum()
    blurred = cv2.sepFilter2D(large, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_REPLICATE)
    low, high = float(blurred.min()), float(blurred.max())
    # Blurring a constant leaves rounding errors, which stretching would enlarge into a pattern.
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return np.zeros(size, dtype=np.float32)
    return (blurred - low) / np.float32(high - low)


def overlay(image: Pixels, heat: Heat, strength: float = 0.55) -> Pixels:
    """Return ``image`` ``(H, W, 3)`` uint8 under ``heat`` ``(H, W)`` in [0, 1], in 256 steps."""
    kept, painted = _shades(strength)
    # Eight-bit lookup and mixing (at most one grey level off) because predict draws one for each photograph.
    levels = cv2.merge([cv2.convertScaleAbs(heat, alpha=255)] * 3)
    mixed = cv2.multiply(image, cv2.LUT(levels, kept), scale=1 / 255)
    return np.asarray(cv2.add(mixed, cv2.LUT(levels, painted)), dtype=np.uint8)


@lru_cache
def _shades(strength: float) -> tuple[Pixels, Pixels]:
    """Return the share kept of a pixel and the color added to it at each step of heat, uint8 ``(256, 1, 3)`` each."""
    step = np.linspace(0, 1, 256)
    opacity = strength * np.sqrt(step)[:, None]
    painted = np.rint(matplotlib.colormaps["inferno"](step)[:, :3] * 255 * opacity).astype(np.uint8)
    kept = np.rint(np.repeat(1 - opacity, 3, axis=1) * 255).astype(np.uint8)
    return kept[:, None], painted[:, None]


def outlined(image: Pixels, mask: Mask, color: tuple[int, int, int]) -> Pixels:
    """Return a copy of ``image`` with the outline of ``mask`` ``(H, W)`` drawn on it."""
    drawn = image.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, color, max(1, image.shape[0] // 256), cv2.LINE_AA)
    return drawn


def panel(tiles: Mapping[str, Pixels], title: str = "") -> Figure:
    """Return pictures in a row, each under its name."""
    figure = Figure(figsize=(2.4 * len(tiles), 2.75 if title else 2.55), dpi=130, layout="constrained")
    for axes, (name, tile) in zip(figure.subplots(1, len(tiles), squeeze=False)[0], tiles.items(), strict=True):
        axes.imshow(tile)
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def roc(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], points: Mapping[str, tuple[float, float]]) -> Figure:
    """Return ROC curves by name from (labels, scores), marking operating points (sensitivity, specificity).

    Labels are 1, 0 or NaN (left out). A curve of a single class is not drawn.
    """
    figure = Figure(figsize=(4.4, 4.2), dpi=150)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for (name, (labels, scores)), color in zip(curves.items(), _cycle(len(curves)), strict=True):
        label, score = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
        label, score = label[~np.isnan(label)], score[~np.isnan(label)]
        if len(np.unique(label)) < 2:
            continue
        false_alarms, hits, _ = roc_curve(label, score)
        area = roc_auc_score(label, score)
        axes.plot(false_alarms, hits, color=color, linewidth=1.6, label=f"{name}  {area:.3f}")
        if name in points:
            sensitivity, specificity = points[name]
            axes.plot(1 - specificity, sensitivity, "o", color=color, markersize=7, markeredgecolor="white")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False, fontsize=8)
    return tidy(figure)


def encode(figure: Figure, kind: str = "png") -> bytes:
    """Return the figure as a file of the given kind (png, jpeg)."""
    stream = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format=kind, bbox_inches="tight", pad_inches=0.05)
    return stream.getvalue()


def tidy(figure: Figure) -> Figure:
    """Apply the common style: no frame at the top and the right, small labels, constrained layout."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
        axes.tick_params(labelsize=8)
    figure.set_layout_engine("constrained")
    return figure


def _cycle(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]
