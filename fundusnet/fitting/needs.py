"""What a fit will need on this machine, from a step that is measured: memory, time, room for stored features."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from fundusnet.fitting.memory import activation_bytes, free_bytes, weight_bytes
from fundusnet.fitting.precision import has_bf16, step_seconds
from fundusnet.networks.fusing import fused

TRIED = 4  # images of the measured step


@dataclass(frozen=True)
class PlannedFit:
    """One kind of fit of a run: its module, its epochs, and how often it is done on other data."""

    module: pl.LightningModule
    epochs: int
    count: int = 1


@dataclass(frozen=True)
class Needs:
    """What one network needs.

    Attributes:
        step_bytes: Memory of a training step of one batch, and of the weights.
        free_bytes: What is free of it on the device.
        step_seconds: Seconds of training for each image.
        feature_bytes: Of the stored features of one image and view; 0 if the backbone is trained.
        feature_seconds: Seconds to compute them.
    """

    step_bytes: float
    free_bytes: float
    step_seconds: float
    feature_bytes: int = 0
    feature_seconds: float = 0.0


def measure(module: Any, size: int, batch_size: int, device: torch.device) -> Needs:
    """Time a step of ``module``, and what its backbone computes once where it is frozen.

    Args:
        module: A LightningModule of either task with ``network``; moved to ``device``.
        size: Side of an image in pixels.
        batch_size: Images of a step.
        device: Where it will be trained.
    """
    image = torch.rand(TRIED, 3, size, size)
    network = module.network
    bf16 = device.type == "cuda" or has_bf16()
    if not (getattr(network, "frozen", False) and getattr(module, "input", "image") == "image"):
        step = activation_bytes(network, image[:2]) / 2 * batch_size + weight_bytes(network)
        seconds = min(step_seconds(network, image, bf16=kind, device=device) for kind in {False, bf16}) / TRIED
        return Needs(step, free_bytes(device), seconds)
    network = network.to(device).eval()
    extracting = fused(network, lambda one: one.extract(image[:1].to(device)))
    with torch.inference_mode():
        features = extracting.extract(image.to(device))  # the first one is slower and does not count
        start = time.perf_counter()
        features = extracting.extract(image.to(device))
        features = [each.float().cpu() for each in features]
        seconds = (time.perf_counter() - start) / TRIED
    kept = sum(math.prod(each.shape[1:]) for each in features)
    inputs = [each.clone() for each in features]
    step = 4 * kept * batch_size + weight_bytes(network)
    return Needs(
        step,
        free_bytes(device),
        step_seconds(network, inputs, bf16=False, device=device) / TRIED,
        2 * kept,  # float16
        seconds,
    )
