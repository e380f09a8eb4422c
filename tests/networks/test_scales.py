"""Maps of several strides: which they are, how they are brought to one size, and what is left of the backbone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional

from fundusnet.errors import UserError
from fundusnet.findings.network import GuidedTimm
from fundusnet.grading.network import GradingNetwork, correlations
from fundusnet.networks.backbones import bare_backbone
from fundusnet.networks.scales import JoinedMaps, Scales, resize, resize_keeping_mean

TINY = "test_resnet"


@pytest.mark.parametrize("name", [TINY, "densenet121", "inception_v3", "tf_efficientnet_lite0", "test_convnext"])
def test_maps_are_those_of_features_only(name: str) -> None:
    reference = timm.create_model(name, features_only=True, out_indices=(-3, -2, -1)).eval()
    backbone = bare_backbone(name).eval()
    own = backbone.state_dict()
    # The same layers under other names, where timm flattens them.
    reference.load_state_dict({key: own[_unflattened(key, own)] for key in reference.state_dict()})
    scales = Scales(backbone, name, [32, 8, 16])
    image = torch.rand(1, 3, 140, 140)
    with torch.no_grad():
        found, expected = scales(backbone, image), reference(image)
    for one, other, channels in zip(found, [expected[2], *expected[:2]], scales.channels, strict=True):
        torch.testing.assert_close(one, other)
        assert one.shape[1] == channels
    assert scales.size(found) == found[0].shape[-2:]


def _unflattened(key: str, names: dict[str, Tensor]) -> str:
    return next(name for name in names if name.replace(".", "_") == key.replace(".", "_"))


def test_layers_after_the_last_map_are_removed() -> None:
    backbone = bare_backbone(TINY)
    whole = len(list(backbone.parameters()))
    scales = Scales(backbone, TINY, [8, 16])
    scales.prune(backbone)
    sum(each.sum() for each in scales(backbone, torch.rand(2, 3, 64, 64))).backward()
    assert len(list(backbone.parameters())) < whole
    # Several processes refuse to train weights that take no part.
    assert all(p.grad is not None for p in backbone.parameters())


@torch.no_grad()
def test_layers_after_the_last_map_are_not_computed() -> None:
    """A close-up needs less of the backbone than the whole picture, so nothing of it is removed."""
    backbone = bare_backbone("tf_efficientnet_lite0").eval()
    computed = set[int]()
    for number, block in enumerate(backbone.blocks):
        block.register_forward_hook(lambda *_, number=number: computed.add(number))
    Scales(backbone, "tf_efficientnet_lite0", [4, 8])(backbone, torch.rand(1, 3, 64, 64))
    assert computed == {0, 1, 2}


def test_networks_keep_no_weights_that_take_no_part() -> None:
    networks: list[Any] = [
        GuidedTimm(TINY, pyramid_width=4, strides=[8, 16]),
        GradingNetwork(3, backbone=TINY, strides=[8, 16]),
    ]
    for network in networks:
        found = network(torch.rand(2, 3, 64, 64))
        (found if isinstance(found, Tensor) else found[1]).sum().backward()
        assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "strides", "map_stride", "message"),
    [
        (TINY, [8, 12], None, r"strides=\[8, 12\] do not fit test_resnet; choose from 2, 4, 8, 16, 32"),
        (TINY, [], None, r"strides=\[\] do not fit"),
        ("test_convnext", [2, 4], None, "choose from 4, 8, 16, 32"),
        (TINY, [8, 16], 32, r"stride 32 is not in model\.network\.strides=\[8, 16\]; add it"),
    ],
)
def test_strides_that_the_backbone_does_not_have(
    name: str, strides: list[int], map_stride: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Scales(bare_backbone(name), name, strides, map_stride)


def test_larger_maps_are_pooled_and_smaller_ones_upsampled() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(resize(maps, (2, 2))[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    torch.testing.assert_close(resize(maps, (2, 2), "max")[0, 0], torch.tensor([[5.0, 7.0], [13.0, 15.0]]))
    torch.testing.assert_close(
        resize(maps, (8, 8)), functional.interpolate(maps, size=(8, 8), mode="bilinear", align_corners=False)
    )
    assert resize(maps, (4, 4)) is maps
    assert resize(maps, (3, 3), "max").max() == 15


@pytest.mark.parametrize("size", [(4, 4), (2, 2), (8, 8), (3, 5), (7, 6)])
def test_resized_maps_keep_their_mean(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, 4, 4)
    resized = resize_keeping_mean(maps, size)
    assert resized.shape[-2:] == size
    torch.testing.assert_close(resized.mean(dim=(2, 3)), maps.mean(dim=(2, 3)))


def test_joined_maps_are_normalised_each_on_its_own() -> None:
    joined = JoinedMaps([2, 3])([5 + 100 * torch.randn(4, 2, 8, 8), 1e-2 * torch.randn(4, 3, 4, 4)], (4, 4))
    assert joined.shape == (4, 5, 4, 4)
    torch.testing.assert_close(joined.mean(dim=(0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(joined.std(dim=(0, 2, 3)), torch.ones(5), atol=0.1, rtol=0)


@pytest.mark.parametrize("downsampling", ["average", "max"])
@pytest.mark.parametrize(("map_stride", "cells"), [(8, 12), (16, 6), (32, 3), (None, 3)])
def test_guided_head_over_joined_maps(map_stride: int | None, cells: int, downsampling: Any) -> None:
    network = GuidedTimm(
        TINY, 2, pyramid_width=4, strides=[8, 16, 32], map_stride=map_stride, downsampling=downsampling
    ).eval()
    first: Any = network.heads[0]
    assert first.branches[0][0].in_channels == 48 + 192 + 96
    image = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        logit_map, logit = network(image)
        assert logit_map.shape == (2, 2, cells, cells) and logit.shape == (2, 2)
        # By hand: normalise, take the maps, bring them to one size, norm, pyramid.
        maps = network.backbone.forward_intermediates((image - 0.5) / 0.5, indices=[2, 3, 4], intermediates_only=True)
        same = [resize(each, (cells, cells), downsampling) for each in maps]
        assert network.join is not None
        expected = first(torch.cat([n(m) for n, m in zip(network.join.norms, same, strict=True)], dim=1))[0]
    torch.testing.assert_close(logit_map[:, :1], expected)


def test_a_map_stride_needs_strides() -> None:
    with pytest.raises(UserError, match=r"map_stride=8 needs model\.network\.strides"):
        GuidedTimm(TINY, map_stride=8)


def test_the_last_map_alone_has_the_weights_it_had() -> None:
    names = set(GuidedTimm(TINY, pyramid_width=4).state_dict())
    assert {name.partition(".")[0] for name in names} == {"backbone", "heads"}
    assert {name for name in names if name.startswith("backbone.")} == {
        f"backbone.{name}" for name in bare_backbone(TINY).state_dict()
    }


@pytest.mark.parametrize("head", ["ranking", "multiclass", "coral", "corn"])
@pytest.mark.parametrize(("stride", "size"), [(8, 96), (16, 96), (32, 96), (16, 100), (8, 75)])
def test_class_activation_maps_over_strides_belong_to_the_logits(head: Any, stride: Any, size: int) -> None:
    network = GradingNetwork(3, head, TINY, stride, strides=[8, 16, 32]).eval()
    member: Any = network.members[0]
    assert member.classifier.in_features == 48 + 192 + 96
    image = torch.rand(2, 3, size, size)
    with torch.no_grad():
        logits, maps = network.with_maps(image)
        torch.testing.assert_close(logits, network(image))
        features = member.features(network.normalize(image))
        # The textbook order: pool each map, join, classify.
        pooled = torch.cat([each.mean(dim=(2, 3)) for each in features], dim=1)
        bias = member.thresholds if head == "coral" else member.classifier.bias
        torch.testing.assert_close(member.classify(member.pool(features)), pooled @ member.classifier.weight.T + bias)
    assert maps.shape[-2:] == features[[8, 16, 32].index(stride)].shape[-2:]
    means = maps.mean(dim=(-2, -1))
    if head == "ranking":
        biases = torch.stack([m.classifier.bias for m in network.members])  # type: ignore[union-attr, misc]
        torch.testing.assert_close(means + biases, logits)
    elif head == "multiclass":
        torch.testing.assert_close(means + bias, logits)
    else:
        torch.testing.assert_close(means[..., 1] - means[..., 0] + bias, logits)


def test_each_map_counts_the_same_however_many_channels_it_has() -> None:
    network = GradingNetwork(3, backbone=TINY, hidden=8, strides=[8, 16, 32], pooling="mean_std", standardize="maps")
    member: Any = network.members[0]
    seen: list[torch.Tensor] = []
    member.hidden.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    member.train()
    with torch.no_grad():
        member.classify(torch.randn(5000, sum(member.channels) * 2) * 3 + 1)
    variances = [part.var(dim=0).sum().item() for part in seen[0].split([48, 192, 96] * 2, dim=1)]
    # The total is that of features of unit deviation, so that the same learning rate fits.
    assert variances == pytest.approx([(48 + 192 + 96) * 2 / 6] * 6, rel=0.01)


def test_correlations_are_those_of_numpy_over_the_cells() -> None:
    maps = torch.randn(2, 5, 6, 7) * torch.tensor([1.0, 3, 0.5, 2, 1]).view(5, 1, 1) + 4
    maps[:, 3] = maps[:, 0] * -2 + maps[:, 3] * 0.1  # nearly opposed
    maps[:, 4] = 7.0
    found = correlations(maps)
    with np.errstate(invalid="ignore"):
        expected = np.stack([np.corrcoef(each.flatten(1).double())[np.triu_indices(5, 1)] for each in maps])
    np.testing.assert_allclose(found, np.nan_to_num(expected), atol=4e-3)  # nan: the constant channel
    assert found[:, 2].max() < -0.98 and found.abs().max() <= 1
    maps.requires_grad_()
    correlations(maps).square().sum().backward()
    assert maps.grad is not None and maps.grad.isfinite().all()


def test_correlations_over_many_cells_fit_into_16_bits() -> None:
    maps = torch.randn(1, 1, 300, 300).repeat(1, 2, 1, 1)
    assert correlations(maps.half()).item() == pytest.approx(1, abs=0.01)


def test_correlations_are_pooled_of_maps_with_few_channels_alone() -> None:
    network = GradingNetwork(
        3, backbone=TINY, hidden=8, strides=[8, 16, 32], pooling="mean_std_correlation", standardize="maps"
    )
    member: Any = network.members[0]
    features = [torch.randn(4, channels, 4, 4) for channels in (48, 192, 96)]
    pooled = member.pool(features)
    expected = [correlations(features[0]), correlations(features[2])]
    sizes = [48 + 192 + 96, 48 + 192 + 96, 48 * 47 // 2, 96 * 95 // 2]
    assert pooled.shape[1] == sum(sizes)
    torch.testing.assert_close(pooled[:, sum(sizes[:2]) :], torch.cat(expected, dim=1))
    # Eight kinds of features, which count the same.
    per_kind = [48, 192, 96] * 2 + sizes[2:]
    shares = [part.square().sum().item() for part in member.shares.split(per_kind)]
    assert shares == pytest.approx([sum(per_kind) / 8] * 8, rel=1e-4)
    plain = GradingNetwork(3, backbone=TINY, hidden=8, strides=[8, 16, 32], pooling="mean_std")
    assert plain.extracted != network.extracted  # each has stored features of its own


@pytest.mark.parametrize(("strides", "warned"), [([16], True), ([16, 32], False)])  # 192 and 96 channels
def test_correlations_that_no_map_has_are_said_to_be_missing(
    strides: list[int], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    network = GradingNetwork(3, backbone=TINY, hidden=8, strides=strides, pooling="mean_std_correlation").eval()
    expected = ["test_resnet has no map of at most 128 channels in model.network.strides: no correlations"]
    assert caplog.messages == expected * warned
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 2, 2)


def test_a_backbone_sees_the_picture_at_several_sizes() -> None:
    small, both = (
        GradingNetwork(3, backbone=TINY, hidden=8, strides=[16, 32], pooling="mean_std", shrink=shrink).eval()
        for shrink in ([4], [1, 4])
    )
    both.load_state_dict(small.state_dict() | {k: v for k, v in both.state_dict().items() if "backbone" not in k})
    image = torch.rand(2, 3, 128, 128)
    as_it_is = GradingNetwork(3, backbone=TINY, hidden=8, strides=[16, 32], pooling="mean_std").eval()
    for own, of in zip(as_it_is.members, small.members, strict=True):
        own.backbone.load_state_dict(of.backbone.state_dict())  # type: ignore[union-attr, operator]
    # Means come first, then deviations: of the whole picture, of the shrunken one.
    expected = [as_it_is.extract(image)[0], as_it_is.extract(functional.avg_pool2d(image, 4))[0]]
    (large_mean, large_std), (small_mean, small_std) = (each.chunk(2, dim=1) for each in expected)
    torch.testing.assert_close(small.extract(image)[0], expected[1])
    torch.testing.assert_close(both.extract(image)[0], torch.cat([large_mean, small_mean, large_std, small_std], dim=1))
    names = {network.extracted for network in (small, both, as_it_is)}
    assert len(names) == 3  # each has stored features of its own


def test_guided_maps_of_a_smaller_picture_are_joined_at_the_size_of_the_first() -> None:
    network = GuidedTimm(TINY, strides=[8, 16], map_stride=8, shrink=[1, 2], reduction=4, downsampling="max").eval()
    as_it_is = GuidedTimm(TINY, strides=[8, 16], map_stride=8, reduction=4, downsampling="max").eval()
    as_it_is.backbone.load_state_dict(network.backbone.state_dict())
    image = torch.rand(2, 3, 128, 128)
    maps = network.extract(image)
    expected = [*as_it_is.extract(image), *as_it_is.extract(functional.avg_pool2d(image, 2))]
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert network(image)[0].shape == as_it_is(image)[0].shape == (2, 1, 16, 16)
    assert network.extracted != as_it_is.extracted


@pytest.mark.parametrize(("options", "message"), [
    ({"shrink": [], "strides": [16]}, "model.network.shrink=[] leaves no picture"),
    ({"shrink": [1, 2]}, "model.network.shrink=[1, 2] needs model.network.strides"),
])  # fmt: skip
@pytest.mark.parametrize(
    "network", [GuidedTimm, lambda backbone, **options: GradingNetwork(3, backbone=backbone, **options)]
)
def test_sizes_of_the_picture_that_cannot_be_are_refused(network: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        network(TINY, **options)


def test_a_hidden_layer_takes_the_joined_features() -> None:
    network = GradingNetwork(3, backbone=TINY, hidden=8, strides=[16, 32], cam_stride=8)
    member: Any = network.members[0]
    assert member.hidden[0].in_features == 192 + 96
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 2, 2)


@pytest.mark.parametrize(
    "network",
    [
        GuidedTimm(TINY, 2, strides=[8, 16, 32], map_stride=16, downsampling="max", top_share=0.05),
        GuidedTimm(TINY, 2, strides=[8, 16, 32], map_stride=16),
        GradingNetwork(3, backbone=TINY, strides=[8, 16, 32]),
        GradingNetwork(3, backbone=TINY, strides=[8, 16, 32], hidden=8, pooling="mean_std_correlation"),
    ],
    ids=["max", "average", "grading", "correlations"],
)
def test_networks_over_strides_export_to_onnx(network: torch.nn.Module) -> None:
    import onnxruntime

    images = torch.rand(3, 3, 64, 64)
    program = torch.onnx.export(
        network.eval(), (images[:2],), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        expected = network(images)
    for one, other in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4)
