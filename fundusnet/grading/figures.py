"""The figures of grading: confusion matrices, loss curves of the stages, masks and regions of interest (S2.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fundusnet.evaluation.figures import COLORS, OUTLINE_COLORS, tidy
from fundusnet.evaluation.overlays import Mask, Pixels, outlined
from fundusnet.grading.statistics import question

DISC_COLOR, CUP_COLOR = OUTLINE_COLORS


def confusion_matrices(matrices: Mapping[str, NDArray[np.floating]], classes: list[str]) -> Figure:
    """Draw confusion matrices ``(K, K)`` by name, three in a row: true grades in rows, predicted ones in columns.

    The shade of a cell is its share of the row, its number the count of images.
    """
    across = min(3, len(matrices))
    down = -(-len(matrices) // across)
    figure = Figure(figsize=(3.3 * across + 0.3, 3.2 * down + 0.2), dpi=150, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=False):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*matrix.shape):
            color = "white" if shares[row, column] > 0.55 else "#1c2430"
            axes.text(column, row, f"{matrix[row, column]:g}", ha="center", va="center", color=color, fontsize=10)
        axes.set_title(f"{name}\nn = {matrix.sum():g} images", fontsize=9, wrap=True)
        axes.set_xticks(range(len(classes)), classes, fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8, rotation=90, va="center")
        axes.set_xlabel("predicted", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
    for axes in grid[len(matrices) :]:
        axes.axis("off")
    return figure


def losses(history: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw the loss curves of ``history.csv``, one panel per stage: training thin, validation thick.

    Each sub-classifier has a curve, called by the grade of ``classes`` that it separates from those above; a dot marks
    the epoch whose weights were kept. Folds share a panel.
    """
    stages = history["stage"] if "stage" in history else pd.Series("training", index=history.index)
    panels: dict[str, list[pd.DataFrame]] = {}
    for name in dict.fromkeys(stages.astype(str)):
        panels.setdefault("folds" if name.startswith("fold_") else name, []).append(history[stages == name])
    figure = Figure(figsize=(3.3 * len(panels), 2.9), dpi=150)
    for axes, (panel, fits) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, rows in enumerate(fits):
            parts = [str(key) for key in rows if str(key).startswith("val/loss_gt_")] or ["val/loss"]
            for part, color in zip(parts, COLORS, strict=False):
                train = part.replace("val/", "train/")
                called = "loss" if part == "val/loss" else question(part.removeprefix("val/loss_"), classes)
                axes.plot(rows["epoch"], rows[train], color=color, linewidth=0.7, alpha=0.7)
                thick = 1.5 if len(fits) == 1 else 0.9
                axes.plot(rows["epoch"], rows[part], color=color, linewidth=thick, label=None if number else called)
                best = int(rows[part].argmin())
                axes.plot(rows["epoch"].iloc[best], rows[part].iloc[best], "o", color=color, markersize=4)
        axes.set(title=panel, xlabel="epoch", ylabel="loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=8)
    return tidy(figure)


def panel_tiles(
    image: Pixels, masks: Mapping[str, NDArray[np.floating]], disc: Mask | None = None, cup: Mask | None = None
) -> dict[str, Pixels]:
    """Return the pictures of Fig. 2 by name: photograph, and for each model its mask and the region of interest.

    Args:
        image: uint8 ``(S, S, 3)``.
        masks: ``(S, S)`` in [0, 1] by model name.
        disc: Expert outline of the optic disc, bool ``(S, S)``, drawn on photograph and masks (Fig. 5); None = unknown.
        cup: Likewise of the cup.
    """

    def outline_disc_and_cup(pixels: Pixels) -> Pixels:
        for outline, color in ((disc, DISC_COLOR), (cup, CUP_COLOR)):
            pixels = pixels if outline is None else outlined(pixels, outline, color)
        return pixels

    tiles: dict[str, Pixels] = {"photograph": outline_disc_and_cup(image)}
    for name, mask in masks.items():
        prefix = f"{name}: " if len(masks) > 1 else ""
        grey = np.repeat(np.rint(mask * 255).astype(np.uint8)[..., None], 3, axis=2)
        tiles[f"{prefix}mask"] = outline_disc_and_cup(grey)
        tiles[f"{prefix}ROI"] = np.rint(image * mask[..., None]).astype(np.uint8)
    return tiles


def energy_inside(mask: NDArray[np.floating], outline: Mask) -> float:
    """Return the share of a mask ``(S, S)`` inside an outline, bool ``(S, S)``; NaN where the mask is empty."""
    total = float(mask.sum())
    return float(mask[outline].sum()) / total if total > 0 else float("nan")
