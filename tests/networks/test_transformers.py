"""Transformers as backbones: patch tokens are the map, of images of any size, from weights of published layouts."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from fundusnet.errors import UserError
from fundusnet.findings.network import GuidedTimm
from fundusnet.grading.network import GradingNetwork
from fundusnet.networks.backbones import bare_backbone, last_map

VIT = "test_vit"  # of timm: 160 pixels in patches of 16


@pytest.mark.parametrize(
    "name", [VIT, "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224"]
)
@pytest.mark.parametrize("patches", [(8, 8), (11, 9)])
def test_the_map_has_a_cell_for_each_patch(name: str, patches: tuple[int, int]) -> None:
    backbone = bare_backbone(name).eval()
    stride = backbone.feature_info[-1]["reduction"]
    height, width = (stride * count for count in patches)
    with torch.no_grad():
        found = last_map(backbone, torch.rand(1, 3, height, width))
    assert found.shape == (1, backbone.num_features, *patches)


def test_the_map_holds_the_patch_tokens_in_their_places() -> None:
    backbone = bare_backbone(VIT).eval()
    image = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        tokens = backbone.forward_features(image)[:, backbone.num_prefix_tokens :]
        torch.testing.assert_close(last_map(backbone, image), tokens.transpose(1, 2).unflatten(2, (10, 10)))


def test_grading_pools_the_tokens_and_its_maps_stay_exact() -> None:
    network = GradingNetwork(3, "ranking", VIT, cam_stride=16, hidden=None).eval()
    image = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        logits, maps = network.with_maps(image)
        biases = torch.stack([member.classifier.bias for member in network.members])  # type: ignore[union-attr, misc]
    assert maps.shape == (2, 2, 2, 8, 8)
    torch.testing.assert_close(maps.mean(dim=(-2, -1)) + biases, logits)


def test_the_guided_head_over_a_transformer() -> None:
    for strides in (None, [16]):
        logit_map, logit = GuidedTimm(VIT, 2, strides=strides, reduction=8, pyramid_width=4)(torch.rand(2, 3, 96, 96))
        assert logit_map.shape == (2, 2, 6, 6) and logit.shape == (2, 2)


def masked_autoencoder(file: Path, name: str = "vit_tiny_patch16_224") -> dict[str, Any]:
    """A checkpoint laid out as RETFound's: the encoder under ``model``, a decoder, and what its training left."""
    state = {key: torch.randn_like(value) for key, value in timm.create_model(name, num_classes=0).state_dict().items()}
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_embed.weight": torch.zeros(8, 192),
        "decoder_pred.bias": torch.zeros(8),
    }
    torch.save(
        {"model": {**state, **decoder}, "optimizer": {}, "epoch": 799, "args": argparse.Namespace(lr=1e-3)}, file
    )
    return state


@pytest.mark.parametrize("kind", ["findings", "grading"])
def test_a_checkpoint_of_a_masked_autoencoder_loads_to_the_last_tensor(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = masked_autoencoder(tmp_path / "retfound.pth")
    options: dict[str, Any] = {"backbone": "vit_tiny_patch16_224", "weights": str(tmp_path / "retfound.pth")}
    with caplog.at_level(logging.INFO):
        network: Any = GuidedTimm(**options) if kind == "findings" else GradingNetwork(3, **options)
    backbones = [network.backbone] if kind == "findings" else [member.backbone for member in network.members]
    for backbone in backbones:
        assert set(backbone.state_dict()) == set(state)
        assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    unused = [line for line in caplog.messages if "has no place for" in line]
    assert len(unused) == 1 and "mask_token and 2 more" in unused[0]
    network.eval()(torch.rand(1, 3, 320, 320))  # the position embedding of 224 pixels is resampled


def test_the_position_embedding_of_another_size_is_resized(tmp_path: Path) -> None:
    other = timm.create_model("vit_tiny_patch16_384", num_classes=0)
    torch.save({"model": other.state_dict()}, tmp_path / "w.pth")
    backbone: Any = GuidedTimm("vit_tiny_patch16_224", weights=str(tmp_path / "w.pth")).backbone
    assert backbone.pos_embed.shape[1] == 197
    assert torch.equal(backbone.blocks[3].attn.qkv.weight, other.blocks[3].attn.qkv.weight)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    state = timm.create_model(VIT, num_classes=0).state_dict()
    del state["blocks.2.norm1.weight"]
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it lacks blocks\.2\.norm1\.weight"):
        GuidedTimm(VIT, weights=str(tmp_path / "w.pth"))
