"""Facts of the augmentation: what is drawn on a photograph stays where it was drawn."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundusnet.data.augment import Augment
from fundusnet.errors import UserError

STILL = {"hflip": False, "scale": (1, 1), "rotate": 0, "translate": 0, "shear": 0, "intensity": (1, 1)}


def picture(seed: int = 0, side: int = 33) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8), rng.random((3, side, side)) < 0.3


def test_nothing_to_draw_changes_nothing() -> None:
    image, masks = picture()
    moved, moved_masks = Augment(**STILL)(image, masks, np.random.default_rng(0))
    assert np.array_equal(moved, image)
    assert np.array_equal(moved_masks, masks)
    assert moved_masks.dtype == bool


@pytest.mark.parametrize("side", [32, 33])
def test_flips_are_exact_mirrors_each_of_half_the_images(side: int) -> None:
    image, masks = picture(side=side)
    flips = {
        "none": (slice(None), slice(None)),
        "left-right": (slice(None), slice(None, None, -1)),
        "top-bottom": (slice(None, None, -1), slice(None)),
        "both": (slice(None, None, -1), slice(None, None, -1)),
    }
    seen = dict.fromkeys(flips, 0)
    augment = Augment(**STILL | {"hflip": True, "vflip": True})
    for seed in range(200):
        moved, moved_masks = augment(image, masks, np.random.default_rng(seed))
        (name,) = [name for name, flip in flips.items() if np.array_equal(moved, image[flip])]
        assert np.array_equal(moved_masks, masks[(slice(None), *flips[name])])
        seen[name] += 1
    assert min(seen.values()) > 25  # 50 expected, standard deviation 6


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_spot_and_its_mask_move_together(seed: int) -> None:
    """The centre of gravity of a bright square is that of its mask, to half a pixel, under every warp."""
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    image[30:45, 50:65] = 200
    moved, masks = Augment(vflip=True, rotate=90, scale=(0.7, 1.3), shear=20)(
        image, image[None, ..., 0] > 0, np.random.default_rng(seed)
    )
    weight = moved[..., 0] / moved[..., 0].sum()
    where = np.argwhere(masks[0]).mean(axis=0)
    assert np.abs(np.array([(np.arange(96) * weight.sum(axis=axis)).sum() for axis in (1, 0)]) - where).max() < 0.5
    # Inside and outside agree too, up to the interpolated rim.
    assert ((moved[..., 0] > moved.max() / 2) != masks[0]).mean() < 0.01


@given(zoom=st.floats(0.6, 1.4), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_scale_multiplies_areas_by_its_square(zoom: float, seed: int) -> None:
    mask = np.zeros((1, 200, 200), dtype=bool)
    mask[0, 70:130, 70:130] = True
    augment = Augment(**STILL | {"scale": (zoom, zoom), "rotate": 45, "shear": 10, "hflip": True})
    _, moved = augment(np.zeros((200, 200, 3), dtype=np.uint8), mask, np.random.default_rng(seed))
    assert moved.sum() / mask.sum() == pytest.approx(zoom**2, rel=0.03)


def test_rotation_and_shift_stay_within_their_limits() -> None:
    mask = np.zeros((2, 201, 201), dtype=bool)
    mask[0, 98:103, 98:103] = True  # the centre
    mask[1, 98:103, 168:173] = True  # 70 pixels to its right
    image = np.zeros((201, 201, 3), dtype=np.uint8)
    augment = Augment(**STILL | {"rotate": 20, "translate": 0.1})
    shifts, angles = [], []
    for seed in range(300):
        centre, right = (np.argwhere(m).mean(axis=0) for m in augment(image, mask, np.random.default_rng(seed))[1])
        shifts.append(centre - 100)
        angles.append(np.degrees(np.arctan2(*(right - centre))))
    assert 0.9 * 20.1 < np.abs(shifts).max() < 20.1 + 0.6
    assert -21 < min(angles) < -18
    assert 18 < max(angles) < 21


def test_intensity_scales_the_image_saturates_and_spares_the_masks() -> None:
    image, masks = picture()
    moved, moved_masks = Augment(**STILL | {"intensity": (1.5, 1.5)})(image, masks, np.random.default_rng(0))
    assert np.abs(moved - np.minimum(image * 1.5, 255)).max() <= 0.5
    assert np.array_equal(moved_masks, masks)


def test_randomness_is_the_generators_alone() -> None:
    image, masks = picture()
    augment = Augment(vflip=True)
    first = augment(image, masks, np.random.default_rng(5))
    other = augment(image, masks, np.random.default_rng(6))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the legacy global state is what must not matter
    augment._transform.set_random_seed(99)
    again = Augment(vflip=True)(image, masks, np.random.default_rng(5))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_what_comes_in_is_left_alone() -> None:
    image, masks = picture()
    image.flags.writeable = masks.flags.writeable = False
    before = image.copy(), masks.copy()
    Augment()(image, masks, np.random.default_rng(0))
    assert np.array_equal(image, before[0])
    assert np.array_equal(masks, before[1])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_eight_masks_in_the_bits_of_one_move_as_each_would_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, masks = picture(seed)[0], rng.random((11, 33, 33)) < 0.3
    augment = Augment(vflip=True, rotate=90, scale=(0.5, 1.5), shear=20, translate=0.3)
    _, alone = augment(image, masks, np.random.default_rng(seed))
    _, packed = augment(image, np.packbits(masks, axis=0), np.random.default_rng(seed))
    assert np.array_equal(np.unpackbits(packed, axis=0, count=11), alone)


def test_an_image_without_masks_can_be_augmented() -> None:
    image, masks = picture()
    moved, none = Augment()(image, masks[:0], np.random.default_rng(5))
    assert none.shape == (0, 33, 33)
    assert np.array_equal(moved, Augment()(image, masks, np.random.default_rng(5))[0])


@pytest.mark.parametrize(
    "wrong", [{"scale": (1.2, 0.8)}, {"scale": (0, 1)}, {"intensity": (-1, 1)}, {"rotate": -5}, {"shear": 90}]
)
def test_impossible_ranges_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Augment(**wrong)  # type: ignore[arg-type]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_float_mask_is_interpolated_as_the_image_is(seed: int) -> None:
    """A mask that is the image's own grey goes wherever the image goes, to rounding."""
    image, _ = picture(side=40)
    image[:] = image[..., :1]
    augment = Augment(rotate=30, scale=(0.875, 1.125), intensity=(1, 1))
    moved, masks = augment(image, image[None, ..., 0].astype(np.float32), np.random.default_rng(seed))
    # Grey values are rounded, and weighed in coarser steps.
    assert np.abs(masks[0] - moved[..., 0]).max() < 2
    assert masks.dtype == np.float32
    assert np.abs(masks[0] - np.rint(masks[0])).max() > 0.1  # and not moved by nearest neighbours
