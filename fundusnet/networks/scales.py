"""Feature maps of a backbone at several strides, of the picture at several sizes, and bringing them to one size."""

from __future__ import annotations

from collections.abc import Sequence
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
        shrink: The backbone sees the picture averaged down by each of these factors. Maps of the first one give the
            common size.

    Attributes:
        channels: Channels of each map.

    Raises:
        UserError: The backbone has no map of such a stride, ``map_stride`` is not among ``strides``, or ``shrink`` is
            empty.
    """

    def __init__(
        self,
        backbone: Any,
        name: str,
        strides: Sequence[int],
        map_stride: int | None = None,
        shrink: Sequence[int] = (1,),
    ) -> None:
        super().__init__()
        # Of several maps of one stride the last is taken.
        levels = {level["reduction"]: number for number, level in enumerate(backbone.feature_info)}
        if not hasattr(backbone, "forward_intermediates") or not strides or not set(strides) <= set(levels):
            raise UserError(
                f"model.network.strides={list(strides)} do not fit {name}; choose from {', '.join(map(str, levels))}"
            )
        if map_stride is not None and map_stride not in strides:
            raise UserError(f"the map's stride {map_stride} is not in model.network.strides={list(strides)}; add it")
        if not shrink:
            raise UserError("model.network.shrink=[] leaves no picture; use [1] for the picture as it is")
        self.levels, self.shrink = [levels[stride] for stride in strides], [int(factor) for factor in shrink]
        self.common = list(strides).index(map_stride or max(strides))
        self.channels = [int(backbone.feature_info[level]["num_chs"]) for level in self.levels] * len(self.shrink)

    def prune(self, backbone: Any) -> None:
        """Remove the layers after the last map. Their weights would get no gradient, which DDP refuses.

        Initial weights have to be loaded before: they are those of the complete network.
        """
        backbone.prune_intermediate_layers(self.levels, prune_norm=True, prune_head=True)

    def forward(self, backbone: Any, image: Tensor) -> list[Tensor]:
        """Normalised ``(B, 3, H, W)`` → maps ``(B, C_i, h_i, w_i)``: those of ``strides``, for each factor."""
        maps: list[Tensor] = []
        for factor in self.shrink:
            picture = functional.avg_pool2d(image, factor) if factor > 1 else image
            found = backbone.forward_intermediates(
                picture, indices=self.levels, intermediates_only=True, output_fmt="NCHW", norm=False, stop_early=True
            )
            # timm returns them from the first layer to the last.
            by_level = dict(zip(sorted(self.levels), found, strict=True))
            maps += [by_level[level] for level in self.levels]
        return maps

    def pooled(self, maps: Sequence[Tensor], downsampling: Downsampling) -> list[Tensor]:
        """``maps``, those pooled that are larger than the common size."""
        size = self.size(maps)
        return [resize(each, size, downsampling) if each.shape[-1] > size[1] else each for each in maps]

    def size(self, maps: Sequence[Tensor]) -> Size:
        """``(h, w)`` of the map that gives the common size."""
        common = maps[self.common]
        return int(common.shape[-2]), int(common.shape[-1])


class JoinedMaps(nn.Module):
    """Maps of several strides, each with a batch-norm of its own, brought to one size and joined.

    Args:
        channels: Channels ``C_i`` of each map.
        width: None to concatenate them; else a 1x1 convolution of each to this many channels, and their sum. It equals
            a 1x1 convolution of the concatenated maps at a fraction of the cost, as small maps are upsampled after it.
    """

    def __init__(self, channels: Sequence[int], width: int | None = None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(each, affine=width is None) for each in channels)
        self.reductions = None
        if width is not None:
            self.reductions = nn.ModuleList(nn.Conv2d(each, width, 1, bias=False) for each in channels)

    def forward(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Maps ``(B, C_i, h_i, w_i)``, none larger than ``size`` → ``(B, C_1 + C_2 + … or width, *size)``."""
        if self.reductions is None:
            # Resized first, as statistics are those of the cells that are joined.
            return torch.cat([norm(resize(each, size)) for norm, each in zip(self.norms, maps, strict=True)], dim=1)
        parts = zip(self.norms, self.reductions, maps, strict=True)
        return torch.stack([resize(reduce(norm(each)), size) for norm, reduce, each in parts]).sum(dim=0)


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
