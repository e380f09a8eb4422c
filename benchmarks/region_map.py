"""The region of every pixel of a 512×512 picture, over 200 geometries of either eye.

Each row of pixels is cut at the ten curves that separate the regions, and the definition is evaluated once per segment
instead of once per pixel. The result is identical (``tests/data/test_regions.py``) and takes a quarter of the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.measuring import Figure, of_rounds, show
from fundusnet.data.regions import region_map

GOAL, SIZE, GEOMETRIES = 10.0, 512, 200


def measure() -> Iterator[Figure]:
    """Milliseconds of a map."""
    taken = []
    for disc, fovea in np.random.default_rng(0).uniform(0, SIZE, (GEOMETRIES, 2, 2)):
        start = time.process_time()
        region_map((SIZE, SIZE), (disc[0], disc[1]), (fovea[0], fovea[1]))
        taken.append(1000 * (time.process_time() - start))
    yield of_rounds(f"region map, {SIZE}×{SIZE}", "a limit", taken, goal=GOAL, limit=True, unit=" ms")


if __name__ == "__main__":
    show(measure())
