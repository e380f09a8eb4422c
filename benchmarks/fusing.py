"""What a network takes after it is fused, against the network as it is trained, on one thread.

Batches of two photographs of 384 pixels, as features of a frozen backbone are computed, by networks of timm with random
weights. Features and predictions are computed by fused networks; they differ in rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator

import timm
import torch

from benchmarks.measuring import Figure, alternate, ratio, show
from fundusnet.networks.fusing import fused

BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite2", "densenet121", "resnet50", "mobilenetv3_large_100")


@torch.inference_mode()
def measure() -> Iterator[Figure]:
    """For each backbone, plain over fused."""
    torch.set_num_threads(1)
    picture = torch.rand(2, 3, 384, 384).contiguous(memory_format=torch.channels_last)
    for backbone in BACKBONES:
        plain = (
            timm.create_model(backbone, pretrained=False, num_classes=0).to(memory_format=torch.channels_last).eval()
        )
        faster = fused(plain, lambda network: network(picture))
        calls = {"plain": lambda plain=plain: plain(picture), "fused": lambda faster=faster: faster(picture)}
        taken = alternate(calls, rounds=10)
        yield ratio(f"{backbone}, fused", "as trained", taken["fused"], taken["plain"], goal=1.0)


if __name__ == "__main__":
    show(measure())
