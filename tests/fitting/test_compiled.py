"""torch.compile on request: the network computes through it, and its checkpoints stay as they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fundusnet.fitting.compiled import Compile


def test_the_network_is_compiled_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def compiled(call: Any, **options: Any) -> Any:
        return lambda *images: (calls.append(options), call(*images))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    module: Any = SimpleNamespace(network=network)
    Compile("reduce-overhead").on_fit_start(None, module)  # type: ignore[arg-type]
    network(torch.zeros(1, 3, 4, 4))
    assert [options["mode"] for options in calls] == ["reduce-overhead"]
    assert list(network.state_dict()) == ["0.weight", "0.bias"]
