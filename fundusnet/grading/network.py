"""The network of a stage: a backbone, global average pooling and a classifier, once or K-1 times (S2.2, S2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from fundusnet.config.ranges import Count, Share
from fundusnet.errors import UserError
from fundusnet.grading.cam import class_activation_maps
from fundusnet.grading.ranking import HEADS
from fundusnet.networks.backbones import bare_backbone, load_weights
from fundusnet.networks.normalize import Normalize
from fundusnet.networks.scales import Scales, resize_keeping_mean


class GradingNetwork(nn.Module):
    """Grades pictures with one of four heads; a ranking has K-1 sub-classifiers, each with its own backbone.

    Args:
        classes: Number K of ordered grades.
        head: ``ranking`` (the paper's), ``multiclass``, ``coral`` or ``corn``; see ``fundusnet.grading.ranking``.
        backbone: Name of a convolutional network of timm.
        cam_stride: Pixels that a cell of the last features covers, 16 or 32. At 16 the last halving is left out and
            what follows is dilated by 2; the parameters stay the same. Our reading: the paper's maps are 32x32 at 512
            pixels. With ``strides`` it is the one of them that activation maps have, and nothing is dilated.
        hidden: None for a linear classifier after the pooling (stage 1, has activation maps), or the width of the layer
            before it (stage 2: 2048, with batch-norm, ReLU and dropout; no activation maps).
        dropout: Rate after the hidden layer.
        pretrained: Start from ImageNet weights; where none are available, from random ones, with a warning.
        weights: File with weights of the backbone to start from; takes precedence over ``pretrained``.
        strides: Strides of the feature maps that are pooled and concatenated before the classifier, for example
            ``[8, 16, 32]``; None = the last map only.

    Attributes:
        members: The K-1 sub-classifiers of a ranking, a single member for the other heads.
        initial_weights: What the backbones started from, in words.

    Raises:
        UserError: Unknown head or backbone, a backbone without maps of such a stride, an unfit file of weights.
    """

    def __init__(
        self,
        classes: int,
        head: Literal["ranking", "multiclass", "coral", "corn"] = "ranking",
        backbone: str = "densenet121",
        cam_stride: Literal[8, 16, 32] = 16,
        hidden: Count | None = None,
        dropout: Share = 0.5,
        pretrained: bool = False,
        weights: str | None = None,
        strides: Sequence[Count] | None = None,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise UserError(f"grading needs at least 2 grades, not {classes}; give the data more")
        if head not in HEADS:
            raise UserError(f"unknown model.network.head={head}; choose one of {', '.join(HEADS)}")
        self.classes, self.head, self.hidden = classes, head, hidden
        outputs = {"ranking": 2, "multiclass": classes}.get(head, classes - 1)
        count = classes - 1 if head == "ranking" else 1
        members = []
        for _ in range(count):
            if strides is None:
                net, scales = make_backbone(backbone, cam_stride), None
            else:
                net = bare_backbone(backbone)
                scales = Scales(net, backbone, strides, None if hidden else cam_stride)
            members.append(SubClassifier(net, scales, outputs, hidden, dropout, shared=head == "coral"))
        self.members = nn.ModuleList(members)
        self.normalize = Normalize(members[0].backbone)
        self.initial_weights = load_weights([member.backbone for member in members], backbone, pretrained, weights)
        for member in members:
            if member.scales is not None:
                member.scales.prune(member.backbone)

    @property
    def has_maps(self) -> bool:
        """Whether there are class activation maps: they need a linear classifier after the pooling."""
        return self.hidden is None

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] → logits: ``(B, K-1, 2)`` of a ranking, else ``(B, K)`` or ``(B, K-1)``."""
        normalised = self.normalize(image)
        return self._join([member(normalised) for member in self.members])

    def with_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and class activation maps of ``(B, 3, H, W)`` in [0, 1], from one pass.

        Maps are ``(B, K, h, w)`` of a K-way softmax, else ``(B, K-1, 2, h, w)``, no and yes.

        Raises:
            UserError: The classifier has a hidden layer.
        """
        if not self.has_maps:
            raise UserError(f"a network with a hidden layer ({self.hidden}) has no activation maps; use hidden=null")
        normalised = self.normalize(image)
        logits, maps = [], []
        for member in cast(Iterable[SubClassifier], self.members):
            features = member.features(normalised)
            logits.append(member.classify(features))
            maps.append(member.class_maps(features))
        if self.head == "ranking":
            return self._join(logits), torch.stack(maps, dim=1)
        if self.head == "multiclass":
            return logits[0], maps[0]
        # A sigmoid of z is a 2-way softmax of -z/2 and z/2. CORAL's K-1 maps are equal because its weights are.
        half = maps[0].expand(-1, self.classes - 1, -1, -1) / 2
        return logits[0], torch.stack([-half, half], dim=2)

    def _join(self, logits: list[Tensor]) -> Tensor:
        return torch.stack(logits, dim=1) if self.head == "ranking" else logits[0]


class SubClassifier(nn.Module):
    """Backbone → global average pooling → linear layer, or → hidden layer, batch-norm, ReLU, dropout → linear layer.

    With ``scales`` the pooled features of several strides are concatenated before the first linear layer.
    """

    def __init__(
        self, backbone: nn.Module, scales: Scales | None, outputs: int, hidden: int | None, dropout: float, shared: bool
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.scales = scales
        self.channels = [int(backbone.num_features)] if scales is None else scales.channels  # type: ignore[arg-type]
        width = sum(self.channels)
        self.hidden: nn.Module = nn.Identity()
        if hidden is not None:
            self.hidden = nn.Sequential(
                nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)
            )
        # CORAL: one weight vector and a bias for each threshold, falling from the first to the last.
        self.classifier = nn.Linear(hidden or width, 1 if shared else outputs, bias=not shared)
        self.thresholds = nn.Parameter(torch.linspace(1, 1 / outputs, outputs)) if shared else None

    def forward(self, normalised: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` → logits ``(B, outputs)``."""
        return self.classify(self.features(normalised))

    def features(self, normalised: Tensor) -> list[Tensor]:
        """Normalised ``(B, 3, H, W)`` → features ``(B, C, h, w)``: the last ones, or one for each stride."""
        if self.scales is None:
            return [self.backbone.forward_features(normalised)]  # type: ignore[operator]
        maps: list[Tensor] = self.scales(self.backbone, normalised)
        return maps

    def classify(self, features: Sequence[Tensor]) -> Tensor:
        """``features`` → logits ``(B, outputs)``."""
        pooled = torch.cat([each.mean(dim=(2, 3)) for each in features], dim=1)
        logits: Tensor = self.classifier(self.hidden(pooled))
        return logits if self.thresholds is None else logits + self.thresholds

    def class_maps(self, features: Sequence[Tensor]) -> Tensor:
        """``features`` → class activation maps ``(B, outputs, h, w)``, ``(B, 1, h, w)`` of CORAL.

        The logit is linear in the pooled features of each stride, so the map is the sum of a map for each, brought to
        one size. The mean of the sum plus the bias is still the logit.
        """
        weights = torch.split(self.classifier.weight, self.channels, dim=1)
        maps = [class_activation_maps(each, weight) for each, weight in zip(features, weights, strict=True)]
        if self.scales is None:
            return maps[0]
        size = self.scales.size(maps)
        return torch.stack([resize_keeping_mean(each, size) for each in maps]).sum(dim=0)


def make_backbone(name: str, cam_stride: int = 32) -> nn.Module:
    """A timm network with random weights: ``forward_features`` is ``(B, 3, H, W)`` → ``(B, C, H/stride, W/stride)``.

    Raises:
        UserError: timm has no such network, or the network has no such stride.
    """
    from timm.models.densenet import DenseNet

    if cam_stride not in (16, 32):
        raise UserError(f"model.network.cam_stride={cam_stride} is not possible; use 16 or 32")
    backbone = bare_backbone(name)
    unfit = UserError(
        f"model.network.backbone={name} has no convolutional feature maps of stride {cam_stride}; "
        f"use {'cam_stride=32 or ' if cam_stride == 16 else ''}another backbone"
    )
    if cam_stride == 16 and isinstance(backbone, DenseNet):
        _dilate_last_block(backbone)
    elif cam_stride == 16:
        try:
            backbone = bare_backbone(name, output_stride=16)
        except (TypeError, AssertionError) as error:  # what timm's networks raise for an option they lack
            raise unfit from error
    # Transformers have channels last, or a sequence of tokens, or a single size of picture.
    try:
        with torch.no_grad():
            shape = backbone.eval().forward_features(torch.zeros(1, 3, 128, 128)).shape
    except (RuntimeError, AssertionError) as error:
        raise unfit from error
    if len(shape) != 4 or shape[1] != backbone.num_features or backbone.feature_info[-1]["reduction"] != cam_stride:
        raise unfit
    module: nn.Module = backbone.train()
    return module


def _dilate_last_block(densenet: Any) -> None:
    """Stride 32 → 16: the last transition does not pool, and the last block's 3x3 convolutions are dilated by 2."""
    features = densenet.features
    blocks = [child for child in features._modules if child.startswith("denseblock")]
    getattr(features, f"transition{len(blocks) - 1}").pool = nn.Identity()
    for module in getattr(features, blocks[-1]).modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation = module.padding = (2, 2)
    densenet.feature_info[-1]["reduction"] = 16
