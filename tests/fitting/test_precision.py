"""``trainer.precision=auto`` takes what is faster here, once for all processes of a fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fundusnet.fitting import precision
from fundusnet.fitting.precision import choose_precision, step_seconds


def batch() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [((1.0, 0.5), "bf16-mixed"), ((1.0, 1.4), "32-true"), ((1.0, 0.95), "32-true")],  # the last within the noise
)
def test_the_faster_one(
    seconds: tuple[float, float], chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda: True)
    monkeypatch.setattr(precision, "step_seconds", lambda network, inputs, bf16: seconds[bf16])
    found = choose_precision("auto", "cpu", nn.Conv2d(3, 4, 3), batch, tmp_path)
    assert found == chosen
    assert json.loads((tmp_path / "checkpoints" / "precision.json").read_text())["precision"] == chosen


def test_a_resumed_fit_and_other_processes_do_not_measure_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda: True)
    monkeypatch.setattr(precision, "step_seconds", lambda network, inputs, bf16: 1.0 - 0.5 * bf16)
    assert choose_precision("auto", "cpu", nn.Conv2d(3, 4, 3), batch, tmp_path) == "bf16-mixed"
    monkeypatch.setattr(precision, "step_seconds", lambda network, inputs, bf16: 1.0 + bf16)
    assert choose_precision("auto", "cpu", nn.Conv2d(3, 4, 3), batch, tmp_path) == "bf16-mixed"


def test_nothing_is_measured_without_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(precision, "step_seconds", fail)
    assert choose_precision("bf16-mixed", "cpu", nn.Conv2d(3, 4, 3), batch, tmp_path) == "bf16-mixed"
    monkeypatch.setattr(precision, "has_bf16", lambda: False)
    assert choose_precision("auto", "cpu", nn.Conv2d(3, 4, 3), batch, tmp_path) == "32-true"


@pytest.mark.parametrize("bf16", [False, True])
def test_a_timed_step_leaves_the_network_and_the_random_numbers_as_they_are(bf16: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, state = batch(), torch.get_rng_state()
    assert 0 < step_seconds(network, images, bf16=bf16, limit=0.01) < 5
    assert torch.equal(torch.get_rng_state(), state) and not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(("real", "chosen"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_that_only_emulates_bf16_does_not_take_it(
    real: bool, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "uses_gpu", lambda accelerator: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: real or including_emulation)
    assert choose_precision("auto", "gpu", nn.Conv2d(3, 4, 3), batch, tmp_path) == chosen
