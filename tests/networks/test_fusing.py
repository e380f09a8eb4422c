"""A network that is fused computes what it computed before."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from fundusnet.networks.fusing import HalvingConv2d, fuse, fused


@pytest.mark.parametrize(("backbone", "left"), [("tf_efficientnet_lite0", 0), ("test_resnet", 1)])  # 1: after its stem
def test_outputs_stay_and_norms_after_convolutions_go(backbone: str, left: int) -> None:
    network = with_statistics(timm.create_model(backbone, pretrained=False))
    picture = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = network(picture)
        fuse(network)
        torch.testing.assert_close(network(picture), expected, rtol=1e-3, atol=1e-4)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == left
    assert not any(isinstance(module, Conv2dSame) for module in network.modules())


def test_a_norm_that_follows_no_convolution_stays() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    fuse(network)
    assert [type(module).__name__ for module in network] == ["BatchNorm2d", "Conv2d", "ReLU", "BatchNorm2d"]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(16, 16), (16, 17), (17, 16), (15, 33)])
@pytest.mark.parametrize("groups", [1, 4])
def test_halving_needs_no_padded_copy(kernel: int, size: tuple[int, int], groups: int) -> None:
    torch.manual_seed(0)
    same = Conv2dSame(4, 8, kernel, stride=2, groups=groups)
    picture = torch.rand(2, 4, *size)
    torch.testing.assert_close(HalvingConv2d(same)(picture), same(picture))


@pytest.mark.parametrize(
    "options", [{"stride": 1}, {"stride": 2, "dilation": 2}, {"stride": 2, "kernel_size": (3, 5)}, {"kernel_size": 2}]
)
def test_other_same_padding_stays(options: dict[str, int]) -> None:
    network = nn.Sequential(Conv2dSame(3, 4, **{"kernel_size": 3, **options}), nn.BatchNorm2d(4))
    network = with_statistics(network)
    picture = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = network(picture)
        fuse(network)
        torch.testing.assert_close(network(picture), expected, rtol=1e-3, atol=1e-4)


class Reversed(nn.Module):
    """Computes in another order than that of its children."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.norm, self.first = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

    def forward(self, picture: Tensor) -> Tensor:
        answer: Tensor = self.last(self.first(self.norm(picture)))
        return answer


class Shortcut(nn.Module):
    """Uses what a convolution gives with and without the norm that follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, picture: Tensor) -> Tensor:
        found = self.convolution(picture)
        answer: Tensor = self.norm(found) + found
        return answer


def test_a_copy_is_fused_and_the_original_stays() -> None:
    network = with_statistics(timm.create_model("tf_efficientnet_lite0", pretrained=False))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    picture = torch.rand(1, 3, 64, 64)
    faster = fused(network, lambda one: one.forward_features(picture))
    assert faster is not network
    assert not any(isinstance(module, nn.BatchNorm2d) for module in faster.modules())
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kind", [Reversed, Shortcut])
def test_a_network_that_would_answer_otherwise_is_left_alone(kind: type[nn.Module]) -> None:
    network = with_statistics(kind())
    assert fused(network, lambda one: one(torch.ones(1, 3, 8, 8))) is network


@pytest.mark.parametrize("normed", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.spectral_norm])
def test_convolutions_that_compute_their_weights_stay(normed: Any) -> None:
    network = with_statistics(nn.Sequential(normed(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)))
    picture = torch.rand(1, 3, 8, 8)
    assert fused(network, lambda one: one(picture)) is network


def test_a_network_that_cannot_take_the_picture_stays() -> None:
    network = with_statistics(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 64**2, 2))
    )
    for side, stays in ((32, True), (64, False)):
        picture = torch.rand(1, 3, side, side)
        assert (fused(network, lambda one, picture=picture: one(picture)) is network) == stays


def test_without_norms_there_is_no_copy() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval()
    asked: list[nn.Module] = []
    assert fused(network, lambda one: asked.append(one) or torch.zeros(1)) is network  # type: ignore[func-returns-value]
    assert not asked


def with_statistics(network: nn.Module) -> nn.Module:
    """``network`` in evaluation mode, with statistics of norms other than 0 and 1."""
    torch.manual_seed(0)
    for _ in range(5):
        network.train()(3 * torch.rand(4, 3, 64, 64))
    return network.eval()
