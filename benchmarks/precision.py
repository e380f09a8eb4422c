"""Whether ``trainer.precision=auto`` picks the fastest of both precisions and layouts, and how long it takes.

For backbones whose convolutions gain or lose by bf16. The time of our choice (its precision, channels_last) is compared
with the best of all four, measured longer.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.measuring import Figure, alternate, of_rounds, once, show
from fundusnet.fitting.precision import choose_precision
from fundusnet.grading.network import GradingNetwork

BACKBONES = ("tf_efficientnet_lite0", "densenet121", "convnext_atto", "vit_small_patch16_224")
SIZE = 224
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def measure() -> Iterator[Figure]:
    """For each backbone the best over ours, and the seconds spent on choosing."""
    torch.set_num_threads(1)
    for backbone in BACKBONES:
        image = torch.rand(2, 3, SIZE, SIZE)
        network = GradingNetwork(2, backbone=backbone, cam_stride=16 if "vit" in backbone else 32).train()
        calls = {}
        for layout, memory_format in LAYOUTS.items():
            for precision in ("32-true", "bf16-mixed"):
                calls[f"{precision}, {layout}"] = _step(network, image, memory_format, precision == "bf16-mixed")
        with tempfile.TemporaryDirectory() as folder:
            network.to(memory_format=torch.channels_last)
            start = time.perf_counter()
            picture = image.contiguous(memory_format=torch.channels_last)
            chosen = choose_precision("auto", "cpu", network, lambda picture=picture: picture, Path(folder))
            spent = time.perf_counter() - start
        taken = alternate(calls, rounds=5)
        ours = f"{chosen}, channels_last"
        best = min(taken, key=lambda name, taken=taken: statistics.median(taken[name]))
        each = [b / a for a, b in zip(taken[ours], taken[best], strict=True)]
        times = ", ".join(f"{name} {1000 * statistics.median(seconds):.0f} ms" for name, seconds in taken.items())
        yield of_rounds(f"precision=auto, {backbone} ({chosen})", f"the best of four ({best})", each, goal=0.9,
                        detail=times, miss="model.channels_last=false is faster here")  # fmt: skip
        yield once("the same", "time to find out", spent, goal=2.0, limit=True, unit=" s")


def _step(network: GradingNetwork, image: torch.Tensor, memory_format: torch.memory_format, bf16: bool):  # type: ignore[no-untyped-def]
    def step() -> None:
        network.to(memory_format=memory_format)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(image.contiguous(memory_format=memory_format))
        logits.float().sum().backward()

    return step


if __name__ == "__main__":
    show(measure())
