"""Simulated annotators: they mark findings by the regions touched, miss some and mark some that are absent (S1.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fundusnet.data.regions import REGIONS


def simulate_readings(
    touched: Mapping[str, frozenset[str]],
    annotators: int,
    rng: np.random.Generator,
    *,
    miss: float = 0.07,
    false_mark: float = 0.02,
) -> list[tuple[str, str, str]]:
    """The readings of one photograph by ``annotators``.

    Args:
        touched: For every finding, the regions that its lesions touch; empty = absent.
        miss: Probability that an annotator overlooks a present finding.
        false_mark: Probability that an annotator marks an absent finding.

    Returns:
        Rows (annotator_id, finding, regions); a reading without any finding is one row with an empty finding.
    """
    names = list(REGIONS.values())
    rows: list[tuple[str, str, str]] = []
    for number in range(1, annotators + 1):
        marks: list[tuple[str, str, str]] = []
        for finding, regions in touched.items():
            chance, guess = rng.random(), names[int(rng.integers(len(names)))]
            seen = chance >= miss if regions else chance < false_mark
            if seen:
                marked = [name for name in names if name in regions] or [guess]
                marks.append((f"reader{number}", finding, ";".join(marked)))
        rows += marks or [(f"reader{number}", "", "")]
    return rows
