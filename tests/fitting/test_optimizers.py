"""Learning rates by layer, against hand-worked ones; what is frozen is left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fundusnet.errors import UserError
from fundusnet.findings.network import GuidedTimm
from fundusnet.fitting.optimizers import build_optimizer, fine_tuning
from fundusnet.grading.network import GradingNetwork

TINY = "test_resnet"


def settings(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name of parameter."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    return found


def test_the_learning_rate_falls_from_layer_to_layer() -> None:
    network = GuidedTimm(TINY, pyramid_width=4)
    found = settings(network, fine_tuning(network, lr=0.1, weight_decay=0.5, layer_decay=0.5, head=10.0))
    assert set(found) == {name for name, _ in network.named_parameters()}
    # timm's layers of this network, one for each block: two blocks a stage would be two layers.
    blocks = [name for name in ("layer1", "layer2", "layer3", "layer4") for _ in getattr(network.backbone, name)]
    depth = len(blocks)
    stem, last = found["backbone.conv1.0.weight"], found[f"backbone.layer4.{blocks.count('layer4') - 1}.conv1.weight"]
    assert last == (pytest.approx(0.1), 0.5)
    assert stem == (pytest.approx(0.1 * 0.5**depth), 0.5)
    assert found["heads.0.classifier.weight"] == (pytest.approx(1.0), 0.5)
    assert found["heads.0.classifier.bias"] == (pytest.approx(1.0), 0.0)
    assert found["backbone.bn1.weight"][1] == 0.0


def test_every_sub_classifier_has_the_same_rates() -> None:
    network = GradingNetwork(3, backbone=TINY)
    found = settings(network, fine_tuning(network, lr=0.1, layer_decay=0.5))
    first = {name.removeprefix("members.0."): value for name, value in found.items() if name.startswith("members.0.")}
    second = {name.removeprefix("members.1."): value for name, value in found.items() if name.startswith("members.1.")}
    assert first == second and len(first) * 2 == len(found)


def test_what_is_frozen_is_left_out() -> None:
    network = GuidedTimm(TINY, freeze="all", strides=[16, 32], reduction=4)
    found = settings(network, fine_tuning(network))
    assert set(found) == {name for name, p in network.named_parameters() if p.requires_grad}
    assert not any(name.startswith("backbone") for name in found)


def test_any_optimiser_of_timm_by_name() -> None:
    network = GuidedTimm(TINY)
    optimizer = fine_tuning(network, "lamb", betas=(0.8, 0.9))
    assert type(optimizer).__name__ == "Lamb" and optimizer.defaults["betas"] == (0.8, 0.9)
    with pytest.raises(UserError, match=r"model\.optimizer\.name=adamm is unknown to timm"):
        fine_tuning(network, "adamm")


def test_an_optimiser_of_torch_gets_what_is_trained() -> None:
    network = GuidedTimm(TINY, freeze=2)
    optimizer = build_optimizer(lambda params: torch.optim.SGD(params, lr=0.1), network)
    assert set(settings(network, optimizer)) == {name for name, p in network.named_parameters() if p.requires_grad}


def test_a_config_reaches_the_optimiser() -> None:
    from fundusnet.config.compose import compose
    from fundusnet.config.objects import factory

    words = [
        "model/optimizer=fine_tuning",
        "model.optimizer.lr=0.2",
        "model.optimizer.layer_decay=0.5",
        "finding=drusen",
    ]
    cfg: Any = compose([*words, "data=csv", "data.root=x"])
    network = GuidedTimm(TINY)
    found = settings(network, build_optimizer(factory(cfg.model.optimizer), network))
    assert found["heads.0.classifier.weight"][0] == pytest.approx(0.2)
    assert found["backbone.conv1.0.weight"][0] < 0.2
