"""Feature maps of a backbone at several strides, and bringing them to one size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fundusnet.errors import UserError

Size = tuple[int, int]
Downsampling = Literal["average", "max"]


class Scales(nn.Module):
    """Feature maps of a timm backbone at some of its strides, those that timm's ``features_only`` gives.

    Holds no weights of its own and not the backbone.

    Args:
        backbone: Network of timm.
        name: Its name, for messages.
        strides: Pixels that a cell of each map covers, in any order.
        map_stride: The one of them whose map gives the common size; None = the largest.

    Attributes:
        channels: Channels of each map.

    Raises:
        UserError: The backbone has no map of such a stride, or ``map_stride`` is not among ``strides``.
    """

    def __init__(self, backbone: Any, name: str, strides: Sequence[int], map_stride: int | None = None) -> None:
        super().__init__()
        # Of several maps of one stride the last is taken.
        levels = {level["reduction"]: number for number, level in enumerate(backbone.feature_info)}
        if not hasattr(backbone, "forward_intermediates") or not strides or not set(strides) <= set(levels):
            raise UserError(
                f"model.network.strides={list(strides)} do not fit {name}; choose from {', '.join(map(str, levels))}"
            )
        if map_stride is not None and map_stride not in strides:
            raise UserError(f"the map's stride {map_stride} is not in model.network.strides={list(strides)}; add it")
        self.levels = [levels[stride] for stride in strides]
        self.common = list(strides).index(map_stride or max(strides))
        self.channels = [int(backbone.feature_info[level]["num_chs"]) for level in self.levels]

    def prune(self, backbone: Any) -> None:
        """Remove the layers after the last map. Their weights would get no gradient, which DDP refuses.

        Initial weights have to be loaded before: they are those of the complete network.
        """
        backbone.prune_intermediate_layers(self.levels, prune_norm=True, prune_head=True)

    def forward(self, backbone: Any, image: Tensor) -> list[Tensor]:
        """Normalised ``(B, 3, H, W)`` → maps ``(B, C_i, h_i, w_i)`` in the order of ``strides``."""
        maps = backbone.forward_intermediates(
            image, indices=self.levels, intermediates_only=True, output_fmt="NCHW", norm=False
        )
        # timm returns them from the first layer to the last.
        by_level = dict(zip(sorted(self.levels), maps, strict=True))
        return [by_level[level] for level in self.levels]

    def size(self, maps: Sequence[Tensor]) -> Size:
        """``(h, w)`` of the map that gives the common size."""
        common = maps[self.common]
        return int(common.shape[-2]), int(common.shape[-1])


class JoinedMaps(nn.Module):
    """Maps of several strides brought to one size, each with a batch-norm of its own, and concatenated."""

    def __init__(self, channels: Iterable[int], downsampling: Downsampling = "average") -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(each) for each in channels)
        self.downsampling: Downsampling = downsampling

    def forward(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Maps ``(B, C_i, h_i, w_i)`` → ``(B, C_1 + C_2 + …, *size)``."""
        pairs = zip(self.norms, maps, strict=True)
        return torch.cat([norm(resize(each, size, self.downsampling)) for norm, each in pairs], dim=1)


def resize(maps: Tensor, size: Size, downsampling: Downsampling = "average") -> Tensor:
    """``(B, C, h, w)`` → ``(B, C, *size)``: larger maps are pooled, smaller ones upsampled bilinearly."""
    height, width = int(maps.shape[-2]), int(maps.shape[-1])
    if (height, width) == size:
        return maps
    if height < size[0] or width < size[1]:
        return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    if downsampling == "average":
        return functional.adaptive_avg_pool2d(maps, size)
    if height % size[0] == 0 and width % size[1] == 0:  # the general form has no ONNX operator
        return functional.max_pool2d(maps, (height // size[0], width // size[1]))
    return functional.adaptive_max_pool2d(maps, size)


def resize_keeping_mean(maps: Tensor, size: Size) -> Tensor:
    """``resize``, shifted so that each map keeps its mean: where sizes do not divide, resizing changes it a little."""
    resized = resize(maps, size)
    return resized + (maps.mean(dim=(2, 3), keepdim=True) - resized.mean(dim=(2, 3), keepdim=True))
