"""Layers that training leaves as they are: no gradient, no new batch-norm statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fundusnet.errors import UserError
from fundusnet.findings.network import GuidedTimm
from fundusnet.grading.network import GradingNetwork

TINY = "test_resnet"
# Of timm's layers of this network: the stem, then a layer for each of four stages.
STAGES = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


def trained(backbone: Any) -> set[str]:
    return {name.partition(".")[0] for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def moved(network: nn.Module) -> set[str]:
    """Names of parameters and statistics that a step of training changes."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0, weight_decay=0.1)
    network.train()
    outputs = network(torch.rand(4, 3, 64, 64))
    (outputs[1] if isinstance(outputs, tuple) else outputs).sum().backward()
    optimizer.step()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(("layers", "rest"), [(0, STAGES), (1, STAGES[2:]), (3, STAGES[4:]), (4, STAGES[5:])])
def test_the_first_layers_do_not_train(layers: int, rest: list[str]) -> None:
    findings, grading = GuidedTimm(TINY, freeze=layers), GradingNetwork(3, backbone=TINY, freeze=layers)
    for backbone in (findings.backbone, *(member.backbone for member in grading.members)):
        assert trained(backbone) == set(rest)
    for network, prefix in ((findings, "backbone."), (grading, "members.0.backbone.")):
        inside = {name.removeprefix(prefix).partition(".")[0] for name in moved(network) if name.startswith(prefix)}
        assert inside == set(rest)
    assert not findings.frozen and not grading.frozen


@pytest.mark.parametrize(
    "make", [lambda: GuidedTimm(TINY, freeze="all"), lambda: GradingNetwork(3, "multiclass", TINY, freeze="all")]
)
def test_a_frozen_backbone_stays_as_it_is(make: Any) -> None:
    network = make()
    assert network.frozen
    changed = moved(network)
    assert changed and not any("backbone" in name for name in changed)
    images = torch.rand(2, 3, 64, 64)
    first, second = (network.train().extract(images)[0] for _ in range(2))
    torch.testing.assert_close(first, network.eval().extract(images)[0])
    assert torch.equal(first, second)


def test_batch_norm_statistics_of_trained_layers_stay_on_request() -> None:
    plain, kept = (GuidedTimm(TINY, freeze_batch_norm=value) for value in (False, True))
    statistics = lambda names: {name for name in names if name.startswith("backbone") and "running" in name}  # noqa: E731
    assert statistics(moved(plain)) and not statistics(moved(kept))
    assert any(name.startswith("backbone") for name in moved(kept))  # its weights do train


@pytest.mark.parametrize(
    ("value", "message"), [("none", "freeze=none is not possible"), (9, "freeze=9 is more than the 4 layers")]
)
def test_impossible_values_are_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GuidedTimm(TINY, freeze=value)


def test_sub_classifiers_share_a_frozen_backbone() -> None:
    network = GradingNetwork(4, "ranking", TINY, freeze="all", strides=[16, 32], pooling="mean_std", standardize=True)
    assert len({id(member.backbone) for member in network.members}) == 1
    images = torch.rand(2, 3, 64, 64)
    seen: list[int] = []
    network.members[0].backbone.conv1.register_forward_hook(lambda *_: seen.append(1))  # type: ignore[union-attr, operator]
    network.eval()(images)
    assert seen == [1]
    # What they share is mean and deviation of the maps, the deviations behind the means.
    maps = network.members[0].features(network.normalize(images))  # type: ignore[operator]
    expected = torch.cat([*(m.mean((2, 3)) for m in maps), *(m.var((2, 3), correction=0).sqrt() for m in maps)], dim=1)
    (pooled,) = network.extract(images)
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4)
    each = torch.stack([member.classify(pooled) for member in network.members], dim=1)  # type: ignore[operator]
    torch.testing.assert_close(network(images), each)
    assert len({id(member.backbone) for member in GradingNetwork(4, "ranking", TINY, freeze=2).members}) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"strides": [16, 32], "standardize": True},
        {"strides": [16, 32], "standardize": "maps"},
        {"strides": [16, 32], "standardize": "maps", "shrink": [1, 2]},
        {"standardize": "maps"},
    ],
)
def test_maps_over_standardised_features_differ_from_the_logits_by_a_constant(options: dict[str, Any]) -> None:
    network = GradingNetwork(3, "multiclass", TINY, 16, **options)
    for _ in range(3):
        network(torch.rand(8, 3, 64, 64))  # statistics that are not 0 and 1
    network.eval()
    with torch.no_grad():
        logits, maps = network.with_maps(torch.rand(5, 3, 64, 64))
    constant = logits - maps.mean(dim=(2, 3))
    torch.testing.assert_close(constant, constant[:1].expand(5, -1), rtol=1e-4, atol=1e-4)
