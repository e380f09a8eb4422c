"""An augmentation whose pictures wait until they are a batch on their device (S1.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fundusnet.data.batch_steps import greyed, jittered, looked_up, on_some, warped
from fundusnet.data.warp import Warp
from fundusnet.errors import UserError

SYMMETRIES = (A.D4, A.SquareSymmetry, A.HorizontalFlip, A.VerticalFlip, A.Transpose, A.RandomRotate90)


@dataclass(frozen=True)
class Step:
    """How a transform is put off.

    Attributes:
        width: Numbers that say what it drew for a picture.
        describe: Transform and what it drew → these numbers.
        apply: Batch uint8 ``(B, 3, H, W)`` and the numbers ``(B, width)`` of its pictures → batch.
    """

    width: int
    describe: Callable[[Any, Mapping[str, Any]], Any]
    apply: Callable[[Tensor, Tensor], Tensor]


class BatchAugment:
    """What transforms of albumentations do to the pictures of a batch, once it is on its device.

    From then on the transforms draw as before and move masks and points, but leave the picture as it is; what they
    drew for it is noted. So draws, masks and points are those of the processor, and so is their distribution.

    Args:
        transforms: Name → transform or group of transforms; changed in place.

    Raises:
        UserError: There is no way to apply one of them to a batch.
    """

    def __init__(self, transforms: Mapping[str, A.BasicTransform | A.BaseCompose]) -> None:
        self._steps: list[Step] = []
        for name, transform in transforms.items():
            for each in _single(name, transform):
                step = _step_of(each)
                if step is None:
                    raise _refusal(name, each)
                # albumentations offers no way to leave out the image: without one it draws nothing.
                each._key2func["image"] = partial(self._note, len(self._steps), each)
                self._steps.append(step)
        self._notes: dict[int, NDArray[np.float32]] = {}

    def take_notes(self) -> NDArray[np.float32]:
        """What was drawn for the picture since the last call ``(W,)``, NaN for what was not applied to it."""
        parts = [self._notes.get(number, np.full(step.width, np.nan)) for number, step in enumerate(self._steps)]
        self._notes = {}
        return np.concatenate([np.zeros(0), *parts]).astype(np.float32)

    @torch.no_grad()
    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Apply what was drawn.

        Args:
            images: uint8 ``(B, 3, S, S)`` on any device.
            drawn: ``(B, W)`` in the processor's memory, what ``take_notes`` returned for each image.

        Returns:
            uint8 ``(B, 3, S, S)``, each pixel's channels side by side in memory.
        """
        parts = torch.split(drawn, [step.width for step in self._steps], dim=1)
        for step, mine in zip(self._steps, parts, strict=True):
            images = on_some(images, ~mine[:, 0].isnan(), step.apply, mine)
        return images.contiguous(memory_format=torch.channels_last)

    def _note(self, number: int, transform: A.BasicTransform, image: NDArray[np.uint8], **drawn: Any) -> Any:
        self._notes[number] = np.ravel(self._steps[number].describe(transform, drawn))
        return image


def _single(name: str, transform: A.BasicTransform | A.BaseCompose) -> Iterator[A.BasicTransform]:
    """The transforms of a group in their order; of a group in no fixed order there is none."""
    if isinstance(transform, A.BasicTransform):
        yield transform
    elif type(transform) in (A.OneOf, A.Sequential, A.Compose):
        for each in transform.transforms:
            yield from _single(name, each)
    else:
        raise _refusal(name, transform)


def _refusal(name: str, transform: object) -> UserError:
    return UserError(
        f"data.augment.{name} ({type(transform).__name__}, with these options) cannot be applied to a batch on the "
        f"device; use data.augment_on=cpu, or leave it out with data.augment.{name}=null"
    )


def _step_of(transform: A.BasicTransform) -> Step | None:
    kind = type(transform)
    if kind is Warp:
        return Step(6, _matrix, warped)
    if kind in SYMMETRIES:
        return Step(6, _matrix_of_symmetry, warped)
    if kind is A.RandomGamma or (kind is A.RandomBrightnessContrast and transform.brightness_by_max):
        return Step(3 * 256, _table, looked_up)
    if kind is A.ColorJitter:
        return Step(8, _jitter, jittered)
    if kind is A.ToGray and transform.method == "weighted_average" and transform.num_output_channels == 3:
        return Step(1, _nothing, greyed)
    return None


def _matrix(_: A.BasicTransform, drawn: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.asarray(cv2.invertAffineTransform(drawn["matrix"]))


def _matrix_of_symmetry(transform: A.BasicTransform, drawn: Mapping[str, Any]) -> NDArray[np.float64]:
    """From where each corner of four pixels comes follows from where all pixels of a square come."""
    numbers = np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2, 1), 3, axis=2)
    corners = transform.apply(numbers, **drawn)[..., 0]
    origin, right, below = (np.array([number % 2, number // 2]) for number in corners.ravel()[:3].astype(int))
    return np.column_stack([right - origin, below - origin, origin * (drawn["shape"][0] - 1)])


def _table(transform: A.BasicTransform, drawn: Mapping[str, Any]) -> NDArray[np.uint8]:
    """What the transform makes of each grey value."""
    values = np.repeat(np.arange(256, dtype=np.uint8).reshape(256, 1, 1), 3, axis=2)
    return np.asarray(transform.apply(values, **drawn)[:, 0].T)


def _nothing(*_: object) -> int:
    """That it was applied is all there is to say."""
    return 0


def _jitter(_: A.BasicTransform, drawn: Mapping[str, Any]) -> list[float]:
    return [*(drawn[name] for name in ("brightness", "contrast", "saturation", "hue")), *drawn["order"]]
