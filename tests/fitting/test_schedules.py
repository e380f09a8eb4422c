"""Schedules against hand-worked learning rates, and stepped as often as they say."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fundusnet.fitting.schedules import build_schedule, cosine, warmup_cosine


def optimizer(lr: float = 2.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(schedule: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return found


def test_warm_up_then_half_a_cosine() -> None:
    found = rates(warmup_cosine(optimizer(2.0), steps=10, warmup=0.4), 11)
    rising = [2 * share for share in (0.25, 0.5, 0.75, 1.0)]
    falling = [1 + math.cos(math.pi * step / 6) for step in range(6)]
    assert found == pytest.approx([*rising, *falling, 0.0], abs=1e-12)


def test_no_warm_up_starts_at_the_rate() -> None:
    assert rates(warmup_cosine(optimizer(2.0), steps=4, warmup=0.0), 1) == [2.0]


def test_a_schedule_says_how_often_it_moves_on() -> None:
    trainer: Any = SimpleNamespace(estimated_stepping_batches=40, max_epochs=4)
    by_step, by_epoch = (build_schedule(kind, optimizer(), trainer) for kind in (warmup_cosine, cosine))
    assert (by_step["interval"], by_epoch["interval"]) == ("step", "epoch")
    assert rates(by_step["scheduler"], 41)[-1] == pytest.approx(0)
    assert rates(by_epoch["scheduler"], 5)[-1] == pytest.approx(0)
