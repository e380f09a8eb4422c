"""The figures of a run: ROC, losses, heat maps and the panels of Fig. 3 (S1.6).

Every function returns a ``Figure`` that belongs to no window and no global state, so that threads and
notebooks can draw side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from fundusnet.data.regions import Point, region_map

Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]
Mask = NDArray[np.bool_]

BLUR = 32  # side of the Gaussian kernel in pixels of the picture (S1.6)
COLORS = ("#1f77b4", "#d9541e", "#2a9d5c", "#8e5bbf", "#b58a00", "#c2407f")
REGION_COLOR = (120, 220, 255)
LESION_COLOR = (90, 255, 120)


def heatmap(activation: ArrayLike, size: tuple[int, int]) -> Heat:
    """Return the heat map of one activation map, as the paper draws it (S1.6).

    ``activation`` ``(h, w)`` is scaled bilinearly to ``size`` ``(H, W)``, blurred by a 32×32 Gaussian kernel
    and stretched to [0, 1]; float32 ``(H, W)``. A constant map points nowhere and gives zeros.
    """
    source = np.asarray(activation, dtype=np.float32)
    height, width = size
    large = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    # Not cv2.GaussianBlur, which takes odd kernels only. Our reading: the sigma is the one OpenCV derives
    # from the side.
    offset = np.arange(BLUR) - (BLUR - 1) / 2
    taps = np.exp(-0.5 * (offset / (0.3 * ((BLUR - 1) * 0.5 - 1) + 0.8)) ** 2)
    taps /= taps.sum()
    blurred = cv2.sepFilter2D(large, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_REPLICATE)
    low, high = float(blurred.min()), float(blurred.max())
    # Blurring a constant leaves rounding behind, which stretching would blow up into a pattern.
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return np.zeros(size, dtype=np.float32)
    return (blurred - low) / np.float32(high - low)


def overlay(image: Pixels, heat: Heat, strength: float = 0.55) -> Pixels:
    """Return ``image`` ``(H, W, 3)`` uint8 under ``heat`` ``(H, W)`` in [0, 1], in 256 steps."""
    kept, painted = _shades(strength)
    # Looked up and mixed in eight bits (at most one grey level off): a prediction draws one for each photograph.
    levels = cv2.merge([cv2.convertScaleAbs(heat, alpha=255)] * 3)
    mixed = cv2.multiply(image, cv2.LUT(levels, kept), scale=1 / 255)
    return np.asarray(cv2.add(mixed, cv2.LUT(levels, painted)), dtype=np.uint8)


@lru_cache
def _shades(strength: float) -> tuple[Pixels, Pixels]:
    """What stays of a pixel and what is painted on it at each step of heat, uint8 ``(256, 1, 3)``."""
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
    """Return one row of Fig. 3 from the pictures of ``panel_tiles``, each under its name."""
    figure = Figure(figsize=(2.4 * len(tiles), 2.75 if title else 2.55), dpi=130, layout="constrained")
    for axes, (name, tile) in zip(figure.subplots(1, len(tiles), squeeze=False)[0], tiles.items(), strict=True):
        axes.imshow(tile)
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def panel_tiles(
    image: Pixels,
    maps: Mapping[str, ArrayLike],
    *,
    cue: Mask | None = None,
    lesion: Mask | None = None,
    landmarks: tuple[Point, Point] | None = None,
) -> dict[str, Pixels]:
    """Return the pictures of Fig. 3 by name: photograph with outlines, cue mask, then a heat map per model.

    ``image`` is uint8 ``(H, W, 3)``, ``cue`` and ``lesion`` are ``(H, W)`` (left out when None), ``maps``
    gives activation maps ``(h, w)`` by model name, ``landmarks`` the centres of disc and fovea, for the
    region lines.
    """
    height, width = image.shape[:2]
    photograph = image
    if landmarks is not None:
        regions = region_map((height, width), *landmarks)
        for region in np.unique(regions):
            photograph = outlined(photograph, regions == region, REGION_COLOR)
    if lesion is not None:
        photograph = outlined(photograph, lesion, LESION_COLOR)
    tiles: dict[str, Pixels] = {"photograph": photograph}
    if cue is not None:
        grey = (image.mean(axis=2, keepdims=True) * np.where(cue, 1.0, 0.25)[..., None]).astype(np.uint8)
        tiles["cue"] = outlined(np.repeat(grey, 3, axis=2), cue, REGION_COLOR)
    for name, activation in maps.items():
        shown = overlay(image, heatmap(activation, (height, width)))
        tiles[name] = shown if cue is None else outlined(shown, cue, REGION_COLOR)
    return tiles


def roc(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], points: Mapping[str, tuple[float, float]]) -> Figure:
    """Return ROC curves by name from (labels, scores), with operating points (sensitivity, specificity) on
    them.

    Labels are 1, 0 or NaN (left out). A curve with one class only is not drawn.
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


def losses(history: pd.DataFrame) -> Figure:
    """Return the loss curves of ``history.csv``: total, classification, guidance, in train and val."""
    names = [name for name in ("loss", "classification", "guidance") if {f"train/{name}", f"val/{name}"} & {*history}]
    figure = Figure(figsize=(3.1 * max(1, len(names)), 2.8), dpi=150)
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names or ["loss"], strict=True):
        for stage, color in (("train", COLORS[0]), ("val", COLORS[1])):
            key = f"{stage}/{name}"
            if key in history:
                known = history[["epoch", key]].dropna()
                marker = "o" if len(known) < 3 else None
                axes.plot(known["epoch"], known[key], color=color, linewidth=1.5, marker=marker, label=stage)
        axes.set(title=name, xlabel="epoch")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return tidy(figure)


def encode(figure: Figure, kind: str = "png") -> bytes:
    """Return the figure as a file of the given kind (png, jpeg)."""
    stream = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format=kind, bbox_inches="tight", pad_inches=0.05)
    return stream.getvalue()


def tidy(figure: Figure) -> Figure:
    """Give a figure the look that all have: no frame at the top and the right, small labels, room for everything."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
        axes.tick_params(labelsize=8)
    figure.set_layout_engine("constrained")
    return figure


def _cycle(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]
