"""Disc and fovea of a photograph by the localiser of the package, on one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.measuring import Figure, of_rounds, show
from fundusnet.landmarks.localizer import shipped

ROUNDS = 20


def measure() -> Iterator[Figure]:
    """Milliseconds of a prepared picture of 512 pixels."""
    torch.set_num_threads(1)
    localizer = shipped("cpu")
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    localizer.in_prepared(picture)
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        localizer.in_prepared(picture)
        taken.append(1000 * (time.process_time() - start))
    yield of_rounds(
        "disc and fovea of a photograph",
        "a limit",
        taken,
        goal=60.0,
        limit=True,
        unit=" ms",
        miss="the dilated convolutions of its head take a sixth; shared cores lengthen even processor time",
    )


if __name__ == "__main__":
    show(measure())
