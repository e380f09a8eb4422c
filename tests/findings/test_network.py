"""Shapes, and that map and prediction come from the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fundusnet.errors import UserError
from fundusnet.findings.module import map_size
from fundusnet.findings.network import GuidedCAM, GuidedTimm, InceptionCAM, pooling_windows
from fundusnet.networks import backbones as backbones
from fundusnet.networks.build import build_network


@pytest.mark.parametrize(("reductions", "cells"), [(4, 8), (5, 4), (3, 16)])
@pytest.mark.parametrize("findings", [1, 3])
def test_shapes(reductions: int, cells: int, findings: int) -> None:
    network = GuidedCAM(findings, dilations=(1, 2, 4), pool=1, width=4, reductions=reductions, pyramid_width=4)
    logit_map, logit = network(torch.rand(2, 3, 128, 128))
    assert logit_map.shape == (2, findings, cells, cells)
    assert logit.shape == (2, findings)
    torch.testing.assert_close(logit, logit_map.mean(dim=(2, 3)))


def test_small_findings_are_pooled_before_the_mean() -> None:
    network = GuidedCAM(1, pool=4, width=4, reductions=3, pyramid_width=4).eval()
    logit_map, logit = network(torch.rand(1, 3, 64, 64))
    by_hand = torch.stack([logit_map[0, 0, r : r + 4, c : c + 4].max() for r in (0, 4) for c in (0, 4)]).mean()
    torch.testing.assert_close(logit[0, 0], by_hand)


def test_each_finding_has_its_own_pyramid() -> None:
    network = GuidedCAM(2, dilations=[[1, 2], [1, 2, 4, 8]], pool=[4, 1], width=4, reductions=3, pyramid_width=4)
    assert [len(head.branches) for head in network.heads] == [2, 4]  # type: ignore[arg-type]
    rates = [branch[0].dilation for branch in network.heads[1].branches]  # type: ignore[union-attr,index]
    assert rates == [(1, 1), (2, 2), (4, 4), (8, 8)]


def test_the_first_four_reductions_are_joined() -> None:
    network = GuidedCAM(1, width=2, reductions=5, pyramid_width=4)
    first = network.heads[0].branches[0][0]  # type: ignore[union-attr,index]
    assert isinstance(first, nn.Conv2d)
    assert first.in_channels == 2 + 4 + 8 + 16 + 32


def test_inception_map_has_the_logit_as_its_mean() -> None:
    network = InceptionCAM("resnet18", findings=2).eval()
    image = torch.rand(1, 3, 64, 64)
    logit_map, logit = network(image)
    # The textbook order: pool first, classify then.
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    pooled = network.backbone(normalised).mean(dim=(2, 3))
    expected = pooled @ network.classifier.weight[:, :, 0, 0].T + network.classifier.bias
    torch.testing.assert_close(logit, expected, rtol=1e-4, atol=1e-5)
    assert logit_map.shape == (1, 2, 2, 2)


def test_any_timm_backbone_under_the_guided_head() -> None:
    logit_map, logit = GuidedTimm("resnet18", 2, pyramid_width=4).eval()(torch.rand(1, 3, 96, 96))
    assert logit_map.shape == (1, 2, 3, 3) and logit.shape == (1, 2)


@pytest.mark.parametrize(
    ("size", "network", "cells"),
    [
        (512, {"name": "GuidedCAM", "width": 2, "reductions": 5}, 16),
        (96, {"name": "GuidedTimm", "backbone": "resnet18"}, 3),
        (512, {"name": "InceptionCAM", "backbone": "inception_v3"}, 14),  # it pads nothing
    ],
)
def test_the_map_is_as_large_as_the_network_says(size: int, network: dict[str, Any], cells: int) -> None:
    assert map_size(size, 1, network) == cells


def test_weights_from_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    first = build_network({"name": "GuidedTimm", "backbone": "resnet18", "weights": None}, findings=1)
    torch.save(first.backbone.state_dict(), tmp_path / "w.pth")  # type: ignore[union-attr]
    second = build_network(
        {"name": "GuidedTimm", "backbone": "resnet18", "weights": str(tmp_path / "w.pth")}, findings=1
    )
    for a, b in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("resnet999", None, "model.network.backbone=resnet999 is unknown to timm"),
        ("test_resnet", "gone.pth", "model.network.weights=gone.pth does not exist"),
        ("test_resnet", "other.pth", "other.pth does not fit test_resnet: it lacks"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(
    backbone: str, weights: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"unrelated": torch.zeros(3)}, "other.pth")
    for name in ("GuidedTimm", "InceptionCAM"):
        with pytest.raises(UserError, match=message):
            build_network({"name": name, "backbone": backbone, "weights": weights}, findings=1)


def test_without_the_hub_it_starts_random_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("the hub cannot be reached")

    monkeypatch.setattr(backbones, "_pretrained_state", unreachable)
    backbones._timm_state.cache_clear()
    network = build_network({"name": "GuidedTimm", "backbone": "test_resnet", "pretrained": True}, findings=1)
    assert str(network.initial_weights).startswith("random") and "the hub cannot be reached" in caplog.text


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.05, 3), (1.0, 64), (0.0, 1)])
def test_the_highest_cells_alone_may_decide(share: float, count: int) -> None:
    network = GuidedCAM(1, pool=4, width=2, reductions=3, pyramid_width=4, top_share=share).eval()
    logit_map, logit = network(torch.rand(2, 3, 64, 64))
    for image in range(2):
        best = sorted(logit_map[image].flatten().tolist())[-count:]
        assert logit[image].item() == pytest.approx(sum(best) / count, abs=1e-5)


def test_windows_are_cells_for_each_value_of_the_mean() -> None:
    pools = {"width": 2, "reductions": 3, "pyramid_width": 4}
    assert pooling_windows(GuidedCAM(2, pool=[4, 1], **pools), 2, 64).tolist() == [16, 1]
    assert pooling_windows(GuidedCAM(1, top_share=0.05, **pools), 1, 64).tolist() == pytest.approx([64 / 3])
    assert pooling_windows(InceptionCAM("test_resnet", 2), 2, 9).tolist() == [1, 1]
