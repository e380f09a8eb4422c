"""Facts of the augmentation: what is drawn on a photograph stays where it was drawn."""

from __future__ import annotations

import inspect
import random
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, Dataset

from fundusnet.config.upgrade import augment_from_ranges
from fundusnet.data.augment import A, Augment, Warp, build_augment
from fundusnet.errors import UserError

STILL = {"hflip": False, "scale": (1, 1), "rotate": 0, "translate": 0, "shear": 0}
# The example of the docstring, which is what conf/data/default.yaml holds, and a transform of albumentations.
DEFAULT: dict[str, Any] = yaml.safe_load((inspect.getdoc(Augment) or "").partition("::\n")[2])
AFFINE = {"scale": (0.8, 1.2), "rotate": (-45, 45), "translate_percent": (-0.1, 0.1), "shear": (-10, 10), "p": 0.9}


def warp(**options: Any) -> Augment:
    return Augment({"warp": Warp(**options)})


def gain(low: float, high: float) -> Augment:
    return Augment({"gain": instantiate(DEFAULT["gain"], contrast_limit=[low - 1, high - 1])})


def default(**others: Any) -> Augment:
    """The default transforms, and others after them."""
    return Augment(instantiate(DEFAULT, _convert_="all") | others)


def pipelines() -> dict[str, Augment]:
    return {
        "warp": warp(vflip=True, rotate=90, scale=(0.7, 1.3), shear=20),
        "default": default(),
        "affine": Augment({"affine": A.Affine(**AFFINE)}),
        "all": default(affine=A.Affine(**AFFINE), blur=A.GaussianBlur(p=0.2)),
    }


def apply(augment: Augment, image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Any:
    """Image and masks, augmented."""
    found, moved = augment(image, masks, rng)
    assert found.keys() == {"image"}
    return found["image"], moved


def picture(seed: int = 0, side: int = 33) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8), rng.random((3, side, side)) < 0.3


def test_a_warp_without_any_range_changes_nothing() -> None:
    image, masks = picture()
    moved, moved_masks = apply(warp(**STILL), image, masks, np.random.default_rng(0))
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
    augment = warp(**STILL | {"hflip": True, "vflip": True})
    for seed in range(200):
        moved, moved_masks = apply(augment, image, masks, np.random.default_rng(seed))
        (name,) = [name for name, flip in flips.items() if np.array_equal(moved, image[flip])]
        assert np.array_equal(moved_masks, masks[(slice(None), *flips[name])])
        seen[name] += 1
    assert min(seen.values()) > 25  # 50 expected, standard deviation 6


