"""The geometry of an augmentation (S1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.errors import UserError

_Mask = TypeVar("_Mask", np.bool_, np.uint8, np.float32)


class Warp(A.DualTransform):  # type: ignore[misc]  # albumentations is not typed strictly
    """Flips, scale, rotation, translation and shear in one matrix, so that pixels are interpolated once (S1.5).

    What comes into view from outside is black, 0.

    albumentations' ``HorizontalFlip``, ``VerticalFlip`` and ``Affine`` together take 1.1 times as long with one mask,
    1.2 times with two and 1.5 times with nine (``benchmarks/pipeline.py``).

    Args:
        hflip: Mirror half of the images left-right.
        vflip: Mirror half of the images top-bottom.
        scale: Range of the zoom factor, above 0.
        rotate: Largest rotation either way, degrees, 0 to 180.
        translate: Largest shift either way along each axis, as a fraction of that side, 0 to 1.
        shear: Largest shear angle either way along x, degrees, 0 to 89.
        p: Share of the images it is applied to; within ``albumentations.OneOf``, how often it is chosen.

    Raises:
        UserError: A range is reversed or outside what is possible.
    """

    def __init__(
        self,
        hflip: bool = True,
        vflip: bool = False,
        scale: Sequence[float] = (0.9, 1.1),
        rotate: float = 15.0,
        translate: float = 0.05,
        shear: float = 5.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise UserError(f"augment: scale={list(scale)} is not a range of zoom factors; use such as [0.9, 1.1]")
        for name, value, limit in (("rotate", rotate, 180), ("translate", translate, 1), ("shear", shear, 89)):
            if not 0 <= value <= limit:
                raise UserError(f"augment: {name}={value:g} is outside 0 to {limit}; use a value in this range")
        self.hflip = hflip
        self.vflip = vflip
        self.scale = tuple(scale)
        self.rotate = rotate
        self.translate = translate
        self.shear = shear
        self.mask_interpolation = cv2.INTER_NEAREST

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
        return {"matrix": np.column_stack([linear, centre + shift - linear @ centre])}

    def apply(self, img: NDArray[np.uint8], matrix: NDArray[np.float64], **_: Any) -> NDArray[np.uint8]:
        return np.asarray(cv2.warpAffine(img, matrix, img.shape[1::-1], flags=cv2.INTER_LINEAR), dtype=np.uint8)

    def apply_to_keypoints(
        self, keypoints: NDArray[np.float32], matrix: NDArray[np.float64], **_: Any
    ) -> NDArray[np.float32]:
        moved = keypoints.copy()
        moved[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        return moved

    def apply_to_masks(self, masks: NDArray[_Mask], matrix: NDArray[np.float64], **_: Any) -> NDArray[_Mask]:
        moved = np.zeros_like(masks)
        for before, after in zip(masks, moved, strict=True):
            # Most cues are of absent findings: an empty mask stays empty wherever it goes.
            if before.any():
                cv2.warpAffine(before, matrix, before.shape[::-1], dst=after, flags=self.mask_interpolation)
        return moved
