"""The page over a folder of predictions: how many of what, and the pictures to look at first.

It is made from the tables when they are finished, a row at a time, and shows so many pictures and no more: its size
does not hang on the number of photographs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from fundusnet.data.appearance import FLAGS, UNCHECKED
from fundusnet.data.decode import Pixels, Unreadable
from fundusnet.evaluation import page
from fundusnet.prediction.heatmaps import FOLDER, file_name
from fundusnet.prediction.picture import View, read_picture
from fundusnet.prediction.tables import PREDICTIONS, REJECTED, read_record, read_rows
from fundusnet.system.progress import track

TILE = 224  # pixels: side of a picture on the page
BINS = 20
REASONS = 10  # kinds of rejected files that are named


@dataclass(frozen=True)
class Shown:
    """One photograph as the page tells of it: ``scores`` by finding, or one for a grade; ``words`` what was decided."""

    image_id: str
    path: str
    scores: dict[str, float]
    predicted: dict[str, bool]
    words: str
    flags: tuple[str, ...]

    @property
    def strange(self) -> list[str]:
        """Its flags, without the one that is about the checkpoint."""
        return [flag for flag in self.flags if flag != UNCHECKED]


@dataclass
class Tally:
    """What is counted on the way through the table.

    ``tops`` holds the pictures with the highest scores of each finding, ``flagged`` the first ones with a flag; neither
    grows beyond its bound.
    """

    bound: int
    photographs: int = 0
    present: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    bins: dict[str, list[int]] = field(default_factory=dict)
    tops: dict[str, list[tuple[float, int, Shown]]] = field(default_factory=dict)
    flagged: list[Shown] = field(default_factory=list)

    def add(self, shown: Shown, top: float = 1.0) -> None:
        """Count a photograph; its scores lie between 0 and ``top``."""
        self.photographs += 1
        self.flags.update(shown.flags)
        if shown.strange and len(self.flagged) < self.bound:
            self.flagged.append(shown)
        for name, score in shown.scores.items():
            counts = self.bins.setdefault(name, [0] * BINS)
            counts[min(int(score / top * BINS), BINS - 1)] += 1
            heap = self.tops.setdefault(name, [])
            entry = (score, -self.photographs, shown)  # among equals the earlier one stays
            if len(heap) < self.bound:
                heapq.heappush(heap, entry)
            elif self.bound:
                heapq.heappushpop(heap, entry)
        self.present.update(name for name, yes in shown.predicted.items() if yes)

    def chosen(self) -> list[Shown]:
        """The pictures to show: the flagged ones and the highest scores of each finding in turn, up to the bound."""
        lists: list[Iterable[Shown]] = [self.flagged]
        lists += [[shown for _, _, shown in sorted(heap, reverse=True)] for heap in self.tops.values()]
        found: dict[str, Shown] = {}
        for shown in _in_turn(lists):
            if len(found) >= self.bound:
                break
            found.setdefault(shown.image_id, shown)
        first = next(iter(self.tops), None)
        return sorted(found.values(), key=lambda shown: -shown.scores.get(first or "", 0))


def write_page(folder: Path, output: Path, pictures: int) -> Path:
    """Write the page over the finished predictions in ``folder``; ``pictures`` of them at most are on it."""
    record = read_record(folder)
    grades: list[str] = list(record.get("classes") or [])
    tally = Tally(pictures)
    for _, group in groupby(read_rows(folder / PREDICTIONS), key=lambda row: (row["path"], row["image_id"])):
        rows = list(group)
        if grades:
            tally.add(_graded(rows[0]), top=len(grades) - 1.0)
        else:
            tally.add(_found(rows))
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
        "tiles": list(_tiles(folder, record, tally.chosen())),
        "drawn": (folder / FOLDER).is_dir() and any((folder / FOLDER).iterdir()),
    }
    return page.write(page.render("fundusnet.prediction", "predictions.html.j2", **values), output)


def _found(rows: Sequence[dict[str, str]]) -> Shown:
    """The rows of one photograph, one a finding."""
    first = rows[0]
    present = [row["finding"] for row in rows if row["predicted"] == "1"]
    return Shown(
        first["image_id"],
        first["path"],
        {row["finding"]: float(row["probability"]) for row in rows},
        {row["finding"]: row["predicted"] == "1" for row in rows},
        ", ".join(present).replace("_", " ") or "nothing found",
        tuple(filter(None, first["flags"].split(";"))),
    )


def _graded(row: dict[str, str]) -> Shown:
    # Their sum is the expected grade: it sorts pictures of one predicted grade too.
    expected = sum(float(value) for name, value in row.items() if name.startswith("p_gt_"))
    flags = tuple(filter(None, row["flags"].split(";")))
    return Shown(row["image_id"], row["path"], {"grade": expected}, {row["class"]: True}, row["class"], flags)


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
            # Square roots: the few with a high probability would not be seen beside the many with a low one.
            "bars": [round(float(np.sqrt(count / max(*counts, 1))) * 100, 1) for count in counts],
            "counts": counts,
        }


def _tiles(folder: Path, record: dict[str, Any], chosen: Sequence[Shown]) -> Iterator[dict[str, Any]]:
    points = {each["name"]: each["operating_point"] for each in record.get("findings") or []}
    beside = bool(record["heatmaps"]["side_by_side"])
    for shown in track(chosen, "drawing the page"):
        # One map a picture keeps the page small: that of the finding furthest above its operating point.
        leading = max(points, key=lambda name: shown.scores[name] - points[name], default="")
        file = f"{FOLDER}/{file_name(shown.image_id, leading)}"
        heat = _heat(folder / file, beside)
        yield {
            "shown": shown,
            "photograph": _photograph(Path(record["input"]) / shown.path),
            "heat": page.jpeg(heat) if heat is not None else None,
            "of": leading,
            "link": quote(file) if heat is not None else None,
        }


def _photograph(file: Path) -> str | None:
    """The photograph as small as the page shows it; None where it is gone."""
    try:
        return page.jpeg(read_picture(file, [View(TILE, None)]).pixels[TILE])
    except Unreadable:
        return None


def _heat(file: Path, beside: bool) -> Pixels | None:
    if not file.is_file():
        return None
    pixels = cv2.imdecode(np.fromfile(file, dtype=np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        return None
    if beside:
        pixels = pixels[:, pixels.shape[1] // 2 :]
    small = cv2.resize(pixels, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return np.asarray(small[:, :, ::-1], dtype=np.uint8)


def _in_turn(lists: Sequence[Iterable[Shown]]) -> Iterator[Shown]:
    waiting = [iter(each) for each in lists]
    while waiting:
        taken = [(each, list(islice(each, 1))) for each in waiting]
        for _, some in taken:
            yield from some
        waiting = [each for each, some in taken if some]
