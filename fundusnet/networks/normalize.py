"""The normalisation that a backbone was trained with, for every network that has one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Normalize(nn.Module):
    """``(B, 3, H, W)`` in [0, 1] → zero mean and unit deviation by channel, as the backbone's weights expect it.

    Args:
        backbone: Network of timm, whose ``pretrained_cfg`` holds mean and deviation.
        mean_std: ``backbone`` for its own figures; ``imagenet`` for ImageNet's whatever the backbone, as version 0.1.0
            trained networks of findings.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Any, mean_std: Literal["backbone", "imagenet"] = "backbone") -> None:
        super().__init__()
        values = IMAGENET if mean_std == "imagenet" else backbone.pretrained_cfg
        for name in ("mean", "std"):
            # Not persistent: the figures follow from the name of the backbone.
            self.register_buffer(name, torch.tensor(values[name]).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std