def moved_spot(augment: Augment, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A bright disc and its mask, augmented, and how many pixels their centres of gravity are apart on one axis.

    A disc, because the straight edges of a square are rounded all the same way where they lie between two pixels.
    """
    y, x = np.mgrid[:96, :96]
    mask = (y - 47.3) ** 2 + (x - 52.1) ** 2 < 12**2
    image = np.repeat(mask[..., None].astype(np.uint8) * 200, 3, axis=2)
    moved, masks = apply(augment, image, mask[None], np.random.default_rng(seed))
    weight = moved[..., 0] / moved[..., 0].sum()
    where = np.argwhere(masks[0]).mean(axis=0)
    centre = np.array([(np.arange(96) * weight.sum(axis=axis)).sum() for axis in (1, 0)])
    return moved, masks, float(np.abs(centre - where).max())


@pytest.mark.parametrize("name", pipelines())
def test_a_spot_and_its_mask_keep_one_centre(name: str) -> None:
    """A shift by half a pixel between the two would be in every picture."""
    assert np.median([moved_spot(pipelines()[name], seed)[2] for seed in range(40)]) < 0.15


@pytest.mark.parametrize("name", pipelines())
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_spot_and_its_mask_move_together(name: str, seed: int) -> None:
    """The centre of gravity of a bright disc is that of its mask, to half a pixel, under every geometry."""
    moved, masks, apart = moved_spot(pipelines()[name], seed)
    assert apart < 0.5
    # Inside and outside agree too, up to the interpolated rim.
    assert ((moved[..., 0] > moved.max() / 2) != masks[0]).mean() < 0.01


@given(zoom=st.floats(0.6, 1.4), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_scale_multiplies_areas_by_its_square(zoom: float, seed: int) -> None:
    mask = np.zeros((1, 200, 200), dtype=bool)
    mask[0, 70:130, 70:130] = True
    augment = warp(**STILL | {"scale": (zoom, zoom), "rotate": 45, "shear": 10, "hflip": True})
    _, moved = augment(np.zeros((200, 200, 3), dtype=np.uint8), mask, np.random.default_rng(seed))
    assert moved.sum() / mask.sum() == pytest.approx(zoom**2, rel=0.03)


def test_rotation_and_shift_stay_within_their_limits() -> None:
    mask = np.zeros((2, 201, 201), dtype=bool)
    mask[0, 98:103, 98:103] = True  # the centre
    mask[1, 98:103, 168:173] = True  # 70 pixels to its right
    image = np.zeros((201, 201, 3), dtype=np.uint8)
    augment = warp(**STILL | {"rotate": 20, "translate": 0.1})
    shifts, angles = [], []
    for seed in range(300):
        centre, right = (
            np.argwhere(m).mean(axis=0) for m in apply(augment, image, mask, np.random.default_rng(seed))[1]
        )
        shifts.append(centre - 100)
        angles.append(np.degrees(np.arctan2(*(right - centre))))
    assert 0.9 * 20.1 < np.abs(shifts).max() < 20.1 + 0.6
    assert -21 < min(angles) < -18
    assert 18 < max(angles) < 21


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.5])
def test_gain_scales_the_image_saturates_and_spares_the_masks(factor: float) -> None:
    image, masks = picture()
    image[0] = 0
    moved, moved_masks = apply(gain(factor, factor), image, masks, np.random.default_rng(0))
    assert np.abs(moved - np.minimum(image * factor, 255)).max() <= 1  # a grey value is rounded down
    assert not moved[0].any()
    assert np.array_equal(moved_masks, masks)


def test_the_default_gain_is_uniform_between_its_limits() -> None:
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    augment = Augment({"gain": instantiate(DEFAULT["gain"])})
    grey = [apply(augment, image, picture()[1][:0], np.random.default_rng(seed))[0].mean() for seed in range(300)]
    assert (min(grey), max(grey)) == pytest.approx((80, 120), abs=1)
    assert np.mean(grey) == pytest.approx(100, abs=2.5)  # standard deviation of the mean: 0.7


@pytest.mark.parametrize("name", pipelines())
def test_the_result_depends_on_the_generator_only(name: str) -> None:
    image, masks = picture()
    augment = pipelines()[name]
    first = apply(augment, image, masks, np.random.default_rng(5))
    other = apply(augment, image, masks, np.random.default_rng(6))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the legacy global state is what must not matter
    augment._pipeline.set_random_seed(99)
    for again in (augment, pipelines()[name]):
        repeated = apply(again, image, masks, np.random.default_rng(5))
        assert all(np.array_equal(a, b) for a, b in zip(first, repeated, strict=True))
    assert not np.array_equal(first[0], other[0])


class Augmented(Dataset[np.ndarray]):
    def __init__(self, augment: Augment) -> None:
        self.augment = augment

    def __len__(self) -> int:
        return 6

    def __getitem__(self, position: int) -> np.ndarray:
        return apply(self.augment, *picture(), np.random.default_rng(position))[0]


def test_workers_draw_what_one_process_draws() -> None:
    loaders = [DataLoader(Augmented(pipelines()["all"]), batch_size=None, num_workers=count) for count in (0, 2)]
    assert all(np.array_equal(alone, shared) for alone, shared in zip(*loaders, strict=True))


def test_the_inputs_are_not_changed() -> None:
    image, masks = picture()
    image.flags.writeable = masks.flags.writeable = False
    before = image.copy(), masks.copy()
    pipelines()["all"](image, masks, np.random.default_rng(0))
    assert np.array_equal(image, before[0])
    assert np.array_equal(masks, before[1])


@pytest.mark.parametrize("name", pipelines())
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_eight_masks_in_the_bits_of_one_move_as_each_would_alone(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, masks = picture(seed)[0], rng.random((11, 33, 33)) < 0.3
    augment = pipelines()[name]
    _, alone = augment(image, masks, np.random.default_rng(seed))
    _, packed = augment(image, np.packbits(masks, axis=0), np.random.default_rng(seed))
    assert alone.dtype == bool
    assert np.array_equal(np.unpackbits(packed, axis=0, count=11), alone)


@pytest.mark.parametrize("name", pipelines())
def test_an_image_without_masks_can_be_augmented(name: str) -> None:
    image, masks = picture()
    moved, none = apply(pipelines()[name], image, masks[:0], np.random.default_rng(5))
    assert none.shape == (0, 33, 33)
    assert np.array_equal(moved, apply(pipelines()[name], image, masks, np.random.default_rng(5))[0])


@pytest.mark.parametrize(
    "wrong", [{"scale": (1.2, 0.8)}, {"scale": (0, 1)}, {"scale": [1]}, {"rotate": -5}, {"shear": 90}]
)
def test_impossible_ranges_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Warp(**wrong)


def test_what_is_not_a_transform_is_named() -> None:
    with pytest.raises(UserError, match=r"data\.augment\.rotate is 15 and not a transform; give it the _target_"):
        Augment({"warp": Warp(), "rotate": 15})


@pytest.mark.parametrize("wrong", [A.Resize(20, 20), A.ToFloat()])
def test_a_transform_that_changes_size_or_type_is_refused(wrong: A.BasicTransform) -> None:
    with pytest.raises(
        UserError, match=r"data\.augment \(warp, wrong\) turns a uint8 image of shape \(33, 33, 3\) into"
    ):
        Augment({"warp": Warp(), "wrong": wrong})(*picture(), np.random.default_rng(0))


def test_a_name_without_transform_is_left_out() -> None:
    with_gain = apply(default(gain=None), *picture(), np.random.default_rng(0))
    assert np.array_equal(with_gain[0], apply(warp(), *picture(), np.random.default_rng(0))[0])


def test_ranges_of_an_earlier_version_describe_the_same_augmentation() -> None:
    ranges = {
        "hflip": True, "vflip": False, "scale": [0.9, 1.1], "rotate": 15.0, "translate": 0.05, "shear": 5.0,
        "intensity": [0.8, 1.2],
    }  # fmt: skip
    before = build_augment(OmegaConf.create(augment_from_ranges(**ranges)))
    assert before is not None
    for seed in range(5):
        image, masks = picture(seed)
        old = apply(before, image, masks, np.random.default_rng(seed))
        new = apply(default(), image, masks, np.random.default_rng(seed))
        assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=True))


@pytest.mark.parametrize("name", ["warp", "affine"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_float_mask_is_interpolated_as_the_image_is(name: str, seed: int) -> None:
    """A mask that is the image's own grey goes wherever the image goes, to rounding."""
    image, _ = picture(side=40)
    image[:] = image[..., :1]
    augment = {
        "warp": warp(rotate=30, scale=(0.875, 1.125)),
        "affine": Augment({"affine": A.Affine(rotate=(-30, 30), scale=(0.875, 1.125), p=1)}),
    }[name]
    moved, masks = apply(augment, image, image[None, ..., 0].astype(np.float32), np.random.default_rng(seed))
    # Grey values are rounded, and weighed in coarser steps.
    assert np.abs(masks[0] - moved[..., 0]).max() < 2
    assert masks.dtype == np.float32
    assert np.abs(masks[0] - np.rint(masks[0])).max() > 0.1  # and not moved by nearest neighbours


@pytest.mark.parametrize("name", [*pipelines(), "d4"])
def test_points_move_with_what_is_drawn_at_them(name: str) -> None:
    """The independent reference is a mask with a spot at the point, whose centre of mass is where the spot went."""
    augment = Augment({"d4": A.D4()}) if name == "d4" else pipelines()[name]
    side, at = 129, np.array([[50, 70], [88, 61]], dtype=np.float32)
    image = picture(side=side)[0]
    spots = np.zeros((2, side, side), dtype=np.float32)
    for spot, (x, y) in zip(spots, at.astype(int), strict=True):
        spot[y - 3 : y + 4, x - 3 : x + 4] = 1
    for seed in range(8):
        with_masks, moved_spots = apply(augment, image, spots, np.random.default_rng(seed))
        with_points, moved = augment.with_points(image, at, np.random.default_rng(seed))
        assert np.array_equal(with_masks, with_points["image"]), "points change nothing else"
        for spot, point in zip(moved_spots, moved, strict=True):
            inside = (point > 12).all() and (point < side - 13).all()
            if inside:
                total = spot.sum()
                centre = [(spot.sum(axis=axis) * np.arange(side)).sum() / total for axis in (0, 1)]
                assert np.allclose(point, centre, atol=0.35)


def test_unknown_points_stay_unknown_and_others_may_leave_the_picture() -> None:
    image = picture()[0]
    shifted = warp(**{**STILL, "scale": (4, 4)})
    moved = shifted.with_points(image, np.array([[np.nan, np.nan], [1, 1]], dtype=np.float32), np.random.default_rng(0))
    assert np.isnan(moved[1][0]).all()
    assert np.allclose(moved[1][1], (16 - 15 * 4, 16 - 15 * 4), atol=1e-3)
