"""``test_tiny``: a residual network of some 8000 weights that timm makes by name, once this module is imported.

timm's own ``test_resnet`` takes 1.5 MB a checkpoint and sub-classifier; checkpoints that are kept are made with this.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

default_cfgs = generate_default_cfgs(
    {
        "test_tiny.untrained": {
            "num_classes": 1000, "input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
            "first_conv": "conv1.0", "classifier": "fc",
        }
    }
)  # fmt: skip


@register_model
def test_tiny(pretrained: bool = False, **options: Any) -> ResNet:
    """Of stride 32, with four blocks of 8 channels: in training with 4, channels last, torch 2.15 ends in a crash."""
    own = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8), "stem_type": "deep", "stem_width": 8}
    network: ResNet = build_model_with_cfg(ResNet, "test_tiny", pretrained, **{**own, **options})
    return network
