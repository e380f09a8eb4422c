"""Photographs unlike the training set are flagged, and photographs like it are not."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import pytest

from fundusnet.data.appearance import FLAGS, NAMES, Appearance, appearance_of, numbers_of
from fundusnet.data.eye.anatomy import Complexion, draw_retina, draw_vessels, place_eye, take_photograph

SIZE = 192


@lru_cache
def drawn_eye(number: int) -> np.ndarray:
    """A drawn photograph, uint8 RGB ``(192, 192, 3)``."""
    rng = np.random.default_rng(number)
    eye = place_eye(SIZE, ("right", "left")[number % 2], 0.4, rng)
    skin = Complexion.draw(rng)
    canvas = draw_retina(eye, skin, rng)
    draw_vessels(canvas, eye, skin, rng)
    return take_photograph(canvas, eye, rng)


@pytest.fixture(scope="module")
def appearance() -> Appearance:
    found = appearance_of(np.stack([drawn_eye(number) for number in range(30)]), np.arange(30))
    assert found is not None
    return found


def test_pictures_like_those_of_the_training_set_pass(appearance: Appearance) -> None:
    flagged = [number for number in range(100, 115) if appearance.flags(numbers_of(drawn_eye(number)))]
    assert len(flagged) <= 1


def test_each_fault_has_its_flag(appearance: Appearance) -> None:
    eye = drawn_eye(200)
    rng = np.random.default_rng(0)
    page = np.full_like(eye, 255)
    page[40:150:8, 20:170] = 0
    for picture, expected in (
        (eye // 4, "too_dark"),
        (cv2.GaussianBlur(eye, (0, 0), 5), "blurred"),
        (page, "not_fundus"),
        (rng.integers(0, 255, eye.shape, dtype=np.uint8), "not_fundus"),
        (np.ascontiguousarray(eye[..., ::-1]), "not_fundus"),  # red and blue changed over
        (np.repeat(eye[..., 1:2], 3, axis=2), "not_fundus"),  # red-free
        (np.where(eye.max(axis=2, keepdims=True) < 20, eye[96, 96], eye), "unlike_training"),  # no black border
    ):
        flags = appearance.flags(numbers_of(picture))
        assert expected in flags and set(flags) <= set(FLAGS), (expected, flags)


def test_grey_photographs_are_not_flagged_after_a_grey_training_set() -> None:
    grey = np.stack([np.repeat(drawn_eye(number)[..., 1:2], 3, axis=2) for number in range(30)])
    appearance = appearance_of(grey, np.arange(30))
    assert appearance is not None
    assert appearance.flags(numbers_of(np.repeat(drawn_eye(99)[..., 1:2], 3, axis=2))) == ()
    assert "not_fundus" not in appearance.flags(numbers_of(np.full_like(grey[0], 200)))


def test_a_black_picture_has_finite_numbers() -> None:
    for value in (0, 255):
        assert np.isfinite(numbers_of(np.full((64, 64, 3), value, np.uint8))).all()


def test_numbers_do_not_depend_on_the_prepared_size() -> None:
    eye = drawn_eye(3)
    large = cv2.resize(eye, (2 * SIZE, 2 * SIZE), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(numbers_of(large), numbers_of(eye), atol=0.2)


def test_the_limit_holds_for_new_pictures_of_the_same_kind() -> None:
    """Hotelling's limit against drawing: of pictures like the few seen, half a percent lies beyond."""
    rng = np.random.default_rng(0)
    beyond = []
    for _ in range(300):
        seen, new = rng.normal(size=(20, len(NAMES))), rng.normal(size=(50, len(NAMES)))
        found = Appearance.of(10 * seen)
        beyond += ["unlike_training" in found.flags(10 * row) or "not_fundus" in found.flags(10 * row) for row in new]
    assert 0.002 < np.mean(beyond) < 0.008


def test_too_few_photographs_have_no_statistics_and_values_round_trip() -> None:
    values = np.random.default_rng(0).normal(size=(30, len(NAMES)))
    assert Appearance.of(values[:13]) is None
    found = Appearance.of(values)
    assert Appearance.stored(found.plain()) == found
    assert Appearance.stored(None) is None
    assert appearance_of(np.zeros((0, 8, 8, 3), np.uint8), np.arange(0)) is None
