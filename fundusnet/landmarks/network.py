"""The network: maps of a backbone at several strides, joined, and a score of each cell for each point."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fundusnet.config.ranges import Count
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.networks.backbones import bare_backbone, load_weights
from fundusnet.networks.freezing import Freeze, freeze_layers, frozen_to_eval
from fundusnet.networks.normalize import Normalize
from fundusnet.networks.scales import JoinedMaps, Scales


class LandmarkNetwork(nn.Module):
    """Scores every cell of a map, and "not in the picture", for optic disc and fovea.

    Args:
        backbone: Name of a timm network.
        pretrained: Use ImageNet weights, see ``fundusnet.networks.backbones.load_weights``.
        weights: File with weights of the backbone; takes precedence over ``pretrained``.
        strides: Its feature maps to join, by the pixels that a cell covers.
        map_stride: The one of them whose cells are scored.
        width: Channels of the joined map.
        dilations: A 3x3 convolution for each, one after the other: how far the surroundings of a cell count.
        freeze: First layers of the backbone that are not trained, or ``all``.
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        pretrained: bool = False,
        weights: str | None = None,
        strides: Sequence[Count] = (4, 8, 16, 32),
        map_stride: Count = 8,
        width: Count = 64,
        dilations: Sequence[Count] = (1, 2, 4, 1),
        freeze: Freeze = 0,
    ) -> None:
        super().__init__()
        self.backbone = bare_backbone(backbone)
        self.normalize = Normalize(self.backbone, "backbone")
        self.scales = Scales(self.backbone, backbone, strides, map_stride)
        self.initial_weights = load_weights([self.backbone], backbone, pretrained, weights)
        self.scales.prune(self.backbone)
        freeze_layers(self.backbone, freeze)
        self.frozen = freeze == "all"
        self.extracted = f"strides {list(strides)} pooled to {map_stride}"
        self.join = JoinedMaps(self.scales.channels, width)
        self.rectify = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.context = nn.Sequential(*(_Dilated(width, rate) for rate in dilations))
        self.cells = nn.Conv2d(width, len(LANDMARKS), kernel_size=1)
        self.nowhere = nn.Linear(width, len(LANDMARKS))

    def train(self, mode: bool = True) -> LandmarkNetwork:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        frozen_to_eval([self.backbone])
        return self

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, S, S)`` in [0, 1] → logits ``(B, 2, h * w + 1)`` of disc and fovea, "not in the picture" last."""
        return self.decide(self.extract(image))

    def extract(self, image: Tensor) -> list[Tensor]:
        """``(B, 3, S, S)`` in [0, 1] → feature maps ``(B, C_i, h_i, w_i)``, none larger than the map of scores."""
        return self.scales.pooled(self.scales(self.backbone, self.normalize(image)), "max")

    def decide(self, maps: Sequence[Tensor]) -> Tensor:
        """What ``extract`` returned → logits ``(B, 2, h * w + 1)``."""
        features = self.context(self.rectify(self.join(maps, self.scales.size(maps))))
        nowhere: Tensor = self.nowhere(features.mean(dim=(2, 3)))
        return torch.cat([self.cells(features).flatten(2), nowhere[..., None]], dim=-1)


class _Dilated(nn.Module):
    """A dilated convolution, added to the input."""

    def __init__(self, width: int, rate: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.body(x)
        return x + added
