"""A network without its batch norms computes what it computed with them."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from fundusnet.networks.fusing import fuse_batch_norms


@pytest.mark.parametrize(("backbone", "left"), [("tf_efficientnet_lite0", 0), ("test_resnet", 1)])  # 1: after its stem
def test_outputs_stay_and_norms_after_convolutions_go(backbone: str, left: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(backbone, pretrained=False)
    network.train()(torch.rand(4, 3, 64, 64))  # statistics other than 0 and 1
    network.eval()
    picture = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = network(picture)
        fuse_batch_norms(network)
        torch.testing.assert_close(network(picture), expected, rtol=1e-3, atol=1e-4)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == left


def test_a_norm_that_follows_no_convolution_stays() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    fuse_batch_norms(network)
    assert [type(module).__name__ for module in network] == ["BatchNorm2d", "Conv2d", "ReLU", "BatchNorm2d"]
