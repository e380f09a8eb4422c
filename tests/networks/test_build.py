"""Names and keywords in checkpoints lead to our classes, and to a user's own only when it is passed."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from torch import nn

from fundusnet.errors import UserError
from fundusnet.findings.network import GuidedCAM, GuidedTimm, InceptionCAM
from fundusnet.grading.network import GradingNetwork
from fundusnet.networks.build import NETWORKS, build_network, network_class

# What version 0.1.0 wrote for every network of findings, whatever its name.
OLD = {
    "width": 4, "max_width": 8, "reductions": 3, "residual_units": 1, "dilations": [[1, 2], [1]], "pool": [2, 1],
    "pyramid_width": 4, "backbone": "test_resnet", "pretrained": False, "weights": None,
}  # fmt: skip


class MyNet(nn.Module):
    def __init__(self, findings: int, depth: int = 1) -> None:
        super().__init__()
        self.findings, self.depth = findings, depth


@pytest.mark.parametrize("name", NETWORKS)
def test_our_classes_by_name(name: str) -> None:
    assert network_class(name).__name__ == name


@pytest.mark.parametrize(
    ("name", "kind"), [("guided", GuidedCAM), ("guided_timm", GuidedTimm), ("inception_cam", InceptionCAM)]
)
def test_old_names_and_their_surplus_keys(name: str, kind: type[nn.Module]) -> None:
    network: Any = build_network({"name": name, **OLD}, findings=2)
    assert type(network) is kind
    if kind is InceptionCAM:
        assert network.classifier.out_channels == 2
    else:
        assert [len(head.branches) for head in network.heads] == [2, 1]
        assert [head.pool for head in network.heads] == [2, 1]


def test_keywords_reach_the_constructor() -> None:
    network: Any = build_network({"name": "GuidedCAM", "width": 2, "reductions": 3, "pyramid_width": 4}, findings=3)
    assert len(network.heads) == 3 and len(network.reductions) == 3 and network.reductions[0][0].out_channels == 2


def test_a_specification_without_a_name_is_of_grading() -> None:
    network = build_network({"backbone": "test_resnet", "head": "multiclass", "hidden": None}, classes=3)
    assert isinstance(network, GradingNetwork) and network.head == "multiclass" and network.classes == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "InceptionCAM", "width": 4}, "network InceptionCAM cannot be built: .*'width'"),
        ({"name": "GuidedTimm"}, "network GuidedTimm cannot be built: .*'backbone'"),
        ({"name": "resnet"}, "unknown network resnet; choose one of GuidedCAM, "),
        ({"width": 4}, "network GradingNetwork cannot be built: .*'width'"),
    ],
)
def test_new_names_are_strict(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_network(spec, **({"classes": 2} if "name" not in spec else {"findings": 1}))


def test_a_class_of_the_user_is_passed_and_never_imported() -> None:
    before = set(sys.modules)
    spec = {"name": "colorsys.MyNet", "depth": 3}
    sys.modules.pop("colorsys", None)
    with pytest.raises(UserError, match=r"class colorsys\.MyNet; pass it: fundusnet\.load\(checkpoint, network=MyNet"):
        build_network(spec, findings=2)
    assert "colorsys" not in set(sys.modules) - before
    network: Any = build_network(spec, MyNet, findings=2)
    assert type(network) is MyNet and (network.findings, network.depth) == (2, 3)
    with pytest.raises(UserError, match=r"class colorsys\.MyNet, not GuidedCAM"):
        build_network(spec, GuidedCAM, findings=2)
