"""Counts over all predicted photographs, and those that the page lists; memory stays bounded however many there are."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from fundusnet.data.appearance import UNCHECKED

BINS = 20  # of the histogram of probabilities


@dataclass(frozen=True)
class Summary:
    """One photograph on the page.

    Attributes:
        image_id: As in ``predictions.csv``.
        path: As in ``predictions.csv``.
        scores: Finding or landmark → probability, or "grade" → expected grade.
        predicted: Finding, landmark or class → whether it is predicted.
        flags: As in ``predictions.csv``.
        rows: Its rows of ``predictions.csv``.
    """

    image_id: str
    path: str
    scores: dict[str, float]
    predicted: dict[str, bool]
    flags: tuple[str, ...]
    rows: tuple[dict[str, str], ...] = ()

    @property
    def unusual(self) -> list[str]:
        """Its flags, except the one about the checkpoint."""
        return [flag for flag in self.flags if flag != UNCHECKED]


def summary_of(rows: Sequence[dict[str, str]]) -> Summary:
    """From the rows of one photograph: one for each finding or landmark, or the one with its grade."""
    first, kind = rows[0], kind_of(rows[0])
    flags = tuple(filter(None, first["flags"].split(";")))
    if kind is not None:
        scores = {row[kind]: float(row["probability"]) for row in rows}
        predicted = {row[kind]: row["predicted"] == "1" for row in rows}
    else:
        # The sum is the expected grade, which also sorts photographs of the same predicted grade.
        scores = {"grade": sum(float(value) for name, value in first.items() if name.startswith("p_gt_"))}
        predicted = {first["class"]: True}
    return Summary(first["image_id"], first["path"], scores, predicted, flags, tuple(rows))


def kind_of(row: Mapping[str, str]) -> str | None:
    """The column that names what a row is about; None for one with a grade."""
    return next((name for name in ("finding", "landmark") if name in row), None)


@dataclass
class Tally:
    """Counts over all photographs, and the photographs to list; its size is bounded.

    Attributes:
        limit: Photographs to list, at most.
        photographs: How many were added.
        present: Finding or class → photographs it is predicted for.
        flags: Flag → photographs.
        bins: Score name → histogram.
        tops: Score name → heap of the photographs with the highest scores.
        flagged: The first photographs with an unusual flag.
    """

    limit: int
    photographs: int = 0
    present: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    bins: dict[str, list[int]] = field(default_factory=dict)
    tops: dict[str, list[tuple[float, int, Summary]]] = field(default_factory=dict)
    flagged: list[Summary] = field(default_factory=list)

    def add(self, summary: Summary, highest: float = 1.0) -> None:
        """Count a photograph, whose scores lie between 0 and ``highest``."""
        self.photographs += 1
        self.flags.update(summary.flags)
        if summary.unusual and len(self.flagged) < self.limit:
            self.flagged.append(summary)
        for name, score in summary.scores.items():
            counts = self.bins.setdefault(name, [0] * BINS)
            counts[min(int(score / highest * BINS), BINS - 1)] += 1
            heap = self.tops.setdefault(name, [])
            entry = (score, -self.photographs, summary)  # of equal scores the earlier photograph stays
            if len(heap) < self.limit:
                heapq.heappush(heap, entry)
            elif self.limit:
                heapq.heappushpop(heap, entry)
        self.present.update(name for name, yes in summary.predicted.items() if yes)

    def selection(self) -> list[Summary]:
        """The photographs to list: flagged ones and the highest scores of each finding in turn, up to the limit."""
        lists: list[Iterable[Summary]] = [self.flagged]
        lists += [[summary for _, _, summary in sorted(heap, reverse=True)] for heap in self.tops.values()]
        found: dict[str, Summary] = {}
        for summary in chain.from_iterable(zip_longest(*lists)):
            if len(found) >= self.limit:
                break
            if summary is not None:
                found.setdefault(summary.image_id, summary)
        first = next(iter(self.tops), "")
        return sorted(found.values(), key=lambda summary: -summary.scores.get(first, 0))
