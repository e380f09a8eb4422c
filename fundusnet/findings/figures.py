"""The figures of findings: loss curves, and panels of photograph, cue and heat maps (S1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from fundusnet.data.regions import Point, region_map
from fundusnet.evaluation.figures import OUTLINE_COLORS, line_style, tidy
from fundusnet.evaluation.overlays import Mask, Pixels, contoured, heatmap, outlined, overlay

REGION_COLOR, LESION_COLOR = OUTLINE_COLORS


def panel_tiles(
    image: Pixels,
    maps: Mapping[str, ArrayLike],
    *,
    levels: Mapping[str, float] | None = None,
    relative: bool = False,
    cue: Mask | None = None,
    lesion: Mask | None = None,
    landmarks: tuple[Point, Point] | None = None,
) -> dict[str, Pixels]:
    """Return the pictures of Fig. 3 by name: photograph with outlines, cue mask, then a heat map for each model.

    Args:
        image: uint8 ``(H, W, 3)``.
        maps: Activation maps ``(h, w)`` in [0, 1] by model name.
        levels: By model name the activation around which a white line is drawn; none on a relative scale.
        relative: Blur each map and stretch it to its own range, which its name then says.
        cue: bool ``(H, W)``, or None where unknown.
        lesion: bool ``(H, W)``, or None where unknown.
        landmarks: Centres of disc and fovea in pixels, for the outlines of the regions; None where unknown.
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
        heat = heatmap(activation, (height, width), relative=relative)
        shown = overlay(image, heat)
        if cue is not None:
            shown = outlined(shown, cue, REGION_COLOR)
        if relative:
            low, high = np.min(activation), np.max(activation)
            tiles[f"{name}, stretched from {low:.2f}–{high:.2f}"] = shown
        else:
            tiles[name] = contoured(shown, heat, (levels or {}).get(name))
    return tiles


def enlarged(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Return pixels ``(H, W, 3)`` or a mask, bool ``(H, W)``, at ``size`` × ``size``."""
    if pixels.dtype == np.bool_:
        return np.asarray(cv2.resize(pixels.view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST), dtype=bool)
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC))


def losses(history: pd.DataFrame) -> Figure:
    """Return the loss curves of ``history.csv``: total, classification and guidance, on training and validation."""
    names = [name for name in ("loss", "classification", "guidance") if {f"train/{name}", f"val/{name}"} & {*history}]
    figure = Figure(figsize=(3.1 * max(1, len(names)), 2.8), dpi=150)
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names or ["loss"], strict=True):
        for number, stage in enumerate(("train", "val")):
            key = f"{stage}/{name}"
            if key in history:
                known = history[["epoch", key]].dropna()
                marker = "o" if len(known) < 3 else None
                axes.plot(known["epoch"], known[key], linewidth=1.5, marker=marker, label=stage, **line_style(number))
        axes.set(title=name, xlabel="epoch", ylabel="loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return tidy(figure)
