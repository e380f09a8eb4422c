"""Networks whose activation map and prediction come from the same logits (S1.3), and the paper's baseline.

Every network here maps ``(B, 3, H, W)`` in [0, 1] to a logit map ``(B, F, h, w)`` and logits ``(B, F)``. The
sigmoid of the map is the activation map, that of the logits the probability.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fundusnet.config.ranges import Count, NonNegativeInt, Share
from fundusnet.errors import UserError
from fundusnet.networks.backbones import bare_backbone, last_map, load_weights
from fundusnet.networks.freezing import freeze_layers, frozen_to_eval
from fundusnet.networks.normalize import Normalize
from fundusnet.networks.scales import Downsampling, JoinedMaps, Scales

#: activation of every cell before training, of maps whose highest cells decide
RARE = 0.02


class GuidedCAM(nn.Module):
    """The regionally guided network (S1.3).

    Args:
        findings: Number F of findings; each has its own pyramid and 1x1 head over one trunk.
        dilations: Rates of the atrous pyramid, one list for all findings or one list each.
        pool: Size of the max-pooling between map and mean, one for all or one each; 1 = none.
        width: Channels of the first reduction layer; doubled at each halving, up to ``max_width``.
        max_width: Channels where the doubling ends.
        reductions: Halvings; the map is ``H / 2**reductions``.
        residual_units: Pre-activation units after each reduction layer.
        pyramid_width: Channels of each atrous branch.
        top_share: Share of the map's cells, at least one, whose mean is the logit: those with the highest values. Takes
            precedence over ``pool``; None = ``pool`` decides.
    """

    initial_weights = "random"

    def __init__(
        self,
        findings: Count = 1,
        dilations: Sequence[Count] | Sequence[Sequence[Count]] = (1, 2),
        pool: Count | Sequence[Count] = 4,
        width: Count = 16,
        max_width: Count = 256,
        reductions: Count = 5,
        residual_units: NonNegativeInt = 1,
        pyramid_width: Count = 32,
        top_share: Share | None = None,
    ) -> None:
        super().__init__()
        widths = [min(width * 2**i, max_width) for i in range(reductions)]
        self.reductions = nn.ModuleList(_reduction(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.residuals = nn.ModuleList(
            nn.Sequential(*(_ResidualUnit(channels) for _ in range(residual_units))) for channels in widths
        )
        # The outputs of the first four reduction layers join the last residual layer.
        self.joined = min(4, reductions)
        channels = sum(widths[: self.joined]) + widths[-1]
        self.heads = _make_heads(findings, channels, dilations, pool, pyramid_width, top_share)
        self.apply(_init_xavier)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` in [0, 1] → logit map ``(B, F, h, w)``, logit ``(B, F)``."""
        joined, x = [], image
        for number, (reduction, residual) in enumerate(zip(self.reductions, self.residuals, strict=True)):
            x = reduction(x)
            if number < self.joined:
                joined.append(x)
            x = residual(x)
        size = (int(x.shape[-2]), int(x.shape[-1]))
        features = torch.cat([*(functional.adaptive_avg_pool2d(y, size) for y in joined), x], dim=1)
        return _apply_heads(self.heads, features)


