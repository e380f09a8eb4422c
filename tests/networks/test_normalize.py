"""Pictures reach a backbone as its weights expect them: the figures are timm's."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from fundusnet.findings.network import GuidedTimm, InceptionCAM
from fundusnet.grading.network import GradingNetwork
from fundusnet.networks.build import build_network
from fundusnet.networks.normalize import Normalize

IMAGE = torch.rand(2, 3, 75, 75)


def seen_by(network: Any, backbone: nn.Module, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """What arrives at the backbone for ``IMAGE``."""
    arrived: list[torch.Tensor] = []
    forward = backbone.forward_features

    def spy(x: torch.Tensor) -> torch.Tensor:
        arrived.append(x)
        result: torch.Tensor = forward(x)  # type: ignore[operator]
        return result

    monkeypatch.setattr(backbone, "forward_features", spy)
    with torch.no_grad():
        network.eval()(IMAGE)
    return arrived[0]


def by_hand(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    planes = [(IMAGE[:, c] - m) / s for c, (m, s) in enumerate(zip(mean, std, strict=True))]
    return torch.stack(planes, dim=1)


@pytest.mark.parametrize("name", ["inception_v3", "densenet121", "vit_base_patch32_clip_224.openai"])
def test_figures_are_those_of_timm(name: str) -> None:
    config = timm.get_pretrained_cfg(name)
    with torch.device("meta"):
        backbone = timm.create_model(name, num_classes=0)
    assert backbone.pretrained_cfg["mean"] == config.mean
    torch.testing.assert_close(Normalize(backbone)(IMAGE), by_hand(config.mean, config.std))
    expected = {"inception_v3": 0.5, "densenet121": 0.485, "vit_base_patch32_clip_224.openai": 0.48145466}
    assert config.mean[0] == expected[name]


@pytest.mark.parametrize("name", ["test_resnet", "resnet10t"])  # of 0.5 and of ImageNet
@pytest.mark.parametrize("kind", [GuidedTimm, InceptionCAM, GradingNetwork])
def test_every_network_normalises_as_its_backbone_was_trained(
    name: str, kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = timm.get_pretrained_cfg(name)
    if kind is GradingNetwork:
        network: Any = GradingNetwork(2, backbone=name)
        backbone = network.members[0].backbone
    else:
        network = kind(name)
        backbone = network.backbone
    torch.testing.assert_close(seen_by(network, backbone, monkeypatch), by_hand(config.mean, config.std))
    assert not [key for key in network.state_dict() if "normalize" in key]


@pytest.mark.parametrize("old", ["guided_timm", "inception_cam"])
def test_networks_of_version_0_1_0_keep_the_figures_of_imagenet(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = build_network({"name": old, "backbone": "test_resnet", "width": 16}, findings=1)
    expected = by_hand((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(seen_by(network, network.backbone, monkeypatch), expected)
