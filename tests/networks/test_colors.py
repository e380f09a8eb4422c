"""Colour statistics against NumPy, and as a backbone of both methods."""

from __future__ import annotations

import numpy as np
import torch

from fundusnet.findings.network import GuidedTimm
from fundusnet.grading.network import GradingNetwork
from fundusnet.networks.colors import ColorStatistics


def test_statistics_are_those_of_numpy() -> None:
    images = torch.rand(2, 3, 64, 64)
    found = ColorStatistics().forward_features(images)
    assert found.shape == (2, 21, 1, 1)
    for image, values in zip(images.numpy(), found.view(2, 3, 7).numpy(), strict=True):
        for channel, (mean, deviation, *quantiles) in zip(image, values, strict=True):
            assert np.isclose(mean, channel.mean()) and np.isclose(deviation, channel.std(ddof=1))
            np.testing.assert_allclose(quantiles, np.quantile(channel, [0.05, 0.25, 0.5, 0.75, 0.95]), rtol=1e-4)


def test_where_things_are_does_not_matter() -> None:
    images = torch.rand(2, 3, 128, 128)
    torch.testing.assert_close(
        ColorStatistics().forward_features(images), ColorStatistics().forward_features(images.flip(3))
    )


def test_both_methods_take_it_for_a_backbone() -> None:
    images = torch.rand(2, 3, 64, 64)
    logit_map, logit = GuidedTimm("color_statistics", 2, dilations=[], freeze="all")(images)
    assert logit_map.shape == (2, 2, 1, 1) and torch.equal(logit_map[..., 0, 0], logit)
    network = GradingNetwork(4, "multiclass", "color_statistics", 32, hidden=None, standardize=True, freeze="all")
    assert network(images).shape == (2, 4)
    statistics = ColorStatistics().forward_features(images)[..., 0, 0]
    assert torch.equal(network.extract(images)[0], statistics)  # in [0, 1]: not normalised as for ImageNet
