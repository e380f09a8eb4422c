"""A point, the distribution that stands for it, and the point that is read from the distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fundusnet.landmarks.heatmap import WINDOW, cross_entropy, locate, targets

CELLS, STRIDE = 12, 8.0
SIDE = CELLS * STRIDE


def one(x: float, y: float) -> torch.Tensor:
    return torch.tensor([[x, y]], dtype=torch.float64)


def test_a_point_at_the_centre_of_a_cell_is_likeliest_there() -> None:
    # Cell (row 2, column 5) covers pixels 40 … 47 across and 16 … 23 down: their centre is (43.5, 19.5).
    target = targets(one(43.5, 19.5), CELLS, STRIDE)[0]
    assert int(target.argmax()) == 2 * CELLS + 5
    grid = target[:-1].reshape(CELLS, CELLS)
    # One sigma of one cell: the four neighbours have exp(-1/2) of its probability, the diagonal ones exp(-1).
    for row, column in ((1, 5), (3, 5), (2, 4), (2, 6)):
        assert float(grid[row, column] / grid[2, 5]) == pytest.approx(math.exp(-0.5))
    assert float(grid[1, 4] / grid[2, 5]) == pytest.approx(math.exp(-1))


@settings(max_examples=200, deadline=None)
@given(st.floats(-300, 300), st.floats(-300, 300))
def test_every_known_point_is_one_distribution(x: float, y: float) -> None:
    target = targets(one(x, y), CELLS, STRIDE)[0]
    inside = -0.5 <= x < SIDE - 0.5 and -0.5 <= y < SIDE - 0.5
    assert float(target.sum()) == pytest.approx(1)
    assert float(target[-1]) == (0 if inside else 1)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_a_point_is_read_back_within_a_twentieth_of_a_cell(u: float, v: float) -> None:
    # Far enough from the border for the Gaussian to be complete.
    margin = (WINDOW + 1) * STRIDE
    x, y = (margin + share * (SIDE - 2 * margin) for share in (u, v))
    points, confidence = locate(targets(one(x, y), CELLS, STRIDE).log(), STRIDE)
    assert np.allclose(points[0].numpy(), (x, y), atol=0.05 * STRIDE)
    assert float(confidence[0]) > 0.99


def test_a_point_outside_has_no_confidence() -> None:
    logits = targets(one(-50, 20), CELLS, STRIDE).clamp(min=1e-12).log()
    assert float(locate(logits, STRIDE)[1][0]) < 1e-6


def test_two_places_share_the_confidence() -> None:
    twice = (targets(one(20, 20), CELLS, STRIDE) + 3 * targets(one(76, 76), CELLS, STRIDE)) / 4
    points, confidence = locate(twice.log(), STRIDE)
    assert np.allclose(points[0].numpy(), (76, 76), atol=1)
    assert float(confidence[0]) == pytest.approx(0.75, abs=0.01)


def test_unknown_points_do_not_count() -> None:
    logits = torch.randn(2, 2, CELLS**2 + 1, dtype=torch.float64)
    points = torch.tensor([[[20.0, 20], [math.nan, math.nan]], [[30, 31], [math.nan, math.nan]]], dtype=torch.float64)
    known = cross_entropy(logits[:, :1], targets(points[:, :1], CELLS, STRIDE))
    assert float(cross_entropy(logits, targets(points, CELLS, STRIDE))) == pytest.approx(float(known))
    assert float(cross_entropy(logits, targets(points * math.nan, CELLS, STRIDE))) == 0


def test_the_loss_is_least_where_the_prediction_is_the_target() -> None:
    target = targets(torch.tensor([[20.0, 40], [-9, 5]]), CELLS, STRIDE)
    entropy = -(target * target.clamp(min=1e-30).log()).sum(-1).mean()
    assert float(cross_entropy(target.clamp(min=1e-30).log(), target)) == pytest.approx(float(entropy), abs=1e-5)
    assert float(cross_entropy(torch.zeros_like(target), target)) == pytest.approx(math.log(CELLS**2 + 1), abs=1e-5)
