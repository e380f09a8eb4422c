"""The memory of a training step, estimated from what a forward pass keeps."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from fundusnet.fitting import memory
from fundusnet.fitting.memory import activation_bytes, free_bytes, warn_if_too_large

CPU = torch.device("cpu")


def test_what_a_pass_keeps_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    image = torch.zeros(2, 3, 16, 16)
    # The input of either convolution, of which ReLU keeps the same; the weights do not count.
    assert activation_bytes(net, image) == 4 * 2 * 16 * 16 * (3 + 8)
    assert activation_bytes(net.requires_grad_(False), image) == 0


def test_the_network_is_left_as_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    activation_bytes(net, torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_that_does_not_fit_is_said_with_what_would(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, image = nn.Conv2d(3, 1, 1, bias=False), torch.zeros(2, 3, 100, 100)  # 120 kB an image
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1_500_000.0)
    with caplog.at_level(logging.WARNING):
        warn_if_too_large(net, image, 12, CPU)
        assert caplog.text == ""
        warn_if_too_large(net, image, 13, CPU)
    assert "a step of 13 images needs about 0.0 GB" in caplog.text
    assert "lower data.batch_size to 9, or data.size" in caplog.text


def test_the_free_memory_of_this_machine_is_read() -> None:
    assert 1e8 < free_bytes(CPU) < 1e14
