"""Random geometry and intensity for a photograph and everything drawn on it (S1.5)."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from fundusnet.config.objects import build
from fundusnet.data.batch_augment import BatchAugment
from fundusnet.data.warp import Warp as Warp
from fundusnet.errors import UserError

_Mask = TypeVar("_Mask", np.bool_, np.uint8, np.float32)
#: entries of an item: ``image`` uint8 (H, W, 3), and ``drawn`` where it is augmented later
Picture = dict[str, NDArray[Any]]


class Augment:
    """Named transforms of albumentations, applied in their order to an image and its masks.

    Args:
        transforms: Name → transform; a group such as ``A.OneOf`` is one too, and None leaves the name out. They must
            keep size and type of the image.
        on: Where images are augmented: "cpu", one by one, or "device", later and in batches. Masks and points are
            moved at once either way, and everything is drawn alike.

    Attributes:
        names: Of the transforms.
        batch: With ``on="device"`` what augments a batch, given the ``drawn`` of its images; otherwise None.

    Raises:
        UserError: A value is not a transform, or not one that can be applied to a batch.

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

    def __init__(
        self,
        transforms: Mapping[str, A.BasicTransform | A.BaseCompose | None],
        on: Literal["cpu", "device"] = "cpu",
    ) -> None:
        for name, transform in transforms.items():
            if not isinstance(transform, A.BasicTransform | A.BaseCompose | None):
                raise UserError(
                    f"data.augment.{name} is {transform!r} and not a transform; give it the _target_ of one, such as "
                    "fundusnet.data.augment.Warp or albumentations.GaussianBlur"
                )
        steps = {name: transform for name, transform in transforms.items() if transform is not None}
        self.names = list(steps)
        self.batch: BatchAugment | None = None
        if on == "device":
            steps = copy.deepcopy(steps)
            self.batch = BatchAugment(steps)
        self._steps = list(steps.values())
        self._pipeline = A.Compose(self._steps)
        self._with_points: A.Compose | None = None

    def __repr__(self) -> str:
        """The transforms and all their arguments, and where they are applied."""
        return repr(self._pipeline) + (" on the device" if self.batch else "")

    def __call__(
        self, image: NDArray[np.uint8], masks: NDArray[_Mask], rng: np.random.Generator
    ) -> tuple[Picture, NDArray[_Mask]]:
        """Transform ``image`` (H, W, 3) and ``masks`` (M, H, W) alike; M may be 0.

        Values of bool and uint8 masks move and are never mixed, so that a uint8 mask may hold eight masks in its bits;
        float32 masks are interpolated as the image is. The result depends on the arguments and the state of ``rng``
        only.

        Raises:
            UserError: A transform changed size or type of the image.
        """
        self._pipeline.set_mask_interpolation(cv2.INTER_LINEAR if masks.dtype == np.float32 else cv2.INTER_NEAREST)
        planes = masks.view(np.uint8) if masks.dtype == np.bool_ else masks
        picture, moved = self._apply(self._pipeline, rng, image, masks=planes if len(masks) else None)
        return picture, moved["masks"].view(masks.dtype) if len(masks) else masks

    def with_points(
        self, image: NDArray[np.uint8], points: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[Picture, NDArray[np.float32]]:
        """Transform ``image`` (H, W, 3) and ``points`` (P, 2), pixels (x, y), alike, as ``__call__`` does.

        Points may leave the picture; NaN stays NaN.

        Raises:
            UserError: A transform changed size or type of the image.
        """
        if self._with_points is None:  # not in the constructor: albumentations warns where no transform moves points
            self._with_points = A.Compose(self._steps, keypoint_params=A.KeypointParams("xy", remove_invisible=False))
        known = np.isfinite(points).all(axis=1)
        picture, moved = self._apply(self._with_points, rng, image, keypoints=points[known])
        result = np.full_like(points, np.nan)
        result[known] = np.asarray(moved["keypoints"], dtype=np.float32).reshape(-1, 2)
        return picture, result

    def _apply(
        self, pipeline: A.Compose, rng: np.random.Generator, image: NDArray[np.uint8], **drawn: Any
    ) -> tuple[Picture, Any]:
        # Without these, every transform draws from a generator of its own, seeded differently in every worker.
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        moved = pipeline(image=image, **drawn)
        if moved["image"].shape != image.shape or moved["image"].dtype != np.uint8:
            raise UserError(
                f"data.augment ({', '.join(self.names)}) turns a uint8 image of shape {image.shape} into "
                f"{moved['image'].dtype} of {moved['image'].shape}; remove the transform that changes size or type"
            )
        picture = {"image": moved["image"]}
        return picture if self.batch is None else {**picture, "drawn": self.batch.take_notes()}, moved


def build_augment(augment: DictConfig | None, augment_on: Literal["cpu", "device"] = "cpu") -> Augment | None:
    """The augmentation of ``data.augment``: a node with ``_target_`` for each name; None of null.

    Args:
        augment: The named transforms.
        augment_on: Where images are augmented: "cpu", one by one while they are loaded, or "device", in batches.

    Raises:
        UserError: A transform cannot be built, or not be applied to a batch.
    """
    if augment is None:
        return None
    return Augment({str(name): node and build(node) for name, node in augment.items()}, augment_on)
