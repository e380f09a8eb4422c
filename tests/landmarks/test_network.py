"""The network of the localiser."""

from __future__ import annotations

import pytest
import tiny_backbone  # noqa: F401  # timm then knows test_tiny
import torch

from fundusnet.errors import UserError
from fundusnet.landmarks.network import LandmarkNetwork
from fundusnet.networks.build import build_network


def network(**options: object) -> LandmarkNetwork:
    torch.manual_seed(0)
    return LandmarkNetwork(backbone="test_tiny", width=8, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_every_cell_and_nowhere_get_a_logit(stride: int) -> None:
    logits = network(map_stride=stride).eval()(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 2, (64 // stride) ** 2 + 1)


def test_what_a_frozen_backbone_extracts_decides() -> None:
    built = network(freeze="all").train()
    assert built.frozen and not built.backbone.training
    assert not any(parameter.requires_grad for parameter in built.backbone.parameters())
    image = torch.rand(2, 3, 64, 64)
    built.eval()
    assert torch.equal(built(image), built.decide(built.extract(image)))


def test_a_cell_sees_farther_with_dilations() -> None:
    """A change in one corner reaches the score of a cell across the picture only through wide convolutions."""
    reach = []
    for dilations in ((), (1, 2, 4, 8)):
        built = network(strides=[8], map_stride=8, dilations=dilations).eval()
        image = torch.zeros(1, 3, 128, 128)
        changed = image.clone()
        changed[..., :8, :8] = 1
        difference = (built(changed) - built(image)).abs()[0, 0, :-1].reshape(16, 16)
        reach.append(int((difference.amax(dim=0) > 1e-7).nonzero().max()))
    assert reach[1] > reach[0] + 10


def test_a_checkpoint_names_it() -> None:
    spec = {"name": "LandmarkNetwork", "backbone": "test_tiny", "width": 8}
    assert isinstance(build_network(spec), LandmarkNetwork)
    with pytest.raises(UserError, match="do not fit test_tiny"):
        build_network({**spec, "strides": [3]})
