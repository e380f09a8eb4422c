"""Training images a second and core: read, augmented, cues drawn, moved and pooled, put into batches.

``python benchmarks/pipeline.py`` prints the rate, and what each step takes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from fundusnet.data.augment import Augment
from fundusnet.data.datamodule import FindingsDataset, collate, max_pool
from fundusnet.data.regions import cue_mask

SIZE, BATCH, BATCHES, GOAL = 512, 32, 8, 120
DISC, FOVEA = (370.0, 250.0), (250.0, 260.0)


class Labels:
    """One finding, present in every other image: half of the cues have to be drawn."""

    label = np.tile(np.array([[0.0], [1.0]], dtype=np.float32), (BATCH, 1))
    cue_known = np.ones((2 * BATCH, 1), dtype=bool)

    def cue(self, row: int) -> np.ndarray:
        return cue_mask((SIZE, SIZE), DISC, FOVEA, [1 + row % 8])[None]


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    prepared: Any = SimpleNamespace(pixels=pixels)
    labels: Any = Labels()
    augment = Augment()
    dataset = FindingsDataset(prepared, labels, np.arange(2 * BATCH), SIZE // 32, augment)
    mask = labels.cue(1)

    def batch() -> None:
        collate([dataset[row, 0] for row in range(BATCH)])

    whole = milliseconds(batch, BATCHES) / BATCH
    steps: dict[str, Callable[[], object]] = {
        "augment, one mask": lambda: augment(pixels[0], mask, np.random.default_rng(0)),
        "augment, no mask": lambda: augment(pixels[0], mask[:0], np.random.default_rng(0)),
        "draw a cue": lambda: labels.cue(1),
        "pool a cue": lambda: max_pool(mask, SIZE // 32),
    }
    for name, step in steps.items():
        print(f"{name:20s} {milliseconds(step, 100):6.2f} ms")
    print(f"{'image, all of it':20s} {whole:6.2f} ms = {1000 / whole:.0f} images a second and core (goal {GOAL})")


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Processor time of one call: other work on the machine does not count."""
    call()
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats * 1000


if __name__ == "__main__":
    main()
