"""Random geometry and intensity for a photograph and everything drawn on it (S1.5)."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, TypeVar

# albumentations asks the network for a newer version when it is imported; training needs no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.errors import UserError

_Mask = TypeVar("_Mask", np.bool_, np.uint8, np.float32)


class Augment:
    """Flips, scale, rotation, translation and shear in one warp, then a random gain on the image (S1.5).

    Args:
        hflip, vflip: mirror left-right, top-bottom, each for half of the images.
        scale: range of the zoom factor, above 0.
        rotate: largest rotation either way, degrees.
        translate: largest shift either way along each axis, as a fraction of that side.
        shear: largest shear angle either way along x, degrees, below 90.
        intensity: range of the factor on all grey values of an image, at least 0.

    Raises:
        UserError: a range is reversed or outside what is possible.
    """

    def __init__(
        self,
        hflip: bool = True,
        vflip: bool = False,
        scale: Sequence[float] = (0.9, 1.1),
        rotate: float = 15.0,
        translate: float = 0.05,
        shear: float = 5.0,
        intensity: Sequence[float] = (0.8, 1.2),
    ) -> None:
        for name, (low, high), allowed in (("scale", scale, scale[0] > 0), ("intensity", intensity, intensity[0] >= 0)):
            if low > high or not allowed:
                raise UserError(
                    f"augment.{name}=[{low:g}, {high:g}] is no range of factors: give [low, high], low first"
                )
        for name, value, limit in (("rotate", rotate, 180), ("translate", translate, 1), ("shear", shear, 89)):
            if not 0 <= value <= limit:
                raise UserError(f"augment.{name}={value:g} is outside 0 to {limit}")
        self._transform = _WarpAndGain(hflip, vflip, tuple(scale), rotate, translate, shear, tuple(intensity))

    def __call__(
        self, image: NDArray[np.uint8], masks: NDArray[_Mask], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[_Mask]]:
        """Move ``image`` (H, W, 3) and ``masks`` (M, H, W) together; what comes into view from outside is black, 0.

        Values of bool and uint8 masks move and are never mixed, so that one may hold eight masks in its bits; float32
        masks are interpolated as the image is.
        The outcome is a function of the arguments and the state of ``rng`` alone.
        """
        # albumentations would draw from a generator of its own, seeded differently in every worker.
        self._transform.set_random_state(rng, random.Random(0))
        moved = self._transform(image=image, masks=masks)
        return moved["image"], moved["masks"]


class _WarpAndGain(A.DualTransform):  # type: ignore[misc]  # albumentations is not typed strictly
    """One 2×3 matrix, so that pixels are interpolated once, whatever is drawn."""

    def __init__(
        self,
        hflip: bool,
        vflip: bool,
        scale: tuple[float, ...],
        rotate: float,
        translate: float,
        shear: float,
        intensity: tuple[float, ...],
    ) -> None:
        super().__init__(p=1.0)
        self.hflip = hflip
        self.vflip = vflip
        self.scale = scale
        self.rotate = rotate
        self.translate = translate
        self.shear = shear
        self.intensity = intensity

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        rng = self.random_generator
        height, width = params["shape"][:2]
        mirror = np.where(rng.random(2) < 0.5, (-1.0 if self.hflip else 1.0, -1.0 if self.vflip else 1.0), 1.0)
        zoom = rng.uniform(*self.scale)
        angle, slant = np.deg2rad(rng.uniform(-1, 1, size=2) * (self.rotate, self.shear))
        shift = rng.uniform(-self.translate, self.translate, size=2) * (width, height)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = zoom * rotation @ np.array([[1.0, np.tan(slant)], [0.0, 1.0]]) @ np.diag(mirror)
        # The centre of the picture, in pixel centres, stays where it is but for the shift.
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = np.column_stack([linear, centre + shift - linear @ centre])
        return {"matrix": matrix, "gain": float(rng.uniform(*self.intensity))}

    def apply(self, img: NDArray[np.uint8], matrix: NDArray[np.float64], gain: float, **_: Any) -> NDArray[np.uint8]:
        moved = cv2.warpAffine(img, matrix, img.shape[1::-1], flags=cv2.INTER_LINEAR)
        # Saturates at 255; black stays black.
        return np.asarray(cv2.convertScaleAbs(moved, moved, alpha=gain), dtype=np.uint8)

    def apply_to_masks(self, masks: NDArray[_Mask], matrix: NDArray[np.float64], **_: Any) -> NDArray[_Mask]:
        moved = np.zeros_like(masks)
        flags = cv2.INTER_LINEAR if masks.dtype == np.float32 else cv2.INTER_NEAREST
        planes = (masks, moved) if masks.dtype != np.bool_ else (masks.view(np.uint8), moved.view(np.uint8))
        for before, after in zip(*planes, strict=True):
            # Most cues are of absent findings: an empty mask stays empty wherever it goes.
            if before.any():
                cv2.warpAffine(before, matrix, before.shape[::-1], dst=after, flags=flags)
        return moved
