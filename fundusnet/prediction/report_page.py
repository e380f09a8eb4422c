"""The report page of a folder of predictions: counts, and the photographs to look at first.

It is written from the finished tables, read one row at a time, and shows a limited number of photographs, so its size
does not depend on how many there are.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from fundusnet.data.appearance import FLAGS, UNCHECKED
from fundusnet.data.decode import Pixels, Unreadable
from fundusnet.evaluation import page
from fundusnet.prediction.heatmaps import HEATMAPS, file_name
from fundusnet.prediction.output_files import PREDICTIONS, REJECTED, read_record, read_rows
from fundusnet.prediction.preparation import InputSpec, prepare_photograph
from fundusnet.system.progress import track

TILE = 224  # pixels: side of a photograph on the page
BINS = 20  # of the histogram of probabilities
REASONS = 10  # most frequent reasons for rejection that are listed


@dataclass(frozen=True)
class Summary:
    """One photograph on the page.

    Attributes:
        image_id: As in ``predictions.csv``.
        path: As in ``predictions.csv``.
        scores: Finding → probability, or "grade" → expected grade.
        predicted: Finding or class → whether it is predicted.
        decision: The prediction in words.
        flags: As in ``predictions.csv``.
    """

    image_id: str
    path: str
    scores: dict[str, float]
    predicted: dict[str, bool]
    decision: str
    flags: tuple[str, ...]

    @property
    def unusual(self) -> list[str]:
        """Its flags, except the one about the checkpoint."""
        return [flag for flag in self.flags if flag != UNCHECKED]


@dataclass
class Tally:
    """Counts over all photographs, and the photographs to show; its size is bounded.

    Attributes:
        limit: Photographs to show, at most.
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
        """The photographs to show: flagged ones and the highest scores of each finding in turn, up to the limit."""
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


def write_page(folder: Path, output: Path, pictures: int) -> Path:
    """Write the report page of finished predictions.

    Args:
        folder: Output folder of ``fundusnet predict``.
        output: Where to write the page.
        pictures: Photographs on it, at most.

    Raises:
        UserError: The record of the predictions is missing or damaged.
    """
    record = read_record(folder)
    grades: list[str] = list(record.get("classes") or [])
    tally = Tally(pictures)
    for _, group in groupby(read_rows(folder / PREDICTIONS), key=lambda row: (row["path"], row["image_id"])):
        rows = list(group)
        if grades:
            tally.add(_grade_summary(rows[0]), highest=len(grades) - 1.0)
        else:
            tally.add(_findings_summary(rows))
    reasons = Counter(row["reason"] for row in read_rows(folder / REJECTED))
    values = {
        "title": f"{tally.photographs} photograph{'s' if tally.photographs != 1 else ''} "
        + ("graded" if grades else "read"),
        "record": record,
        "summary": list(_summary(record, tally)),
        "graded": bool(grades),
        "flags": [
            {"name": name, "words": words, "count": tally.flags[name]}
            for name, words in FLAGS.items()
            if tally.flags[name]
        ],
        "photographs": tally.photographs,
        "rejected": sum(reasons.values()),
        "reasons": reasons.most_common(REASONS),
        "names": list(tally.tops),
        "tiles": list(_tiles(folder, record, tally.selection())),
        "drawn": (folder / HEATMAPS).is_dir() and any((folder / HEATMAPS).iterdir()),
    }
    return page.write(page.render("fundusnet.prediction", "predictions.html.j2", **values), output)


def _findings_summary(rows: Sequence[dict[str, str]]) -> Summary:
    """From the rows of one photograph, one for each finding."""
    first = rows[0]
    present = [row["finding"] for row in rows if row["predicted"] == "1"]
    return Summary(
        first["image_id"],
        first["path"],
        {row["finding"]: float(row["probability"]) for row in rows},
        {row["finding"]: row["predicted"] == "1" for row in rows},
        ", ".join(present).replace("_", " ") or "nothing found",
        _split_flags(first),
    )


def _grade_summary(row: dict[str, str]) -> Summary:
    # The sum is the expected grade, which also sorts photographs of the same predicted grade.
    expected = sum(float(value) for name, value in row.items() if name.startswith("p_gt_"))
    name = row["class"]
    return Summary(row["image_id"], row["path"], {"grade": expected}, {name: True}, name, _split_flags(row))


def _split_flags(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(filter(None, row["flags"].split(";")))


def _summary(record: dict[str, Any], tally: Tally) -> Iterator[dict[str, Any]]:
    total = max(tally.photographs, 1)
    for name in record.get("classes") or []:
        yield {"name": name, "count": tally.present[name], "share": tally.present[name] / total}
    for each in record.get("findings") or []:
        counts = tally.bins.get(each["name"], [0] * BINS)
        yield {
            "name": each["name"],
            "count": tally.present[each["name"]],
            "share": tally.present[each["name"]] / total,
            "threshold": each["operating_point"],
            "networks": each["networks"],
            # Square roots, so that a few high probabilities stay visible beside many low ones.
            "bars": [round(float(np.sqrt(count / max(*counts, 1))) * 100, 1) for count in counts],
            "counts": counts,
        }


def _tiles(folder: Path, record: dict[str, Any], chosen: Sequence[Summary]) -> Iterator[dict[str, Any]]:
    points = {each["name"]: each["operating_point"] for each in record.get("findings") or []}
    side_by_side = bool(record["heatmaps"]["side_by_side"])
    for summary in track(chosen, "drawing the page"):
        # One map for each photograph keeps the page small: that of the finding furthest above its operating point.
        leading = max(points, key=lambda name: summary.scores[name] - points[name], default="")
        file = f"{HEATMAPS}/{file_name(summary.image_id, leading)}"
        heat = _read_heatmap(folder / file, side_by_side)
        yield {
            "summary": summary,
            "photograph": _thumbnail(Path(record["input"]) / summary.path),
            "heat": page.jpeg(heat) if heat is not None else None,
            "of": leading,
            "link": quote(file) if heat is not None else None,
        }


def _thumbnail(file: Path) -> str | None:
    """The photograph as a data URI; None if the file can no longer be read."""
    try:
        return page.jpeg(prepare_photograph(file, [InputSpec(TILE, None)]).pixels[TILE])
    except Unreadable:
        return None


def _read_heatmap(file: Path, side_by_side: bool) -> Pixels | None:
    if not file.is_file():
        return None
    pixels = cv2.imdecode(np.fromfile(file, dtype=np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        return None
    if side_by_side:
        pixels = pixels[:, pixels.shape[1] // 2 :]
    small = cv2.resize(pixels, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return np.asarray(small[:, :, ::-1], dtype=np.uint8)
