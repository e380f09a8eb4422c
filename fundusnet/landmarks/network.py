"""The network: maps of a backbone at several strides, joined, and a score of each cell for each point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from fundusnet.config.ranges import Count
from fundusnet.landmarks.close_up import CloseUpHead, check_close_strides
from fundusnet.landmarks.heatmap import PointHead
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.networks.backbones import bare_backbone, load_weights
from fundusnet.networks.freezing import Freeze, freeze_layers, frozen_to_eval
from fundusnet.networks.normalize import Normalize
from fundusnet.networks.scales import Scales


class LandmarkNetwork(PointHead):
    """Scores every cell of a map, and "not in the picture", for optic disc and fovea; looks at each closely, if asked.

    Args:
        backbone: Name of a timm network.
        pretrained: Use ImageNet weights, see ``fundusnet.networks.backbones.load_weights``.
        weights: File with weights of the backbone; takes precedence over ``pretrained``.
        shrink: The picture is averaged down by this factor before the backbone sees it; close-ups are cut before.
        strides: Its feature maps to join, by the pixels of the smaller picture that a cell covers.
        map_stride: The one of them whose cells are scored.
        width: Channels of the joined map.
        dilations: A 3x3 convolution for each, one after the other: how far the surroundings of a cell count.
        close_up: Arguments of ``CloseUpHead`` but for the backbone; None = no close look.
        freeze: First layers of the backbone that are not trained, or ``all``.

    Raises:
        UserError: The backbone has no maps of these strides, or close-ups need deeper ones than the picture.
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        pretrained: bool = False,
        weights: str | None = None,
        shrink: Count = 1,
        strides: Sequence[Count] = (4, 8, 16, 32),
        map_stride: Count = 8,
        width: Count = 64,
        dilations: Sequence[Count] = (1, 2, 4, 1),
        close_up: Mapping[str, Any] | None = None,
        freeze: Freeze = 0,
    ) -> None:
        whole = bare_backbone(backbone)
        scales = Scales(whole, backbone, strides, map_stride)
        super().__init__(scales.channels, width, dilations, len(LANDMARKS))
        self.backbone, self.scales, self.shrink = whole, scales, int(shrink)
        self.normalize = Normalize(self.backbone, "backbone")
        self.close_up = CloseUpHead(whole, backbone, **close_up) if close_up else None
        self.initial_weights = load_weights([self.backbone], backbone, pretrained, weights)
        if self.close_up is not None:
            check_close_strides(self.close_up.scales, scales)
        self.scales.prune(self.backbone)
        freeze_layers(self.backbone, freeze)
        self.frozen = freeze == "all"
        self.extracted = f"strides {list(strides)} pooled to {map_stride}"
        if shrink > 1:
            self.extracted += f", shrunk by {shrink}"
        if self.close_up is not None:
            self.extracted += f"; {self.close_up.extracted}"

    def train(self, mode: bool = True) -> LandmarkNetwork:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        frozen_to_eval([self.backbone])
        return self

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, S, S)`` in [0, 1] → logits ``(B, 2, h * w + 1)`` of disc and fovea, "not in the picture" last."""
        return self.decide(self.maps(image))

    def extract(self, image: Tensor, points: Tensor | None = None, radius: Tensor | None = None) -> list[Tensor]:
        """What a frozen backbone gives of a picture and, if the network looks closely, of close-ups.

        Args:
            image: ``(B, 3, S, S)`` in [0, 1].
            points, radius: Of the close-ups, as ``CloseUpHead.cut`` takes them; None = around the middle.

        Returns:
            Maps ``(B, C_i, h_i, w_i)``, none larger than the map of scores; then those of close-ups
            ``(B, 2, C_j, h_j, w_j)``.
        """
        if self.close_up is None:
            return self.maps(image)
        if points is None or radius is None:
            size = image.shape[-1]
            points = image.new_full((len(image), len(LANDMARKS), 2), (size - 1) / 2)
            radius = image.new_full((len(image),), size / 12)
        return [*self.maps(image), *self.close_maps(image, points, radius)]

    def maps(self, image: Tensor) -> list[Tensor]:
        """``(B, 3, S, S)`` in [0, 1] → feature maps ``(B, C_i, h_i, w_i)``, none larger than the map of scores."""
        small = functional.avg_pool2d(image, self.shrink) if self.shrink > 1 else image
        return self.scales.pooled(self.scales(self.backbone, self.normalize(small)), "max")

    def close_maps(self, image: Tensor, points: Tensor, radius: Tensor) -> list[Tensor]:
        """Feature maps of close-ups, ``(B, 2, C_i, h_i, w_i)``; arguments as ``CloseUpHead.cut`` takes them."""
        assert self.close_up is not None
        close = self.close_up.cut(image, points, radius).flatten(0, 1)
        maps = self.close_up.scales(self.backbone, self.normalize(close))
        return [each.reshape(*points.shape[:2], *each.shape[1:]) for each in self.close_up.scales.pooled(maps, "max")]

    def decide(self, maps: Sequence[Tensor]) -> Tensor:
        """What ``maps`` or ``extract`` returned → logits ``(B, 2, h * w + 1)`` of the whole picture."""
        own = maps[: len(self.scales.channels)]
        return self.score(own, self.scales.size(own))

    def decide_close(self, maps: Sequence[Tensor]) -> Tensor:
        """What ``extract`` returned → logits ``(B, 2, h * w + 1)`` of the close-ups."""
        assert self.close_up is not None
        return self.close_up.decide_close(maps[len(self.scales.channels) :])
