"""Median time of a 512×512 region map on one core, against the limit of 10 ms."""

from __future__ import annotations

import statistics
import time

import numpy as np

from fundusnet.data.regions import region_map

LIMIT_MS = 10.0


def median_ms(size: int = 512, repeats: int = 200) -> float:
    """Median milliseconds of ``region_map`` over ``repeats`` geometries of either eye."""
    rng = np.random.default_rng(0)
    times = []
    for disc, fovea in rng.uniform(0, size, (repeats, 2, 2)):
        start = time.perf_counter()
        region_map((size, size), (disc[0], disc[1]), (fovea[0], fovea[1]))
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    measured = median_ms()
    share = measured / LIMIT_MS
    print(f"region_map 512x512: median {measured:.2f} ms, {share:.2f} of the limit of {LIMIT_MS:g} ms")
    if measured > LIMIT_MS:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
