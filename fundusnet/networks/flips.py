"""Predictions averaged over an image and its mirror images (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

#: axes of ``(B, C, H, W)`` that are reversed
FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


def flipped(image: Tensor) -> Iterator[Tensor]:
    """``(B, C, H, W)`` as it is, mirrored left-right, top-bottom, and both."""
    return (image.flip(axes) for axes in FLIPS)


def mean_map(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps ``(B, C, h, w)`` of the images of ``flipped``, in the frame of the first."""
    return torch.stack([each.flip(axes) for each, axes in zip(maps, FLIPS, strict=True)]).mean(dim=0)
