"""Steps of an augmentation on a whole batch, on whatever device it is.

Each takes uint8 ``(B, 3, H, W)`` and what was drawn for each of its images, and returns uint8 of that shape. They round
where OpenCV and albumentations round, so that a picture is the same as on the processor to one grey value.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

GREY = (0.299, 0.587, 0.114)  # what OpenCV weighs red, green and blue by


def on_some(images: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor], drawn: Tensor) -> Tensor:
    """``images`` of which those that ``chosen`` ``(B,)`` marks are changed, given their rows of ``drawn`` ``(B, W)``.

    ``chosen`` and ``drawn`` are in the processor's memory: asking a GPU which images there are would wait for it.
    """
    if chosen.all():
        return change(images, drawn)
    if not chosen.any():
        return images
    rows = chosen.nonzero().squeeze(1).to(images.device, non_blocking=True)
    return images.index_copy(0, rows, change(images[rows], drawn[chosen]))


def warped(images: Tensor, drawn: Tensor) -> Tensor:
    """Move pixels as ``cv2.warpAffine`` does, interpolated linearly, 0 outside.

    Args:
        images: ``(B, 3, H, W)``.
        drawn: ``(B, 6)``: the matrices (2, 3) from pixels (x, y) of the result to those of ``images``.
    """
    height, width = images.shape[-2:]
    y, x = (torch.arange(side, dtype=torch.float32, device=images.device) for side in (height, width))
    matrix = drawn.to(images.device, non_blocking=True).view(-1, 1, 1, 2, 3)
    # Not torch's affine_grid: it multiplies matrices, and where TF32 is allowed a pixel is half a pixel off.
    source = matrix[..., 0] * x[:, None] + matrix[..., 1] * y[:, None, None] + matrix[..., 2]
    grid = source * (2 / (torch.tensor([width, height], device=images.device) - 1)) - 1
    return functional.grid_sample(images.float(), grid, align_corners=True).round().to(torch.uint8)


def looked_up(images: Tensor, drawn: Tensor) -> Tensor:
    """Replace each value by that of its image's and channel's table; ``drawn`` is ``(B, 3 * 256)``."""
    tables = drawn.to(images.device, non_blocking=True).view(-1, 3, 256).to(torch.uint8)
    return tables.gather(2, images.flatten(2).long()).view(images.shape)


def greyed(images: Tensor, drawn: Tensor) -> Tensor:
    """All three channels are their weighted mean."""
    return _grey(images.float()).expand(images.shape).to(torch.uint8)


def jittered(images: Tensor, drawn: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue of ``albumentations.ColorJitter``, each image in an order of its own.

    Args:
        images: ``(B, 3, H, W)``.
        drawn: ``(B, 8)``: the factors of brightness, contrast and saturation and the shift of hue, then the numbers of
            these four in their order.
    """
    for place in range(4):
        for number, adjust in enumerate((_brighter, _contrasted, _saturated, _shifted_hue)):
            factors = drawn[:, number, None]
            chosen = drawn[:, 4 + place] == number
            if adjust is _shifted_hue:  # a shift of 0 leaves out the way through rounded hue and saturation
                chosen = chosen & (factors[:, 0] != 0)
            images = on_some(images, chosen, adjust, factors)
    return images


def _brighter(images: Tensor, factor: Tensor) -> Tensor:
    return _cut(images * _of_image(factor, images))


def _contrasted(images: Tensor, factor: Tensor) -> Tensor:
    share = _of_image(factor, images)
    mean = _grey(images.float()).mean(dim=(1, 2, 3), keepdim=True)
    return _cut(images * share + mean * (1 - share))


def _saturated(images: Tensor, factor: Tensor) -> Tensor:
    share, values = _of_image(factor, images), images.float()
    return _cut((values * share + _grey(values) * (1 - share)).round())


def _shifted_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Through OpenCV's HSV of 8 bits: hue in 180 steps, in its whole numbers."""
    values = images.int()
    value = values.amax(dim=1, keepdim=True)
    range_ = value - values.amin(dim=1, keepdim=True)
    red, green, blue = torch.split(values, 1, dim=1)
    side = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * range_, red - green + 4 * range_),
    )
    hue = (side * _fraction(30, range_) + 2048) >> 12
    hue = torch.where(hue < 0, hue + 180, hue)
    saturation = (range_ * _fraction(255, value) + 2048) >> 12
    turned = ((hue + 180 * _of_image(shift, images)) % 180).floor() / 30
    sextant = (torch.tensor([5, 3, 1], device=images.device).view(1, 3, 1, 1) + turned) % 6
    depth = torch.minimum(sextant, 4 - sextant).clamp(0, 1)
    return _cut(value * (1 - saturation / 255 * depth))


def _fraction(numerator: int, denominator: Tensor) -> Tensor:
    """``numerator / denominator`` in 4096ths; of 0 it does not matter, since what it multiplies is 0."""
    return (numerator * 4096 / denominator.clamp_min(1).double()).round().int()


def _of_image(drawn: Tensor, images: Tensor) -> Tensor:
    """One number for each image, ``(B, 1)`` → ``(B, 1, 1, 1)`` on its device."""
    return drawn.to(images.device, non_blocking=True).view(-1, 1, 1, 1)


def _grey(values: Tensor) -> Tensor:
    """``(B, 3, H, W)`` float → ``(B, 1, H, W)``, whole numbers."""
    red, green, blue = (weight * channel for weight, channel in zip(GREY, torch.split(values, 1, 1), strict=True))
    return torch.round(red + green + blue)


def _cut(values: Tensor) -> Tensor:
    """The whole numbers below, in the range of uint8."""
    return values.clamp(0, 255).to(torch.uint8)