class GuidedTimm(nn.Module):
    """The same guided head over feature maps of any timm backbone: the last one, or several joined as in S1.3.

    Args:
        backbone: Name of a timm network, a convolutional one or a transformer, or of several, joined by ``+``.
        findings: As in ``GuidedCAM``; so are ``pool``, ``pyramid_width`` and ``top_share``.
        dilations: As in ``GuidedCAM``; none = no pyramid, so that a cell's value depends on the features of this cell
            alone: a hidden layer of ``reduction`` channels, or without it a linear layer.
        pretrained: Start from ImageNet weights; see ``fundusnet.networks.backbones.load_weights``.
        weights: File with weights of the backbone; takes precedence over ``pretrained``.
        strides: Strides of the feature maps that are joined, for example ``[8, 16, 32]``; None = the last map only.
        map_stride: The one of ``strides`` that the activation map has; None = the largest.
        shrink: The backbone sees the picture averaged down by each of these factors, and the maps of all are joined.
            The activation map has the size that ``map_stride`` has with the first one.
        downsampling: How larger maps are brought to its size: ``average`` or ``max`` pooling. Smaller ones are
            upsampled bilinearly.
        reduction: Channels that a 1x1 convolution with a ReLU brings the features to before the pyramid; None = none.
        mean_std: Normalisation of the channels, see ``fundusnet.networks.normalize.Normalize``.
        freeze: First layers of the backbone that are not trained; see ``fundusnet.networks.freezing.freeze``.
        freeze_batch_norm: Keep the backbone's batch-norm statistics, also of layers that are trained.

    Attributes:
        initial_weights: What the backbone starts from, in words.
        frozen: Whether nothing of the backbone is trained, so that ``extract`` always returns the same for an image.
        extracted: What determines it besides the weights, in words.

    Raises:
        UserError: Unknown backbone, a stride that it does not have, an unfit file of weights.
    """

    def __init__(
        self,
        backbone: str,
        findings: Count = 1,
        dilations: Sequence[Count] | Sequence[Sequence[Count]] = (1, 2),
        pool: Count | Sequence[Count] = 4,
        pyramid_width: Count = 32,
        pretrained: bool = False,
        weights: str | None = None,
        strides: Sequence[Count] | None = None,
        map_stride: Count | None = None,
        shrink: Sequence[Count] = (1,),
        downsampling: Literal["average", "max"] = "average",
        reduction: Count | None = None,
        top_share: Share | None = None,
        mean_std: Literal["backbone", "imagenet"] = "backbone",
        freeze: NonNegativeInt | Literal["all"] = 0,
        freeze_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if strides is None and map_stride is not None:
            raise UserError(f"model.network.map_stride={map_stride} needs model.network.strides; name them")
        if strides is None and list(shrink) != [1]:
            raise UserError(f"model.network.shrink={list(shrink)} needs model.network.strides; name them")
        self.backbone = bare_backbone(backbone)
        self.normalize = Normalize(self.backbone, mean_std)
        self.initial_weights = load_weights([self.backbone], backbone, pretrained, weights)
        self.scales = None if strides is None else Scales(self.backbone, backbone, strides, map_stride, shrink)
        self.downsampling: Downsampling = downsampling
        channels = [int(self.backbone.num_features)]
        if self.scales is not None:
            self.scales.prune(self.backbone)
            channels = self.scales.channels
        freeze_layers(self.backbone, freeze)
        self.frozen, self.freeze_batch_norm = freeze == "all", freeze_batch_norm
        self.extracted = repr((backbone, strides and list(strides), map_stride, downsampling, mean_std))
        if list(shrink) != [1]:
            self.extracted += f", shrunk by {list(shrink)}"
        self.join = None
        if reduction is not None or self.scales is not None:
            self.join = JoinedMaps(channels, reduction)
        joined = reduction or sum(channels)
        self.rectify: nn.Module = nn.Identity()
        if reduction is not None:
            self.rectify = nn.Sequential(nn.BatchNorm2d(joined), nn.ReLU(inplace=True))
        self.heads = _make_heads(findings, joined, dilations, pool, pyramid_width, top_share)
        self.heads.apply(_init_xavier)
        if top_share is not None:
            _begin_silent(self.heads)

    def train(self, mode: bool = True) -> GuidedTimm:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        frozen_to_eval([self.backbone], self.freeze_batch_norm)
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` in [0, 1] → logit map ``(B, F, h, w)``, logit ``(B, F)``."""
        return self.decide(self.extract(image))

    def extract(self, image: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` in [0, 1] → feature maps ``(B, C_i, h_i, w_i)``, none larger than the activation map."""
        normalised = self.normalize(image)
        if self.scales is None:
            return [last_map(self.backbone, normalised)]
        return self.scales.pooled(self.scales(self.backbone, normalised), self.downsampling)

    def decide(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What ``extract`` returned → logit map ``(B, F, h, w)``, logit ``(B, F)``."""
        size = (int(maps[0].shape[-2]), int(maps[0].shape[-1])) if self.scales is None else self.scales.size(maps)
        features = maps[0] if self.join is None else self.join(maps, size)
        return _apply_heads(self.heads, self.rectify(features))


class InceptionCAM(nn.Module):
    """The paper's baseline: a classifier with global average pooling, its map read through the classifier's weights.

    The class activation map plus the bias has the logit as its mean, so map and logit share one linear layer, applied
    before pooling instead of after it; both orders give the same logit. Arguments are those of ``GuidedTimm``.
    """

    def __init__(
        self,
        backbone: str = "inception_v3",
        findings: Count = 1,
        pretrained: bool = False,
        weights: str | None = None,
        mean_std: Literal["backbone", "imagenet"] = "backbone",
    ) -> None:
        super().__init__()
        self.backbone = bare_backbone(backbone)
        self.normalize = Normalize(self.backbone, mean_std)
        self.initial_weights = load_weights([self.backbone], backbone, pretrained, weights)
        self.classifier = nn.Conv2d(int(self.backbone.num_features), findings, kernel_size=1)
        self.classifier.apply(_init_xavier)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` in [0, 1] → class activation map with bias ``(B, F, h, w)``, logit ``(B, F)``."""
        logit_map = self.classifier(self.backbone(self.normalize(image)))
        return logit_map, logit_map.mean(dim=(2, 3))


class AtrousHead(nn.Module):
    """Parallel dilated 3x3 convolutions, concatenated, and a 1x1 convolution of depth 1: one finding's logit map.

    Without dilations only the 1x1 convolution.
    """

    def __init__(
        self, channels: int, dilations: Sequence[int], pool: int, width: int, top_share: float | None = None
    ) -> None:
        super().__init__()
        self.pool, self.top_share = pool, top_share
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=rate, dilation=rate, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for rate in dilations
        )
        self.classifier = nn.Conv2d(width * len(dilations) or channels, 1, kernel_size=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)`` → logit map ``(B, 1, h, w)``, logit ``(B, 1)``."""
        if len(self.branches):
            features = torch.cat([branch(features) for branch in self.branches], dim=1)
        logit_map: Tensor = self.classifier(features)
        return logit_map, pool_logits(logit_map, self.pool, self.top_share)


def pool_logits(logit_map: Tensor, pool: int = 1, top_share: float | None = None) -> Tensor:
    """``(B, 1, h, w)`` logits → ``(B, 1)``: the mean, of max-pooled windows or of the highest cells.

    Args:
        logit_map: One finding's map.
        pool: Side of the windows; a map smaller than one is pooled as a whole.
        top_share: Share of the cells whose mean is taken, at least one; takes precedence over ``pool``.
    """
    if top_share is not None:
        cells = logit_map.flatten(2)
        return cells.topk(top_cells(int(cells.shape[-1]), top_share), dim=-1).values.mean(dim=-1)
    if pool > 1:
        logit_map = functional.max_pool2d(logit_map, min(pool, *logit_map.shape[-2:]))
    return logit_map.mean(dim=(2, 3))


def top_cells(cells: int, share: float) -> int:
    """How many of a map's cells are ``share`` of it: rounded, at least one."""
    return max(1, round(share * cells))


def pooling_windows(network: nn.Module, findings: int, cells: int) -> Tensor:
    """``(F,)`` cells of a map for each value that the mean in its logit is taken over; 1 without pooling.

    Args:
        network: Any network; one that is not of this module counts as one without pooling.
        findings: Number F of its maps.
        cells: Cells of its activation map, ``h * w``.
    """
    heads = [head for head in cast(Iterable[nn.Module], getattr(network, "heads", ())) if isinstance(head, AtrousHead)]
    windows = [head.pool**2 if head.top_share is None else cells / top_cells(cells, head.top_share) for head in heads]
    return torch.tensor(windows or [1.0] * findings, dtype=torch.float32)


class _ResidualUnit(nn.Module):
    """Batch-norm, ReLU, 3x3 convolution, twice, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=False),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + residual


def _reduction(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


def _make_heads(
    findings: int,
    channels: int,
    dilations: Sequence[int] | Sequence[Sequence[int]],
    pool: int | Sequence[int],
    width: int,
    top_share: float | None,
) -> nn.ModuleList:
    rates = [list(r) if isinstance(r, Sequence) else r for r in dilations]
    each = [r for r in rates if isinstance(r, list)] or [[int(str(r)) for r in rates]] * findings
    pools = [pool] * findings if isinstance(pool, int) else list(pool)
    if len(each) != findings or len(pools) != findings:
        raise ValueError(f"{findings} findings, but {len(each)} sets of dilations and {len(pools)} pool sizes")
    return nn.ModuleList(AtrousHead(channels, r, p, width, top_share) for r, p in zip(each, pools, strict=True))


def _apply_heads(heads: nn.ModuleList, features: Tensor) -> tuple[Tensor, Tensor]:
    maps, logits = zip(*(head(features) for head in heads), strict=True)
    return torch.cat(maps, dim=1), torch.cat(logits, dim=1)


def _begin_silent(heads: nn.ModuleList) -> None:
    """Start with maps that are near 0 everywhere: few cells hold a lesion (Lin et al. 2017, prior of rare classes)."""
    for head in heads:
        nn.init.constant_(cast(AtrousHead, head).classifier.bias, math.log(RARE / (1 - RARE)))  # type: ignore[arg-type]


def _init_xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
