"""Readers that are simulated, for ``first_round.py``: they err, take time, and are pulled by suggestions.

The numbers are chosen, not measured on people. What is simulated with them shows what the tool records and computes,
not how people read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fundusnet.data.regions import REGIONS

NAMES = tuple(REGIONS.values())
Marks = dict[str, set[str]]


@dataclass(frozen=True)
class Habits:
    """How a reader reads; shares are probabilities, times are seconds.

    Attributes:
        overlooks: A finding that is there, in a photograph without suggestions or not suggested.
        imagines: A finding that is not there.
        misses_region: A region that a finding involves, if it is marked by hand.
        adds_region: Another region.
        looks_again: Sees a finding that was overlooked at first, where it is suggested.
        is_pulled: Confirms a suggestion of a finding that is not there.
        corrects_region: Changes a suggested region that differs from what the reader would have marked.
        looking, choosing, clicking, deciding: For the photograph; for each finding marked by hand; for each region
            clicked; for each suggestion confirmed or refused.
        spread: Standard deviation of the logarithm of the time for a photograph.
    """

    overlooks: float = 0.2
    imagines: float = 0.04
    misses_region: float = 0.25
    adds_region: float = 0.05
    looks_again: float = 0.7
    is_pulled: float = 0.3
    corrects_region: float = 0.5
    looking: float = 10.0
    choosing: float = 3.0
    clicking: float = 1.5
    deciding: float = 2.0
    spread: float = 0.25


@dataclass(frozen=True)
class Reading:
    """Findings with their regions, ``confirmed`` or ``refused`` by suggested finding, and seconds."""

    marks: Marks
    verdicts: dict[str, str]
    seconds: float


class SimulatedReader:
    """One reader with random numbers of its own."""

    def __init__(self, seed: int, habits: Habits) -> None:
        self._random, self._habits = np.random.default_rng(seed), habits

    def read(self, truth: Mapping[str, frozenset[str]], suggestion: Mapping[str, Any] | None = None) -> Reading:
        """Read a photograph.

        Args:
            truth: For every finding the regions that it involves; empty = absent.
            suggestion: What the server sent, if the photograph has one.
        """
        habits = self._habits
        marks, verdicts, seconds = self._unaided(truth), dict[str, str](), habits.looking
        suggested: Mapping[str, list[str]] = suggestion["findings"] if suggestion else {}
        for finding, regions in truth.items():
            own = marks.get(finding)
            if finding not in suggested:
                seconds += habits.choosing + habits.clicking * len(own) if own else 0
                continue
            confirms = bool(own) or self._happens(habits.looks_again if regions else habits.is_pulled)
            confirms &= bool(own or regions or suggested[finding])  # there has to be a region
            verdicts[finding] = "confirmed" if confirms else "refused"
            seconds += habits.deciding
            if confirms:
                marks[finding], clicks = self._corrected(set(suggested[finding]), own or set(regions))
                seconds += habits.clicking * clicks
        return Reading(marks, verdicts, seconds * float(np.exp(self._random.normal(0, habits.spread))))

    def _unaided(self, truth: Mapping[str, frozenset[str]]) -> Marks:
        """What the reader would mark without a suggestion."""
        habits = self._habits
        marks: Marks = {}
        for finding, regions in truth.items():
            if self._happens(1 - habits.overlooks if regions else habits.imagines):
                seen = {name for name in NAMES if name in regions and not self._happens(habits.misses_region)}
                more = {name for name in NAMES if name not in regions and self._happens(habits.adds_region)}
                marks[finding] = seen | more or {str(self._random.choice(sorted(regions) or NAMES))}
        return marks

    def _corrected(self, regions: set[str], own: set[str]) -> tuple[set[str], int]:
        """Suggested regions with some of the reader's own corrections, if there are any, and the clicks they took."""
        # In the order of names: that of a set is random.
        differs = [name for name in NAMES if (name in regions) != (name in own)] if own else []
        changed = {name for name in differs if self._happens(self._habits.corrects_region)}
        now = regions ^ changed
        return (now, len(changed)) if now else (regions or own, 0)

    def _happens(self, probability: float) -> bool:
        return bool(self._random.random() < probability)
