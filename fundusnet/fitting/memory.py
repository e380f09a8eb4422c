"""Whether a training step fits into memory, before the first one: a process that runs out of it is killed unheard."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

# Copies of the weights in training: themselves, their gradients, two moments of the optimiser.
_COPIES = 4


def warn_if_too_large(network: nn.Module, image: Tensor, batch_size: int, device: torch.device) -> None:
    """Log a warning if a step of ``batch_size`` images needs more memory than is free.

    Args:
        network: To be trained; left as it is.
        image: ``(2, 3, S, S)`` where the network is now.
        batch_size: Images of a step on one device.
        device: Where it will be trained.
    """
    each = activation_bytes(network, image) / len(image)
    weights = weight_bytes(network)
    free = free_bytes(device)
    if each * batch_size + weights <= free:
        return
    fits = max(int((0.8 * free - weights) // each), 0)
    log.warning(
        "a step of %d images needs about %.1f GB, and %.1f GB are free: lower data.batch_size%s, or data.size",
        batch_size,
        (each * batch_size + weights) / 1e9,
        free / 1e9,
        f" to {fits}" if fits else "",
    )


def weight_bytes(network: nn.Module) -> int:
    """Bytes of the weights of a network in training, with their gradients and the moments of the optimiser."""
    return _COPIES * sum(value.numel() * value.element_size() for value in network.parameters() if value.requires_grad)


def activation_bytes(network: nn.Module, image: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, without the weights."""
    own = {value.data_ptr() for value in network.parameters()}
    kept: dict[int, int] = {}

    def count(value: Tensor) -> Tensor:
        if (place := value.data_ptr()) not in own:  # views share the place of what they show
            kept[place] = max(kept.get(place, 0), value.numel() * value.element_size())
        return value

    training = network.training
    network.eval()  # batch-norm statistics stay as they are
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        network(image)
    network.train(training)
    return sum(kept.values())


def free_bytes(device: torch.device) -> float:
    """Memory that a process can still take on ``device``; infinite where it cannot be read."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    found = [float("inf")]
    meminfo, limit, used = (
        Path(name) for name in ("/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")
    )
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        found.append(1024 * float(lines["MemAvailable"].split()[0]))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdecimal():
        found.append(float(most) - float(used.read_text()))
    return min(found)
