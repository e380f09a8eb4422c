"""The network of a stage: a backbone, global average pooling and a classifier, once or K-1 times (S2.2, S2.3)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from fundusnet.config.ranges import Count, NonNegativeInt, Share
from fundusnet.errors import UserError
from fundusnet.grading.cam import class_activation_maps
from fundusnet.grading.ranking import DECISIONS, HEADS, Decision, usual_decision
from fundusnet.networks.backbones import bare_backbone, is_transformer, last_map, load_weights
from fundusnet.networks.freezing import freeze_layers, frozen_to_eval
from fundusnet.networks.normalize import Normalize
from fundusnet.networks.scales import Scales, resize_keeping_mean

log = logging.getLogger(__name__)

Pooled = Literal["mean", "mean_std", "mean_std_correlation"]

_CORRELATED_CHANNELS = 128  # at most; C channels have C (C - 1) / 2 correlations


class _Pooling(NamedTuple):
    statistics: Pooled
    standardize: bool | Literal["maps"]


class GradingNetwork(nn.Module):
    """Grades pictures with one of four heads; a ranking has K-1 sub-classifiers, each with its own backbone.

    Args:
        classes: Number K of ordered grades.
        head: ``ranking`` (the paper's), ``multiclass``, ``coral`` or ``corn``; see ``fundusnet.grading.ranking``.
        backbone: Name of a convolutional network of timm, or of several, joined by ``+``.
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
        pooling: ``mean`` over the cells of a map; ``mean_std``, their deviation too; ``mean_std_correlation``, and for
            maps of at most 128 channels how each two of them correlate over the cells, which describes texture (a
            warning where no map has so few). There are activation maps of the mean only.
        standardize: Bring the pooled features to zero mean and unit deviation over the training images. ``maps``: and
            then weight them so that each map counts the same, however many channels it has. Early layers have few.
        shrink: The backbone sees the picture averaged down by each of these factors, and all features are concatenated.
        freeze, freeze_batch_norm: As in ``fundusnet.findings.network.GuidedTimm``.
        decision: How a grade follows from the probabilities: ``count``, how many of them exceed 0.5 (the paper's), or
            ``most_probable``; see ``fundusnet.grading.ranking.grade_of``. None = that of the head.

    Attributes:
        members: The K-1 sub-classifiers of a ranking, a single member for the other heads.
        initial_weights: What the backbones started from, in words.
        frozen: Whether nothing of the backbones is trained, so that ``extract`` always returns the same for an image.
        extracted: What determines it besides the weights, in words.

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
        pooling: Pooled = "mean",
        standardize: bool | Literal["maps"] = False,
        shrink: Sequence[Count] = (1,),
        freeze: NonNegativeInt | Literal["all"] = 0,
        freeze_batch_norm: bool = False,
        decision: Literal["count", "most_probable"] | None = None,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise UserError(f"grading needs at least 2 grades, not {classes}; give the data more")
        if head not in HEADS:
            raise UserError(f"unknown model.network.head={head}; choose one of {', '.join(HEADS)}")
        if strides is None and list(shrink) != [1]:
            raise UserError(f"model.network.shrink={list(shrink)} needs model.network.strides; name them")
        if decision not in (None, *DECISIONS):
            raise UserError(f"unknown model.network.decision={decision}; choose one of {', '.join(DECISIONS)}, or null")
        self.classes, self.head = classes, head
        self.decision: Decision = decision or usual_decision(head)
        self.has_maps = hidden is None and pooling == "mean"
        outputs = {"ranking": 2, "multiclass": classes}.get(head, classes - 1)
        count = classes - 1 if head == "ranking" else 1
        members = []
        for number in range(count):
            if number and freeze == "all":
                pass  # of backbones that never change one is enough
            elif strides is None:
                net, scales = make_backbone(backbone, cam_stride), None
            else:
                net = bare_backbone(backbone)
                # Which map the others are brought to matters for activation maps only.
                scales = Scales(net, backbone, strides, None if hidden or pooling != "mean" else cam_stride, shrink)
            pool = _Pooling(pooling, standardize)
            members.append(SubClassifier(net, scales, pool, outputs, hidden, dropout, shared=head == "coral"))
        if pooling == "mean_std_correlation" and min(members[0].channels) > _CORRELATED_CHANNELS:
            log.warning(
                "%s has no map of at most %d channels in model.network.strides: no correlations",
                backbone,
                _CORRELATED_CHANNELS,
            )
        self.members = nn.ModuleList(members)
        self.normalize = Normalize(members[0].backbone)
        self.initial_weights = load_weights([member.backbone for member in members], backbone, pretrained, weights)
        for member in members[:1] if freeze == "all" else members:
            if member.scales is not None:
                member.scales.prune(member.backbone)
            freeze_layers(member.backbone, freeze)
        self.frozen, self.freeze_batch_norm = freeze == "all", freeze_batch_norm
        self.extracted = repr((backbone, strides and list(strides), None if strides else cam_stride, pooling))
        if list(shrink) != [1]:
            self.extracted += f", shrunk by {list(shrink)}"

    def train(self, mode: bool = True) -> GradingNetwork:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        frozen_to_eval([member.backbone for member in self._members()], self.freeze_batch_norm)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] → logits: ``(B, K-1, 2)`` of a ranking, else ``(B, K)`` or ``(B, K-1)``."""
        return self.decide(self.extract(image))

    def extract(self, image: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` in [0, 1] → pooled features ``(B, D)`` of each member, or once if all share a backbone."""
        normalised = self.normalize(image)
        own = self._members()[:1] if self.frozen else self._members()
        return [member.pool(member.features(normalised)) for member in own]

    def decide(self, pooled: Sequence[Tensor]) -> Tensor:
        """What ``extract`` returned → logits as of ``forward``."""
        members = self._members()
        each = pooled if len(pooled) == len(members) else [pooled[0]] * len(members)
        return self._join([member.classify(own) for member, own in zip(members, each, strict=True)])

    def with_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and class activation maps of ``(B, 3, H, W)`` in [0, 1], from one pass.

        Maps are ``(B, K, h, w)`` of a K-way softmax, else ``(B, K-1, 2, h, w)``, no and yes.

        Raises:
            UserError: The classifier has a hidden layer.
        """
        if not self.has_maps:
            raise UserError(
                "a network with a hidden layer or another pooling than the mean has no activation maps; "
                "use hidden=null pooling=mean"
            )
        normalised = self.normalize(image)
        logits, maps = [], []
        for member, features in self._features(normalised):
            logits.append(member.classify(member.pool(features)))
            maps.append(member.class_maps(features))
        if self.head == "ranking":
            return self._join(logits), torch.stack(maps, dim=1)
        if self.head == "multiclass":
            return logits[0], maps[0]
        # A sigmoid of z is a 2-way softmax of -z/2 and z/2. CORAL's K-1 maps are equal because its weights are.
        half = maps[0].expand(-1, self.classes - 1, -1, -1) / 2
        return logits[0], torch.stack([-half, half], dim=2)

    def _features(self, normalised: Tensor) -> Iterator[tuple[SubClassifier, list[Tensor]]]:
        """Each member and its features; those of a backbone that members share are computed once."""
        # One after another: under vmap a step of two takes 1.6 to 3.7 times as long (benchmarks/training_step.py).
        last, features = None, list[Tensor]()
        for member in self._members():
            if member.backbone is not last:
                last, features = member.backbone, member.features(normalised)
            yield member, features

    def _members(self) -> Sequence[SubClassifier]:
        return cast(Sequence[SubClassifier], self.members)

    def _join(self, logits: list[Tensor]) -> Tensor:
        return torch.stack(logits, dim=1) if self.head == "ranking" else logits[0]


class SubClassifier(nn.Module):
    """Backbone → global average pooling → linear layer, or → hidden layer, batch-norm, ReLU, dropout → linear layer.

    With ``scales`` the pooled features of several maps are concatenated before the first linear layer.
    """

    shares: Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        scales: Scales | None,
        pooling: _Pooling,
        outputs: int,
        hidden: int | None,
        dropout: float,
        shared: bool,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.scales = scales
        self.channels = [int(backbone.num_features)] if scales is None else scales.channels  # type: ignore[arg-type]
        self.statistics = pooling.statistics
        pooled = self.channels * (1 if self.statistics == "mean" else 2)
        if self.statistics == "mean_std_correlation":
            pooled += [each * (each - 1) // 2 for each in self.channels if each <= _CORRELATED_CHANNELS]
        width = sum(pooled)
        self.standardize = nn.BatchNorm1d(width, affine=False) if pooling.standardize else None
        shares = torch.cat([torch.full((each,), (width / len(pooled) / each) ** 0.5) for each in pooled])
        self.register_buffer("shares", shares if pooling.standardize == "maps" else None, persistent=False)
        self.hidden: nn.Module = nn.Identity()
        if hidden is not None:
            self.hidden = nn.Sequential(
                nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)
            )
        # CORAL: one weight vector and a bias for each threshold, falling from the first to the last.
        self.classifier = nn.Linear(hidden or width, 1 if shared else outputs, bias=not shared)
        self.thresholds = nn.Parameter(torch.linspace(1, 1 / outputs, outputs)) if shared else None

    def features(self, normalised: Tensor) -> list[Tensor]:
        """Normalised ``(B, 3, H, W)`` → features ``(B, C, h, w)``: the last ones, or those of ``scales``."""
        if self.scales is None:
            return [last_map(self.backbone, normalised)]
        maps: list[Tensor] = self.scales(self.backbone, normalised)
        return maps

    def pool(self, features: Sequence[Tensor]) -> Tensor:
        """``features`` → ``(B, D)``: the means of all channels, then deviations and correlations if asked for."""
        pooled = [each.mean(dim=(2, 3)) for each in features]
        if self.statistics != "mean":
            pooled += [each.flatten(2).std(dim=2, correction=0) for each in features]
        if self.statistics == "mean_std_correlation":
            pooled += [correlations(each) for each in features if each.shape[1] <= _CORRELATED_CHANNELS]
        return torch.cat(pooled, dim=1)

    def classify(self, pooled: Tensor) -> Tensor:
        """``(B, D)`` of ``pool`` → logits ``(B, outputs)``."""
        if self.standardize is not None:
            pooled = self.standardize(pooled)
        if self.shares is not None:
            pooled = pooled * self.shares
        logits: Tensor = self.classifier(self.hidden(pooled))
        return logits if self.thresholds is None else logits + self.thresholds

    def class_maps(self, features: Sequence[Tensor]) -> Tensor:
        """``features`` → class activation maps ``(B, outputs, h, w)``, ``(B, 1, h, w)`` of CORAL.

        The logit is linear in the pooled features of each map, so the activation map is the sum of one for each,
        brought to one size. The mean of the sum differs from the logit by a constant: the bias, and what is subtracted
        from standardised features.
        """
        weight = self.classifier.weight
        if self.shares is not None:
            weight = weight * self.shares
        if self.standardize is not None:
            variance = cast(Tensor, self.standardize.running_var)
            weight = weight / (variance + self.standardize.eps).sqrt()
        weights = torch.split(weight, self.channels, dim=1)
        maps = [class_activation_maps(each, weight) for each, weight in zip(features, weights, strict=True)]
        if self.scales is None:
            return maps[0]
        size = self.scales.size(maps)
        return torch.stack([resize_keeping_mean(each, size) for each in maps]).sum(dim=0)


def correlations(features: Tensor) -> Tensor:
    """``(B, C, h, w)`` → ``(B, C (C - 1) / 2)``: correlation over the cells of channels 0 and 1, 0 and 2, …

    A channel that is the same everywhere correlates with none.
    """
    cells = features.flatten(2)
    # Divided before they are multiplied: the sum over the cells of a large map overflows float16.
    length = (cells.std(dim=2, correction=0, keepdim=True) + 1e-3) * cells.shape[2] ** 0.5
    unit = (cells - cells.mean(dim=2, keepdim=True)) / length
    matrix: Tensor = unit @ unit.transpose(1, 2)
    first, second = torch.triu_indices(cells.shape[1], cells.shape[1], offset=1, device=cells.device)
    return matrix[:, first, second]


def make_backbone(name: str, cam_stride: int = 32) -> nn.Module:
    """A timm network with random weights whose last map, as ``last_map`` gives it, has cells of ``cam_stride`` pixels.

    A transformer has one size of cells, its patches; ``cam_stride`` does not change it.

    Raises:
        UserError: timm has no such network, or the network has no such stride.
    """
    from timm.models.densenet import DenseNet

    if cam_stride not in (16, 32):
        raise UserError(f"model.network.cam_stride={cam_stride} is not possible; use 16 or 32")
    backbone = bare_backbone(name)
    unfit = UserError(
        f"model.network.backbone={name} has no feature maps of stride {cam_stride}; "
        f"use {'cam_stride=32 or ' if cam_stride == 16 else ''}another backbone"
    )
    if is_transformer(backbone):
        return cast(nn.Module, backbone)
    if cam_stride == 16 and isinstance(backbone, DenseNet):
        _dilate_last_block(backbone)
    elif cam_stride == 16:
        try:
            backbone = bare_backbone(name, output_stride=16)
        except (TypeError, AssertionError) as error:  # what timm's networks raise for an option they lack
            raise unfit from error
    # Some have channels last, or a single size of image.
    try:
        with torch.no_grad():
            shape = last_map(backbone.eval(), torch.zeros(1, 3, 128, 128)).shape
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
