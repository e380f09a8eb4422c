"""Class activation maps, the masks made from them (S2.2), and masks to compare these with (S2.5).

Maps come from the last features and the weights of the linear layer after global average pooling, without hooks or a
backward pass. A mask is 1 where the first stage looked most and 0 where it looked least.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Scale = Literal["minmax", "relu", "sigmoid"]
SCALES: tuple[Scale, ...] = ("minmax", "relu", "sigmoid")
Size = tuple[int, int]


def class_activation_maps(features: Float[Tensor, "B C h w"], weight: Float[Tensor, "c C"]) -> Float[Tensor, "B c h w"]:
    """``(B, C, h, w)`` features, ``(c, C)`` linear weights → ``(B, c, h, w)`` float32 maps, one for each class.

    The mean of a map over its cells plus the class's bias is the class's logit. For a sub-classifier c is 2: no, yes.
    """
    # In 16 bits a map has at most 256 steps between its extremes, which would be visible in masks.
    with torch.autocast(features.device.type, enabled=False):
        return functional.conv2d(features.float(), weight.float()[:, :, None, None])


def grade_mask(
    cams: Float[Tensor, "B k 2 h w"],
    grade: Int[Tensor, " B"],
    size: Size,
    scale: Scale = "minmax",
    floor: float = 0.0,
) -> Float[Tensor, "B 1 H W"]:
    """The mask of one grade for each image (S2.2).

    Grade 0 → CAM[0, no]; grade K-1 → CAM[K-2, yes]; any other grade g → the mean of CAM[g-1, yes] and CAM[g, no].

    Args:
        cams: ``(B, K-1, 2, h, w)``, no and yes of each sub-classifier.
        grade: ``(B,)`` long in 0 … K-1. Pass the *predicted* grade: a mask of the true one would leak the label.
        size: ``(H, W)`` of the image; ``(h, w)`` gives the mask before it is upsampled.
        scale: How each map is scaled to [0, 1] on its own: ``minmax`` from its lowest to its highest cell, ``relu`` its
            positive part divided by its highest cell, ``sigmoid``. A constant map gives a mask of ones.
        floor: Value of the mask where the map is 0, in [0, 1].

    Returns:
        ``(B, 1, H, W)`` float32 in [0, 1].
    """
    return class_mask(_grade_maps(_scale(cams, scale)), grade, size, None, floor)


def class_mask(
    cams: Float[Tensor, "B K h w"],
    grade: Int[Tensor, " B"],
    size: Size,
    scale: Scale | None = "minmax",
    floor: float = 0.0,
) -> Float[Tensor, "B 1 H W"]:
    """The mask of one class for each image: ``grade_mask`` for the K maps ``(B, K, h, w)`` of a K-way softmax (S2.7).

    With ``scale`` None the maps are in [0, 1] already.
    """
    maps = cams if scale is None else _scale(cams, scale)
    index = grade.view(-1, 1, 1, 1).expand(-1, 1, *maps.shape[-2:])
    return upsampled(_apply_floor(maps.gather(1, index), floor), size)


def agnostic_mask(
    cams: Float[Tensor, "B k 2 h w"] | Float[Tensor, "B K h w"],
    size: Size,
    scale: Scale = "minmax",
    floor: float = 0.0,
) -> Float[Tensor, "B 1 H W"]:
    """The mean of the masks of all K grades (S2.5): where the first stage looks, whatever it decides.

    ``cams`` is ``(B, K-1, 2, h, w)`` of sub-classifiers or ``(B, K, h, w)`` of a K-way softmax.
    """
    scaled = _scale(cams, scale)
    maps = _grade_maps(scaled) if cams.ndim == 5 else scaled
    return upsampled(_apply_floor(maps.mean(dim=1, keepdim=True), floor), size)


def constant_mask(images: int, size: Size, device: torch.device | None = None) -> Float[Tensor, "B 1 H W"]:
    """``(B, 1, H, W)`` of ones (S2.5): the complete picture."""
    return torch.ones(images, 1, *size, device=device)


def other_mask(mask: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    """``(B, 1, H, W)``: each image gets the mask of the previous one in the batch (S2.5); B is at least 2."""
    if len(mask) < 2:
        raise ValueError("another image's mask needs at least two images")
    return mask.roll(1, dims=0)


def upsampled(mask: Float[Tensor, "B 1 h w"], size: Size) -> Float[Tensor, "B 1 H W"]:
    """``(B, 1, h, w)`` → ``(B, 1, H, W)``, bilinear; the centre of a cell stays at the centre of the pixels it covers.

    Interpolation is linear, so it may follow averaging and the floor: the result is the same.
    """
    if tuple(mask.shape[-2:]) == tuple(size):
        return mask
    return functional.interpolate(mask, size=size, mode="bilinear", align_corners=False)


def _grade_maps(scaled: Float[Tensor, "B k 2 h w"]) -> Float[Tensor, "B k+1 h w"]:
    """``(B, K-1, 2, h, w)`` scaled maps → ``(B, K, h, w)``: for each grade the mean of its two neighbours (S2.2).

    The first and the last grade have only one neighbour, which is used alone.
    """
    no, yes = scaled[:, :, 0], scaled[:, :, 1]
    below = torch.cat([no[:, :1], yes], dim=1)
    above = torch.cat([no, yes[:, -1:]], dim=1)
    return (below + above) / 2


def _scale(cams: Float[Tensor, "*maps h w"], scale: Scale) -> Float[Tensor, "*maps h w"]:
    """Scale each map ``(..., h, w)`` to [0, 1] on its own; a constant one becomes ones."""
    cams = cams.float()
    low, high = cams.amin(dim=(-2, -1), keepdim=True), cams.amax(dim=(-2, -1), keepdim=True)
    # Sums of equal features may differ in their last bits.
    constant = high - low <= 1e-6 * torch.maximum(low.abs(), high.abs())
    if scale == "minmax":
        maps = (cams - low) / (high - low)
    elif scale == "relu":
        # A map without a positive cell says as little as a constant one.
        constant = constant | (high <= 0)
        maps = cams.clamp_min(0) / high
    elif scale == "sigmoid":
        maps = cams.sigmoid()
    else:
        raise ValueError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}")
    return torch.where(constant, 1.0, maps)


def _apply_floor(mask: Tensor, floor: float) -> Tensor:
    return floor + (1 - floor) * mask
