"""Maps against their textbook definition, masks against a loop over pixels."""

from __future__ import annotations

import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from fundusnet.grading.cam import (
    SCALES,
    Scale,
    agnostic_mask,
    class_activation_maps,
    class_mask,
    constant_mask,
    grade_mask,
    other_mask,
    upsampled,
)

Plane = NDArray[np.float64]


def scale_by_hand(cam: Plane, scale: str) -> Plane:
    cells = [float(x) for x in cam.ravel()]
    low, high = min(cells), max(cells)
    if low == high or (scale == "relu" and high <= 0):
        return np.ones_like(cam)
    if scale == "minmax":
        return np.array([(x - low) / (high - low) for x in cells]).reshape(cam.shape)
    if scale == "relu":
        return np.array([max(x, 0) / high for x in cells]).reshape(cam.shape)
    return np.array([1 / (1 + math.exp(-x)) for x in cells]).reshape(cam.shape)


def bilinear_by_hand(cam: Plane, size: tuple[int, int]) -> Plane:
    """Each pixel's centre falls between the centres of four cells; beyond the outermost centres the border repeats."""
    (h, w), (height, width) = cam.shape, size
    result = np.zeros(size)
    for y in range(height):
        for x in range(width):
            row = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
            column = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(row), int(column)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            dy, dx = row - top, column - left
            upper = cam[top, left] * (1 - dx) + cam[top, right] * dx
            lower = cam[bottom, left] * (1 - dx) + cam[bottom, right] * dx
            result[y, x] = upper * (1 - dy) + lower * dy
    return result


def mask_by_hand(cams: Plane, grade: int, size: tuple[int, int], scale: str, floor: float) -> Plane:
    """S2.2 word by word, for one image: ``cams`` is ``(K-1, 2, h, w)``; scale, upsample, then average."""
    no, yes = 0, 1
    last = len(cams)
    if grade == 0:
        chosen = [cams[0, no]]
    elif grade == last:
        chosen = [cams[last - 1, yes]]
    else:
        chosen = [cams[grade - 1, yes], cams[grade, no]]
    planes = [bilinear_by_hand(scale_by_hand(plane, scale), size) for plane in chosen]
    return floor + (1 - floor) * sum(planes) / len(planes)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_masks_of_every_grade(classes: int, scale: Scale) -> None:
    cams = torch.randn(classes, classes - 1, 2, 4, 5)
    grade = torch.arange(classes).flip(0)  # in another order than the images, so that neither passes for the other
    size, floor = (13, 22), 0.25
    masks = grade_mask(cams, grade, size, scale, floor)
    assert masks.shape == (classes, 1, *size)
    assert masks.dtype == torch.float32
    for image, g in enumerate(grade.tolist()):
        expected = mask_by_hand(cams[image].double().numpy(), g, size, scale, floor)
        np.testing.assert_allclose(masks[image, 0].numpy(), expected, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 5), st.integers(0, 10_000), st.sampled_from(SCALES), st.integers(1, 9), st.integers(1, 9), st.data()
)
def test_masks_of_any_size(classes: int, seed: int, scale: Scale, height: int, width: int, data: st.DataObject) -> None:
    cams = torch.randn(1, classes - 1, 2, 3, 2, generator=torch.Generator().manual_seed(seed))
    grade = data.draw(st.integers(0, classes - 1))
    mask = grade_mask(cams, torch.tensor([grade]), (height, width), scale)
    expected = mask_by_hand(cams[0].double().numpy(), grade, (height, width), scale, 0.0)
    np.testing.assert_allclose(mask[0, 0].numpy(), expected, atol=1e-5)
    assert mask.min() >= 0 and mask.max() <= 1


