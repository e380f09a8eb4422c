"""Random geometry and intensity for a photograph and everything drawn on it (S1.5)."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

# albumentations asks the network for a newer version when it is imported; training needs no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from fundusnet.config.objects import build
from fundusnet.errors import UserError

_Mask = TypeVar("_Mask", np.bool_, np.uint8, np.float32)


class Augment:
    """Named transforms of albumentations, applied in their order to an image and its masks.

    Args:
        transforms: Name → transform; a group such as ``A.OneOf`` is one too, and None leaves the name out. They must
            keep size and type of the image.

    Raises:
        UserError: A value is not a transform.

    Examples:
        What ``conf/data/default.yaml`` describes; any transform of albumentations can be added to it by a name of its
        own::

            warp:                         # geometry, in one interpolation; cues and masks move with the image
              _target_: fundusnet.data.augment.Warp
              hflip: true                 # mirror half of the images left-right
              vflip: false                # mirror half of the images top-bottom
              scale: [0.9, 1.1]           # zoom factor
              rotate: 15.0                # degrees, either way
              translate: 0.05             # fraction of each side, either way
              shear: 5.0                  # degrees, either way
              p: 1.0                      # share of the images it is applied to
            gain:                         # one factor on all grey values: 1 + contrast_limit, so 0.8 to 1.2
              _target_: albumentations.RandomBrightnessContrast
              brightness_limit: 0.0
              contrast_limit: [-0.2, 0.2]
              p: 1.0
    """

    def __init__(self, transforms: Mapping[str, A.BasicTransform | A.BaseCompose | None]) -> None:
        for name, transform in transforms.items():
            if not isinstance(transform, A.BasicTransform | A.BaseCompose | None):
                raise UserError(
                    f"data.augment.{name} is {transform!r} and not a transform; give it the _target_ of one, such as "
                    "fundusnet.data.augment.Warp or albumentations.GaussianBlur"
                )
        self.names = [name for name, transform in transforms.items() if transform is not None]
        self._steps = [transforms[name] for name in self.names]
        self._pipeline = A.Compose(self._steps)
        self._with_points: A.Compose | None = None

    def __repr__(self) -> str:
        """The transforms and all their arguments."""
        return repr(self._pipeline)

    def __call__(
        self, image: NDArray[np.uint8], masks: NDArray[_Mask], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[_Mask]]:
        """Transform ``image`` (H, W, 3) and ``masks`` (M, H, W) alike; M may be 0.

        Values of bool and uint8 masks move and are never mixed, so that a uint8 mask may hold eight masks in its bits;
        float32 masks are interpolated as the image is. The result depends on the arguments and the state of ``rng``
        only.

        Raises:
            UserError: A transform changed size or type of the image.
        """
        self._pipeline.set_mask_interpolation(cv2.INTER_LINEAR if masks.dtype == np.float32 else cv2.INTER_NEAREST)
        planes = masks.view(np.uint8) if masks.dtype == np.bool_ else masks
        moved = self._apply(self._pipeline, rng, image=image, masks=planes if len(masks) else None)
        return moved["image"], moved["masks"].view(masks.dtype) if len(masks) else masks

    def with_points(
        self, image: NDArray[np.uint8], points: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Transform ``image`` (H, W, 3) and ``points`` (P, 2), pixels (x, y), alike, as ``__call__`` does.

        Points may leave the picture; NaN stays NaN.

        Raises:
            UserError: A transform changed size or type of the image.
        """
        if self._with_points is None:  # not in the constructor: albumentations warns where no transform moves points
            self._with_points = A.Compose(self._steps, keypoint_params=A.KeypointParams("xy", remove_invisible=False))
        known = np.isfinite(points).all(axis=1)
        moved = self._apply(self._with_points, rng, image=image, keypoints=points[known])
        result = np.full_like(points, np.nan)
        result[known] = np.asarray(moved["keypoints"], dtype=np.float32).reshape(-1, 2)
        return moved["image"], result

    def _apply(self, pipeline: A.Compose, rng: np.random.Generator, image: NDArray[np.uint8], **drawn: Any) -> Any:
        # Without these, every transform draws from a generator of its own, seeded differently in every worker.
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        moved = pipeline(image=image, **drawn)
        if moved["image"].shape != image.shape or moved["image"].dtype != np.uint8:
            raise UserError(
                f"data.augment ({', '.join(self.names)}) turns a uint8 image of shape {image.shape} into "
                f"{moved['image'].dtype} of {moved['image'].shape}; remove the transform that changes size or type"
            )
        return moved


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


def build_augment(transforms: DictConfig | None) -> Augment | None:
    """The augmentation of ``data.augment``: a node with ``_target_`` for each name; None of null.

    Raises:
        UserError: A transform cannot be built.
    """
    if transforms is None:
        return None
    return Augment({str(name): node and build(node) for name, node in transforms.items()})
