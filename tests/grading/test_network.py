"""Maps that belong to their logits, strides, and where weights come from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from fundusnet.errors import UserError
from fundusnet.grading.network import GradingNetwork, make_backbone
from fundusnet.grading.ranking import HEADS, Head, probabilities
from fundusnet.networks import backbones as backbones

TINY = "test_resnet"


def test_a_ranking_is_as_many_whole_networks() -> None:
    network = GradingNetwork(4, backbone=TINY)
    assert len(network.members) == 3
    first, second = (list(member.parameters()) for member in network.members[:2])
    assert not {p.data_ptr() for p in first} & {p.data_ptr() for p in second}
    assert network.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 3, 2)


@pytest.mark.parametrize(("head", "shape"), [("multiclass", (2, 4)), ("coral", (2, 3)), ("corn", (2, 3))])
def test_other_heads_are_one_network(head: Head, shape: tuple[int, int]) -> None:
    network = GradingNetwork(4, head, backbone=TINY)
    assert len(network.members) == 1
    assert network.eval()(torch.rand(2, 3, 64, 64)).shape == shape


@pytest.mark.parametrize("head", HEADS)
def test_maps_belong_to_the_logits(head: Head) -> None:
    network = GradingNetwork(4, head, backbone=TINY).eval()
    image = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        logits, maps = network.with_maps(image)
        torch.testing.assert_close(logits, network(image))
    member: Any = network.members[0]
    means = maps.mean(dim=(-2, -1))
    if head == "multiclass":
        assert maps.shape == (2, 4, 6, 6)
        torch.testing.assert_close(means + member.classifier.bias, logits)
        return
    assert maps.shape == (2, 3, 2, 6, 6)
    if head == "ranking":
        biases = torch.stack([m.classifier.bias for m in network.members])  # type: ignore[union-attr, misc]
        torch.testing.assert_close(means + biases, logits)
    else:
        # The 2-way softmax of the two maps' means, and the bias between them, is the sigmoid of the logit.
        bias = member.thresholds if head == "coral" else member.classifier.bias
        two_way = (means[..., 1] - means[..., 0] + bias).sigmoid()
        torch.testing.assert_close(two_way, logits.sigmoid())


def test_thresholds_of_coral_fall_over_one_weight_vector() -> None:
    member: Any = GradingNetwork(5, "coral", backbone=TINY).members[0]
    assert member.classifier.weight.shape[0] == 1
    assert member.thresholds.tolist() == [1.0, 0.75, 0.5, 0.25]  # as coral-pytorch starts them
    p = probabilities("coral", GradingNetwork(5, "coral", backbone=TINY).eval()(torch.rand(3, 3, 64, 64)))
    assert (p[:, :-1] >= p[:, 1:]).all()


def test_stage_2_has_a_hidden_layer_and_no_maps() -> None:
    network = GradingNetwork(3, backbone=TINY, hidden=2048)
    member: Any = network.members[0]
    kinds = [type(layer) for layer in (*member.hidden, member.classifier)]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.Linear]
    assert member.hidden[0].out_features == 2048 and member.hidden[3].p == 0.5 and member.classifier.out_features == 2
    assert not network.has_maps
    with pytest.raises(UserError, match="hidden"):
        network.with_maps(torch.rand(2, 3, 64, 64))


def test_pictures_are_normalised_as_the_backbone_was_trained() -> None:
    network = GradingNetwork(2, backbone=TINY).eval()
    image = torch.rand(2, 3, 64, 64)
    member: Any = network.members[0]
    with torch.no_grad():
        pooled = member.backbone.forward_features((image - 0.5) / 0.5).mean(dim=(2, 3))  # test_resnet's own figures
        torch.testing.assert_close(network(image)[:, 0], member.classifier(pooled), atol=1e-5, rtol=1e-4)
    assert GradingNetwork(2, backbone="resnet10t", cam_stride=32).normalize.mean.flatten().tolist() == pytest.approx(
        [0.485, 0.456, 0.406]
    )


def test_densenet_at_stride_16() -> None:
    fine, plain = make_backbone("densenet121", 16).eval(), make_backbone("densenet121", 32).eval()
    assert {k: v.shape for k, v in fine.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    with torch.no_grad():
        assert fine.forward_features(torch.rand(1, 3, 512, 512)).shape == (1, 1024, 32, 32)  # type: ignore[operator]
        assert plain.forward_features(torch.rand(1, 3, 128, 128)).shape == (1, 1024, 4, 4)  # type: ignore[operator]
        # Every second cell of the dilated block sees what the plain block sees on every second cell.
        fine.load_state_dict(plain.state_dict())
        features = torch.rand(1, 512, 12, 12)
        dilated = fine.features.denseblock4(features)  # type: ignore[union-attr, operator]
        expected = plain.features.denseblock4(features[..., ::2, ::2])  # type: ignore[union-attr, operator]
        torch.testing.assert_close(dilated[..., ::2, ::2], expected)


@pytest.mark.parametrize("name", [TINY, "test_convnext"])
def test_other_backbones_at_stride_16(name: str) -> None:
    fine, plain = make_backbone(name, 16), make_backbone(name, 32)
    assert fine.eval().forward_features(torch.rand(1, 3, 128, 128)).shape[-2:] == (8, 8)  # type: ignore[operator]
    assert sum(p.numel() for p in fine.parameters()) == sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize(
    ("backbone", "stride", "message"),
    [
        ("no_such_net", 16, "no_such_net is unknown to timm"),
        ("test_mambaout", 32, "test_mambaout has no feature maps of stride 32"),
        ("mobilenetv3_small_050", 16, "use cam_stride=32"),
        (TINY, 8, "cam_stride=8 is not possible"),
    ],
)
def test_unfit_backbones(backbone: str, stride: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_backbone(backbone, stride)
    assert "\n" not in str(caught.value)


def test_unfit_options() -> None:
    with pytest.raises(UserError, match=r"unknown model\.network\.head=softmax; choose one of ranking"):
        GradingNetwork(3, "softmax", backbone=TINY)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 2 grades"):
        GradingNetwork(1, backbone=TINY)


def test_weights_from_a_file(tmp_path: Path) -> None:
    source = make_backbone(TINY)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    network = GradingNetwork(3, backbone=TINY, weights=str(tmp_path / "w.pth"))
    assert network.initial_weights == f"file {tmp_path / 'w.pth'}"
    for member in network.members:
        for a, b in zip(source.parameters(), member.backbone.parameters(), strict=True):  # type: ignore[union-attr]
            assert torch.equal(a, b)
    with pytest.raises(UserError, match=r"gone\.pth does not exist"):
        GradingNetwork(3, backbone=TINY, weights=str(tmp_path / "gone.pth"))
    with pytest.raises(UserError, match=r"w\.pth does not fit resnet10t") as caught:
        GradingNetwork(3, backbone="resnet10t", weights=str(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("held", ["nothing of it", "half of it"])
def test_a_file_that_leaves_weights_random_is_refused(tmp_path: Path, held: str) -> None:
    whole = make_backbone(TINY).state_dict()
    part = {"unrelated": torch.zeros(3)} if held == "nothing of it" else dict(list(whole.items())[: len(whole) // 2])
    torch.save(part, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"part\.pth does not fit test_resnet: it lacks \S+ and \d+ more"):
        GradingNetwork(3, backbone=TINY, weights=str(tmp_path / "part.pth"))


def test_a_torn_file_of_weights_is_one_line_with_its_cause(tmp_path: Path) -> None:
    torch.save(make_backbone(TINY).state_dict(), tmp_path / "w.pth")
    (tmp_path / "torn.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"torn\.pth does not fit test_resnet: ") as caught:
        GradingNetwork(3, backbone=TINY, weights=str(tmp_path / "torn.pth"))
    assert "\n" not in str(caught.value) and caught.value.__cause__ is not None


def test_random_networks_differ_from_each_other() -> None:
    network = GradingNetwork(3, backbone=TINY)
    assert network.initial_weights == "random"
    first, second = (next(member.backbone.parameters()) for member in network.members)  # type: ignore[union-attr]
    assert not torch.equal(first, second)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that can be out of reach; ``tries`` counts how often it was asked."""
    state: dict[str, Any] = {"reachable": True, "tries": 0}
    create = timm.create_model

    def create_model(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            state["tries"] += 1
            if not state["reachable"]:
                logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
                raise FileNotFoundError("the hub cannot be reached")
        model: nn.Module = create(name, pretrained=False, **options)
        if pretrained:
            with torch.no_grad():
                for p in model.parameters():
                    p.fill_(0.125)
        return model

    monkeypatch.setattr(timm, "create_model", create_model)
    backbones._timm_state.cache_clear()
    yield state
    backbones._timm_state.cache_clear()


def test_pretrained_weights_reach_every_sub_classifier(hub: dict[str, Any]) -> None:
    network = GradingNetwork(3, backbone=TINY, pretrained=True)
    assert network.initial_weights == "pretrained (timm)"
    for member in network.members:
        assert all((p == 0.125).all() for p in member.backbone.parameters())  # type: ignore[union-attr]


def test_without_the_hub_it_starts_random_and_says_so(hub: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    hub["reachable"] = False
    with caplog.at_level(logging.WARNING):
        network = GradingNetwork(3, backbone=TINY, pretrained=True)
        GradingNetwork(3, backbone=TINY, pretrained=True)
    assert network.initial_weights.startswith("random")
    assert "test_resnet" in caplog.text and "the hub cannot be reached" in caplog.text
    assert "Retrying" not in caplog.text
    assert hub["tries"] == 1  # each try costs most of a minute
    first, second = (next(member.backbone.parameters()) for member in network.members)  # type: ignore[union-attr]
    assert not torch.equal(first, second)


def test_a_picture_in_channels_last_grades_the_same() -> None:
    network = GradingNetwork(3, backbone=TINY).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        plain = network.with_maps(image)
        last = network.to(memory_format=torch.channels_last).with_maps(
            image.contiguous(memory_format=torch.channels_last)
        )
    for a, b in zip(plain, last, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert functional.softmax(plain[0], dim=-1).isfinite().all()