def test_an_image_does_not_look_at_its_batch() -> None:
    cams, grade = torch.randn(6, 2, 2, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    together = grade_mask(cams, grade, (16, 16))
    for i in range(6):
        torch.testing.assert_close(together[i : i + 1], grade_mask(cams[i : i + 1], grade[i : i + 1], (16, 16)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [0.0, 3.7, -2.0])
def test_a_constant_map_gives_ones(value: float, scale: Scale) -> None:
    cams = torch.full((3, 2, 2, 4, 4), value)
    assert torch.equal(grade_mask(cams, torch.tensor([0, 1, 2]), (32, 32), scale), torch.ones(3, 1, 32, 32))
    assert torch.equal(grade_mask(cams, torch.tensor([0, 1, 2]), (32, 32), scale, 0.3), torch.ones(3, 1, 32, 32))
    # Constant but for the last bits of its sums.
    noisy = cams * (1 + 1e-7 * torch.randn(cams.shape))
    assert torch.equal(grade_mask(noisy, torch.tensor([0, 1, 2]), (32, 32), scale), torch.ones(3, 1, 32, 32))


def test_of_a_middle_grade_one_constant_map_is_half_the_mask() -> None:
    cams = torch.randn(1, 2, 2, 4, 4)
    cams[0, 1, 0] = 5.0
    mask = grade_mask(cams, torch.tensor([1]), (4, 4))
    other = scale_by_hand(cams[0, 0, 1].double().numpy(), "minmax")
    np.testing.assert_allclose(mask[0, 0].numpy(), (other + 1) / 2, atol=1e-6)


def test_relu_of_a_map_without_positive_cells_says_nothing() -> None:
    cams = -torch.rand(1, 1, 2, 4, 4) - 0.1
    assert torch.equal(grade_mask(cams, torch.tensor([1]), (8, 8), "relu"), torch.ones(1, 1, 8, 8))


def test_floor_keeps_its_share_of_the_picture() -> None:
    cams, grade = torch.randn(4, 1, 2, 3, 3), torch.tensor([0, 1, 0, 1])
    bare, floored = grade_mask(cams, grade, (9, 9)), grade_mask(cams, grade, (9, 9), floor=0.2)
    torch.testing.assert_close(floored, 0.2 + 0.8 * bare)
    assert floored.min() >= 0.2


def test_an_unknown_scale_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(ValueError, match="softmax"):
        grade_mask(torch.randn(1, 1, 2, 2, 2), torch.tensor([0]), (4, 4), "softmax")  # type: ignore[arg-type]


def test_shapes_are_checked_in_the_tests() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="weight"):
        class_activation_maps(torch.randn(2, 7, 3, 4), torch.randn(2, 6))
    with pytest.raises(jaxtyping.TypeCheckError, match="grade"):
        grade_mask(torch.randn(2, 1, 2, 3, 3), torch.tensor([0, 1, 0]), (3, 3))
    with pytest.raises(jaxtyping.TypeCheckError, match="cams"):
        grade_mask(torch.randn(2, 1, 3, 3, 3), torch.tensor([0, 1]), (3, 3))


def test_map_by_its_textbook_definition() -> None:
    features, weight = torch.randn(2, 7, 3, 4), torch.randn(2, 7)
    maps = class_activation_maps(features, weight)
    assert maps.shape == (2, 2, 3, 4)
    for b in range(2):
        for c in range(2):
            for y in range(3):
                for x in range(4):
                    expected = sum(float(weight[c, k] * features[b, k, y, x]) for k in range(7))
                    assert maps[b, c, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_the_mean_of_a_map_and_the_bias_are_the_logit() -> None:
    features, linear = torch.randn(3, 16, 5, 5), nn.Linear(16, 2)
    logit = linear(nn.AdaptiveAvgPool2d(1)(features).flatten(1))
    maps = class_activation_maps(features, linear.weight)
    torch.testing.assert_close(maps.mean(dim=(2, 3)) + linear.bias, logit)


def test_maps_are_made_in_32_bits_under_autocast() -> None:
    features, weight = torch.randn(1, 64, 8, 8), torch.randn(2, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = class_activation_maps(features, weight)
    assert torch.equal(maps, class_activation_maps(features, weight))


def test_the_mask_of_a_softmax_is_its_own_class() -> None:
    cams, grade = torch.randn(4, 4, 3, 3), torch.tensor([3, 0, 2, 1])
    masks = class_mask(cams, grade, (7, 5), floor=0.1)
    for image, g in enumerate(grade.tolist()):
        scaled = scale_by_hand(cams[image, g].double().numpy(), "minmax")
        np.testing.assert_allclose(masks[image, 0].numpy(), 0.1 + 0.9 * bilinear_by_hand(scaled, (7, 5)), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 2, 4, 4), (2, 4, 4, 4)])
def test_the_agnostic_mask_is_the_mean_over_the_grades(shape: tuple[int, ...]) -> None:
    cams = torch.randn(shape)
    of_grade = grade_mask if len(shape) == 5 else class_mask
    each = [of_grade(cams, torch.tensor([g, g]), (12, 12), "relu", 0.2) for g in range(4)]
    torch.testing.assert_close(agnostic_mask(cams, (12, 12), "relu", 0.2), torch.stack(each).mean(dim=0))


def test_constant_and_other_masks() -> None:
    assert torch.equal(constant_mask(2, (3, 4)), torch.ones(2, 1, 3, 4))
    masks = torch.rand(5, 1, 4, 4)
    others = other_mask(masks)
    for i in range(5):
        assert torch.equal(others[i], masks[i - 1])
    with pytest.raises(ValueError, match="two images"):
        other_mask(masks[:1])


def test_a_mask_of_cells_upsampled_later_is_the_same_mask() -> None:
    cams, grade = torch.randn(3, 2, 2, 4, 4), torch.tensor([0, 1, 2])
    cells: Tensor = grade_mask(cams, grade, (4, 4), floor=0.1)
    torch.testing.assert_close(upsampled(cells, (31, 17)), grade_mask(cams, grade, (31, 17), floor=0.1))
