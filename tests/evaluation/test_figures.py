"""Heat maps and overlays against their definitions, and ROC curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from scipy.ndimage import gaussian_filter

from fundusnet.evaluation import figures


@given(st.integers(0, 7), st.integers(0, 7))
def test_the_hottest_place_lies_in_the_hottest_cell(row: int, column: int) -> None:
    activation = np.zeros((8, 8))
    activation[row, column] = 0.3
    heat = figures.heatmap(activation, (256, 256))
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (y // 32, x // 32) == (row, column)
    assert (heat.min(), heat.max()) == (0, 1)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_map_points_nowhere(value: float) -> None:
    assert not figures.heatmap(np.full((16, 16), value, np.float16), (200, 120)).any()


def test_the_blur_is_a_gaussian_of_the_kernels_sigma() -> None:
    activation = np.zeros((256, 256))
    activation[100:140, 90:200] = 1
    heat = figures.heatmap(activation, (256, 256))
    reference = gaussian_filter(activation, 5.0)
    # An even kernel lies half a pixel off the grid, 1/16 of the edge's width.
    assert np.abs(heat - reference).max() < 0.06


def test_an_overlay_keeps_the_photograph_where_heat_is_zero() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    heat = np.zeros((40, 40), np.float32)
    heat[20:] = 1
    shown = figures.overlay(image, heat)
    assert (shown[:20] == image[:20]).all()
    assert (shown[20:] != image[20:]).any()


def test_an_overlay_equals_its_formula() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)
    heat = rng.integers(0, 256, (60, 70)).astype(np.float32) / np.float32(255)
    opacity = 0.55 * np.sqrt(heat)[..., None]
    mixed = (1 - opacity) * image + opacity * 255 * colormaps["inferno"](heat)[..., :3]
    assert np.abs(figures.overlay(image, heat) - mixed).max() < 1.6  # three roundings to eight bits


def test_a_roc_curve_of_one_class_is_left_out() -> None:
    figure = figures.roc({"a": ([1, 0, np.nan], [0.9, 0.1, 0.5]), "b": ([1, 1], [0.2, 0.3])}, {"a": (1.0, 1.0)})
    assert figure.axes[0].get_legend_handles_labels()[1] == ["a  1.000"]
