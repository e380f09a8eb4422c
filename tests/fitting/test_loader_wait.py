"""A fit that waits for its images says so once, with the remedy; one that does not says nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fundusnet.data.augment import Augment, Warp
from fundusnet.fitting import loader_wait
from fundusnet.fitting.loader_wait import LoaderWait, remedy


def epochs(
    monkeypatch: pytest.MonkeyPatch,
    wait: float,
    step: float,
    batches: int = 20,
    count: int = 1,
    start: float = 60.0,
    workers: int = 2,
    device: str = "cpu",
    on: str = "cpu",
    features: object = None,
) -> None:
    """Show the callback epochs whose batches take ``wait`` seconds to come and ``step`` to train on."""
    now = [0.0]
    monkeypatch.setattr(loader_wait.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(loader_wait, "cores", lambda: 8)
    data = SimpleNamespace(num_workers=workers, augment=Augment({"warp": Warp()}, on), features=features)
    trainer: Any = SimpleNamespace(is_global_zero=True, world_size=1, datamodule=data)
    callback: Any = LoaderWait()
    module: Any = SimpleNamespace(device=torch.device(device))
    for _ in range(count):
        callback.on_train_epoch_start(trainer, module)
        now[0] += start  # processes start
        for number in range(batches):
            now[0] += wait
            callback.on_train_batch_start(trainer, module, None, number)
            now[0] += step
            callback.on_train_batch_end(trainer, module, None, None, number)
        callback.on_train_epoch_end(trainer, module)


def test_the_wait_is_reported_once_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    epochs(monkeypatch, wait=0.3, step=0.7, count=3)
    assert [record.message for record in caplog.records] == [
        "the network waited for images 30 % of the time: raise data.num_workers from 2 to 8"
    ]


@pytest.mark.parametrize("times", [{"wait": 0.1, "step": 0.9}, {"wait": 0.9, "step": 0.1, "batches": 9}])
def test_a_short_wait_and_a_short_epoch_are_not(
    times: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    epochs(monkeypatch, **times)
    assert not caplog.records


def test_nothing_is_advised_where_features_are_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    epochs(monkeypatch, wait=0.3, step=0.7, features=object())
    assert not caplog.records


def test_where_every_core_loads_images_the_remedy_is_another() -> None:
    assert remedy(0, 2, can_augment=True) == "raise data.num_workers from 0 to 2"
    assert "data.num_workers=2 already uses every core; leave" in remedy(2, 2, can_augment=False)


@pytest.mark.parametrize(
    ("device", "on", "offered"), [("cuda", "cpu", True), ("cuda", "device", False), ("cpu", "cpu", False)]
)
def test_a_gpu_that_waits_is_offered_the_augmentation(
    device: str, on: str, offered: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    epochs(monkeypatch, wait=0.3, step=0.7, workers=8, device=device, on=on)
    assert ("data.augment_on=device" in caplog.text) is offered
