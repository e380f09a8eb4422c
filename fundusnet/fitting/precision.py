"""The precision of a fit: as asked for, or the faster one on this machine."""

from __future__ import annotations

import copy
import json
import logging
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fundusnet.errors import UserError
from fundusnet.system.devices import uses_gpu
from fundusnet.system.files import write_json
from fundusnet.system.locks import folder_lock

log = logging.getLogger(__name__)

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
CHOSEN = "precision.json"
#: bf16 must be faster by this factor, so that noise does not decide between equals
MARGIN = 1.1
_PROCESSOR = torch.device("cpu")


def check_precision(wanted: Precision, accelerator: str) -> None:
    """Raise UserError if the device does not support the precision asked for."""
    if wanted == "16-mixed" and not uses_gpu(accelerator):
        raise UserError("trainer.precision=16-mixed needs a GPU; on a processor use bf16-mixed or 32-true")


def choose_precision(
    wanted: Precision, accelerator: str, network: nn.Module, inputs: Callable[[], Any], folder: Path
) -> Precision:
    """The precision of a fit; ``auto`` is bf16 where it is faster.

    Every GPU that has bf16 computes faster with it. A processor that has it may not: depthwise convolutions are slower
    by half, others faster by as much. There a step of the network is timed with either.

    Args:
        wanted: Of the configuration.
        accelerator: That of ``trainer.accelerator``.
        network: What is trained.
        inputs: Loads a small batch of what it is called with: images, or the features that its ``decide`` takes.
        folder: Of the fit. What was measured is kept in it, so that all processes, and a resumed fit, compute alike.
    """
    check_precision(wanted, accelerator)
    if wanted != "auto":
        return wanted
    if uses_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if not has_bf16():
        return "32-true"
    place = folder / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    with folder_lock(place):
        if not (place / CHOSEN).is_file():
            batch = inputs()
            seconds = {name: step_seconds(network, batch, bf16=name != "32-true") for name in ("32-true", "bf16-mixed")}
            faster = "bf16-mixed" if seconds["32-true"] > MARGIN * seconds["bf16-mixed"] else "32-true"
            write_json(place / CHOSEN, {"precision": faster, "seconds": seconds})
            log.info("trainer.precision=auto: %s (%s)", faster, ", ".join(f"{n} {s:.3f} s" for n, s in seconds.items()))
        chosen: Precision = json.loads((place / CHOSEN).read_text())["precision"]
    return chosen


def step_seconds(
    network: nn.Module, inputs: Any, bf16: bool, limit: float = 0.5, device: torch.device = _PROCESSOR
) -> float:
    """Seconds of a forward and backward pass: the fastest of those that fit in ``limit`` seconds.

    The first, which also prepares kernels, does not count, unless it alone exceeds the limit. The network is left as it
    is.

    Args:
        network: What is trained.
        inputs: Images, or the list of features that its ``decide`` takes.
        bf16: Compute in mixed precision.
        limit: Seconds to spend.
        device: Where to compute.
    """
    trial = copy.deepcopy(network).to(device).train()
    inputs = inputs.to(device) if isinstance(inputs, Tensor) else [each.to(device) for each in inputs]
    call: Any = trial if isinstance(inputs, Tensor) else trial.decide

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = call(inputs)
        torch.autograd.backward(_total(outputs))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.random.fork_rng(devices=[]):
        first = _seconds(step)
        times = [first if first > limit else _seconds(step)]
        while sum(times) + min(times) < limit:
            times.append(_seconds(step))
    return min(times)


def _total(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs.float().sum()
    return torch.stack([_total(each) for each in outputs]).sum()


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def has_bf16() -> bool:
    """Whether this processor computes in bf16."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if platform.machine() == "x86_64" and cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
