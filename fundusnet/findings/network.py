"""Networks whose activation map and prediction come from the same logits (S1.3), and the baseline that has neither.

Every network here maps ``(B, 3, H, W)`` in [0, 1] to a logit map ``(B, F, h, w)`` and one logit an image and finding
``(B, F)``; ``sigmoid`` of the first is the activation map, of the second the probability.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fundusnet.networks.backbones import bare_backbone, load_weights


class GuidedCAM(nn.Module):
    """The regionally guided network (S1.3).

    Args:
        findings: number F of findings; each has its own pyramid and 1x1 head over one trunk.
        dilations: rates of the atrous pyramid, one list for all findings or one list each.
        pool: size of the max-pooling between map and mean, one for all or one each; 1 = none.
        width: channels of the first reduction layer; doubled at each halving, up to ``max_width``.
        reductions: halvings; the map is ``H / 2**reductions``.
        residual_units: pre-activation units after each reduction layer.
        pyramid_width: channels of each atrous branch.
    """

    initial_weights = "random"

    def __init__(
        self,
        findings: int = 1,
        dilations: Sequence[int] | Sequence[Sequence[int]] = (1, 2),
        pool: int | Sequence[int] = 4,
        width: int = 16,
        max_width: int = 256,
        reductions: int = 5,
        residual_units: int = 1,
        pyramid_width: int = 32,
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
        self.heads = _heads(findings, channels, dilations, pool, pyramid_width)
        self.apply(_xavier)

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
    """The same guided head over the last feature map of any timm backbone."""

    def __init__(
        self,
        backbone: str,
        findings: int = 1,
        dilations: Sequence[int] | Sequence[Sequence[int]] = (1, 2),
        pool: int | Sequence[int] = 4,
        pyramid_width: int = 32,
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.backbone = bare_backbone(backbone)
        self.initial_weights = load_weights([self.backbone], backbone, pretrained, weights)
        self.heads = _heads(findings, int(self.backbone.num_features), dilations, pool, pyramid_width)
        self.heads.apply(_xavier)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` in [0, 1] → logit map ``(B, F, h, w)``, logit ``(B, F)``."""
        return _apply_heads(self.heads, self.backbone(_normalise(image)))


class InceptionCAM(nn.Module):
    """The paper's baseline: a classifier with global average pooling, its map read through the classifier's weights.

    The class activation map plus the bias has the logit as its mean, so map and logit share one linear layer, applied
    before pooling instead of after it; both orders give the same logit.
    """

    def __init__(
        self, backbone: str = "inception_v3", findings: int = 1, pretrained: bool = False, weights: str | None = None
    ) -> None:
        super().__init__()
        self.backbone = bare_backbone(backbone)
        self.initial_weights = load_weights([self.backbone], backbone, pretrained, weights)
        self.classifier = nn.Conv2d(int(self.backbone.num_features), findings, kernel_size=1)
        self.classifier.apply(_xavier)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` in [0, 1] → class activation map with bias ``(B, F, h, w)``, logit ``(B, F)``."""
        logit_map = self.classifier(self.backbone(_normalise(image)))
        return logit_map, logit_map.mean(dim=(2, 3))


class AtrousHead(nn.Module):
    """Parallel dilated 3x3 convolutions, concatenated, and a 1x1 convolution of depth 1: one finding's logit map."""

    def __init__(self, channels: int, dilations: Sequence[int], pool: int, width: int) -> None:
        super().__init__()
        self.pool = pool
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=rate, dilation=rate, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for rate in dilations
        )
        self.classifier = nn.Conv2d(width * len(dilations), 1, kernel_size=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)`` → logit map ``(B, 1, h, w)``, logit ``(B, 1)``."""
        logit_map: Tensor = self.classifier(torch.cat([branch(features) for branch in self.branches], dim=1))
        pooled = logit_map
        if self.pool > 1:
            # A map smaller than the window is pooled whole.
            pooled = functional.max_pool2d(logit_map, min(self.pool, *logit_map.shape[-2:]))
        return logit_map, pooled.mean(dim=(2, 3))


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


def _heads(
    findings: int,
    channels: int,
    dilations: Sequence[int] | Sequence[Sequence[int]],
    pool: int | Sequence[int],
    width: int,
) -> nn.ModuleList:
    rates = [list(r) if isinstance(r, Sequence) else r for r in dilations]
    each = [r for r in rates if isinstance(r, list)] or [[int(str(r)) for r in rates]] * findings
    pools = [pool] * findings if isinstance(pool, int) else list(pool)
    if len(each) != findings or len(pools) != findings:
        raise ValueError(f"{findings} findings, but {len(each)} sets of dilations and {len(pools)} pool sizes")
    return nn.ModuleList(AtrousHead(channels, r, p, width) for r, p in zip(each, pools, strict=True))


def _apply_heads(heads: nn.ModuleList, features: Tensor) -> tuple[Tensor, Tensor]:
    maps, logits = zip(*(head(features) for head in heads), strict=True)
    return torch.cat(maps, dim=1), torch.cat(logits, dim=1)


def _normalise(image: Tensor) -> Tensor:
    """ImageNet mean and deviation: what timm's weights were trained with."""
    mean = image.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = image.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return (image - mean) / deviation


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
