"""Colour statistics as a backbone of timm: what a network has to beat that looks at where and how things are."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

NAME = "color_statistics"
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class ColorStatistics(nn.Module):
    """Mean, deviation and quantiles of red, green and blue; has nothing to train.

    Attributes:
        num_features: Their number, 21.
    """

    num_features = 3 * (2 + len(_QUANTILES))
    pretrained_cfg: ClassVar = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "input_size": (3, 128, 128)}

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = [{"num_chs": self.num_features, "reduction": 32, "module": ""}]

    def forward_features(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] → ``(B, 21, 1, 1)``."""
        # Quantiles of single pixels would be those of the camera's noise, and slow.
        pixels = functional.adaptive_avg_pool2d(image.float(), 64).flatten(2)
        shares = torch.tensor(_QUANTILES, device=pixels.device)
        quantiles = pixels.quantile(shares, dim=2).permute(1, 2, 0)
        values = torch.cat([pixels.mean(2, keepdim=True), pixels.std(2, keepdim=True), quantiles], dim=2)
        return values.flatten(1)[:, :, None, None]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The layers of its parameters, as timm's networks give them; it has none."""
        return {"stem": r"^"}


@register_model
def color_statistics(**options: Any) -> ColorStatistics:
    """The statistics under a name of timm's, so that every network of ours takes them for a backbone.

    timm's options change nothing.
    """
    return ColorStatistics()
