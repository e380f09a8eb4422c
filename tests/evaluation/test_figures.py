"""Heat maps and overlays against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from scipy.ndimage import gaussian_filter

from fundusnet.evaluation import overlays


@given(st.integers(0, 7), st.integers(0, 7))
def test_the_hottest_place_lies_in_the_hottest_cell(row: int, column: int) -> None:
    activation = np.zeros((8, 8))
    activation[row, column] = 0.3
    heat = overlays.heatmap(activation, (256, 256), relative=True)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (y // 32, x // 32) == (row, column)
    assert (heat.min(), heat.max()) == (0, 1)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_map_points_nowhere(value: float) -> None:
    assert not overlays.heatmap(np.full((16, 16), value, np.float16), (200, 120), relative=True).any()


def test_the_blur_is_a_gaussian_of_the_kernels_sigma() -> None:
    activation = np.zeros((256, 256))
    activation[100:140, 90:200] = 1
    heat = overlays.heatmap(activation, (256, 256), relative=True)
    reference = gaussian_filter(activation, 5.0)
    # An even kernel lies half a pixel off the grid, 1/16 of the edge's width.
    assert np.abs(heat - reference).max() < 0.06


def test_an_overlay_keeps_the_photograph_where_heat_is_zero() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    heat = np.zeros((40, 40), np.float32)
    heat[20:] = 1
    shown = overlays.overlay(image, heat)
    assert (shown[:20] == image[:20]).all()
    assert (shown[20:] != image[20:]).any()


@given(st.floats(0, 1))
def test_the_absolute_scale_keeps_what_the_network_gave(value: float) -> None:
    activation = np.zeros((8, 8))
    activation[2:5, 2:5] = value
    heat = overlays.heatmap(activation, (256, 256))
    assert heat[3 * 32 + 16, 3 * 32 + 16] == pytest.approx(value, abs=1e-6)
    assert heat.max() == pytest.approx(value, abs=1e-6) and heat[7 * 32 :].max() == 0


def test_the_line_runs_where_the_map_reaches_the_level() -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    heat = np.zeros((64, 64), np.float32)
    heat[20:40, 20:40] = 0.3
    drawn = overlays.contoured(image, heat, 0.25)
    assert (drawn[20, 25] > 200).all() and (drawn[30, 30] == 90).all() and (drawn[55, 55] == 90).all()
    assert (overlays.contoured(image, heat, 0.31) == image).all()  # nothing reaches it
    assert (overlays.contoured(image, heat, None) == image).all()


def test_the_scale_keeps_the_frame_and_marks_the_level() -> None:
    image = np.zeros((420, 420, 3), np.uint8)
    shown = [overlays.with_scale(image, ["drusen"], ("0", "1"), level) for level in (None, 0.25, 0.75)]
    assert all(one.shape == image.shape and one[:200].max() == 0 and one[:, 300:].max() == 0 for one in shown)
    marked = [np.nonzero((one != shown[0]).any(axis=(0, 2)))[0].mean() for one in shown[1:]]
    assert marked[0] < marked[1]


def test_an_overlay_equals_its_formula() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)
    heat = rng.integers(0, 256, (60, 70)).astype(np.float32) / np.float32(255)
    opacity = (heat / (heat + 0.25))[..., None]
    mixed = (1 - opacity) * image + opacity * 255 * colormaps["viridis"](heat)[..., :3]
    assert np.abs(overlays.overlay(image, heat) - mixed).max() < 2.1  # three roundings to eight bits
