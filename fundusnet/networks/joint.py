"""Several backbones as one, each seeing the image: their maps of a stride side by side.

``model.network.backbone=NAME+NAME`` asks for it. Networks of different depth and width find different things, so a
classifier that learns from the frozen features of several does better than from those of any one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fundusnet.errors import UserError
from fundusnet.networks.scales import resize


class JointBackbone(nn.Module):
    """What this package uses of a timm network, of several.

    Args:
        name: Their names, joined by ``+``, for messages.
        parts: Networks of timm, as ``fundusnet.networks.backbones.bare_backbone`` makes them.

    Attributes:
        feature_info: The strides that all have, and the sum of their channels.
        num_features: The sum of the channels of their last maps.
        pretrained_cfg: With the normalisation that all expect.

    Raises:
        UserError: They expect different normalisations, have no maps, or no stride in common.
    """

    def __init__(self, name: str, parts: Sequence[Any]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        if not all(hasattr(part, "forward_intermediates") for part in parts):
            raise UserError(f"model.network.backbone={name} cannot be joined: one of them has no feature maps")
        if len({(tuple(part.pretrained_cfg["mean"]), tuple(part.pretrained_cfg["std"])) for part in parts}) > 1:
            raise UserError(
                f"model.network.backbone={name} cannot be joined: they expect pictures of different mean and "
                "deviation; choose networks of one family"
            )
        levels = [{level["reduction"]: number for number, level in enumerate(part.feature_info)} for part in parts]
        strides = [stride for stride in levels[0] if all(stride in each for each in levels)]
        if not strides:
            raise UserError(f"model.network.backbone={name} cannot be joined: they have no stride in common")
        self._levels = [[each[stride] for stride in strides] for each in levels]
        self.feature_info = [
            {
                "reduction": stride,
                "num_chs": sum(part.feature_info[own[number]]["num_chs"] for part, own in self._with_levels()),
            }
            for number, stride in enumerate(strides)
        ]
        self.num_features = sum(int(part.num_features) for part in parts)
        self.pretrained_cfg = dict(parts[0].pretrained_cfg)

    def forward_intermediates(self, image: Tensor, indices: Sequence[int], **options: Any) -> list[Tensor]:
        """Maps of some levels of ``feature_info``, the first layer first; ``options`` are timm's."""
        of_parts = [
            part.forward_intermediates(image, indices=[own[index] for index in indices], **options)
            for part, own in self._with_levels()
        ]
        return [side_by_side(maps) for maps in zip(*of_parts, strict=True)]

    def prune_intermediate_layers(self, indices: Sequence[int], **options: Any) -> None:
        """Remove what comes after the last of some levels; ``options`` are timm's."""
        for part, own in self._with_levels():
            part.prune_intermediate_layers([own[index] for index in indices], **options)

    def _with_levels(self) -> Iterator[tuple[Any, list[int]]]:
        """Each network, and which of its levels those of ``feature_info`` are."""
        return zip(cast(Sequence[Any], self.parts), self._levels, strict=True)


def short_name(name: str) -> str:
    """What tables call ``name``: ``net_lite0+net_lite1`` is ``net_lite0+1``."""
    first, *others = name.split("+")
    stem = first.rstrip("0123456789")
    return "+".join([first, *(end if (end := other.removeprefix(stem)).isdigit() else other for other in others)])


def side_by_side(maps: Sequence[Tensor]) -> Tensor:
    """Maps ``(B, C_i, h_i, w_i)`` → ``(B, C_1 + C_2 + …, h_1, w_1)``."""
    size = (int(maps[0].shape[-2]), int(maps[0].shape[-1]))
    return torch.cat([resize(each, size) for each in maps], dim=1)
