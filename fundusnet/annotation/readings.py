"""The current answers and decisions of a study, and the readings table made of them (S1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.storage import annotators, answers, assignments, decisions, images
from fundusnet.data.manifest import READING_COLUMNS

ANSWERED = ("done", "ungradable")
ADJUDICATED = "adjudicated"

Point = tuple[float, float]
Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class CurrentAnswer:
    """The newest version of an annotator's answer for one image; ``content`` is ``Answer.content()``."""

    image_id: str
    annotator: str
    version: int
    change: str
    state: str
    content: Mapping[str, Any]
    seconds: float
    saved: float


@dataclass(frozen=True)
class CurrentDecision:
    """The newest decision on one finding of one image; ``present`` is None if it was withdrawn."""

    image_id: str
    finding: str
    version: int
    adjudicator: str
    present: bool | None
    regions: tuple[str, ...]
    saved: float
    change: str | None


@dataclass(frozen=True)
class Readings:
    """All answers and decisions on the images of the study.

    Attributes:
        images: Image id → row of the images table, in the order of the source.
        answers: Image id → finished answers, in the order in which annotators were enrolled.
        waiting: Images that an annotator still has to answer.
        decisions: (image id, finding) → decision.
    """

    images: Mapping[str, Any]
    answers: Mapping[str, list[CurrentAnswer]]
    waiting: frozenset[str]
    decisions: Mapping[tuple[str, str], CurrentDecision] = field(default_factory=dict)

    def gradable(self, image_id: str) -> list[CurrentAnswer]:
        """The answers for an image that do not call it ungradable, which are its readings."""
        return [given for given in self.answers.get(image_id, []) if given.state == "done"]


def load_readings(connection: Connection) -> Readings:
    """Load all current answers and decisions; ``connection`` should be a ``Storage.read`` transaction."""
    shown = {
        row.image_id: row
        for row in connection.execute(
            sa.select(images).where(images.c.listed).order_by(images.c.position, images.c.image_id)
        )
    }
    newest = sa.and_(
        answers.c.annotator_id == assignments.c.annotator_id,
        answers.c.image_id == assignments.c.image_id,
        answers.c.version == assignments.c.version,
    )
    found = connection.execute(
        sa.select(assignments.c.image_id, assignments.c.state.label("now"), annotators.c.name, answers)
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .outerjoin(answers, newest)
        .order_by(annotators.c.id)
    )
    given: dict[str, list[CurrentAnswer]] = {}
    waiting = set()
    for row in found:
        if row.now not in ANSWERED:
            waiting.add(row.image_id)
        elif row.image_id in shown:
            answer = CurrentAnswer(
                row.image_id, row.name, row.version, row.change, row.state, row.content, row.seconds, row.saved
            )
            given.setdefault(row.image_id, []).append(answer)
    return Readings(shown, given, frozenset(waiting), _decisions(connection))


def readings_table(readings: Readings, *, adjudicated: bool, present: int = 2) -> pd.DataFrame:
    """The readings table of a manifest: one row for each finding, one with an empty finding for a normal reading.

    With ``adjudicated``, each decision replaces the annotators' marks of that finding, so that consensus follows it: a
    present finding is marked by ``adjudicated-1``, ``adjudicated-2`` … (as many as there are readings, at least
    ``present``), an absent one by nobody. An annotator's name is never used for a mark that the annotator did not make.

    Args:
        readings: Current answers and decisions.
        adjudicated: Whether decisions replace marks.
        present: Readings that make a finding present.
    """
    rows: list[Row] = []
    for image_id in readings.images:
        marks = _rows(readings.gradable(image_id))
        rows += _adjudicated(image_id, marks, readings, present) if adjudicated else marks
    return pd.DataFrame(rows, columns=list(READING_COLUMNS), dtype=str)


def reference_points(readings: Readings, image_id: str) -> tuple[Point, Point] | None:
    """Disc and fovea of an image: the median over its readings, else those of the manifest; None if unknown."""
    pairs = [
        (given.content["disc"], given.content["fovea"])
        for given in readings.gradable(image_id)
        if given.content["disc"] and given.content["fovea"]
    ]
    if pairs:
        disc, fovea = ((median(p[i][0] for p in pairs), median(p[i][1] for p in pairs)) for i in (0, 1))
        if disc != fovea:
            return disc, fovea
    row = readings.images[image_id]
    known = (row.disc_x, row.disc_y, row.fovea_x, row.fovea_y)
    return (known[:2], known[2:]) if None not in known else None


def _rows(given: Iterable[CurrentAnswer]) -> list[Row]:
    rows: list[Row] = []
    for answer in given:
        findings = answer.content["findings"]
        marked = [(answer.image_id, answer.annotator, name, ";".join(regions)) for name, regions in findings.items()]
        rows += marked or [(answer.image_id, answer.annotator, "", "")]
    return rows


def _adjudicated(image_id: str, rows: list[Row], readings: Readings, present: int) -> list[Row]:
    decided = [
        decision
        for (image, _), decision in readings.decisions.items()
        if image == image_id and decision.present is not None
    ]
    replaced = {decision.finding for decision in decided}
    kept = [row for row in rows if row[2] not in replaced]
    names = [f"{ADJUDICATED}-{number + 1}" for number in range(max(present, len({row[1] for row in rows})))]
    for decision in decided:
        if decision.present:
            kept += [(image_id, name, decision.finding, ";".join(decision.regions)) for name in names]
    # The image was read and no mark is left: that is a normal reading.
    return kept or ([(image_id, names[0], "", "")] if rows else [])


def _decisions(connection: Connection) -> dict[tuple[str, str], CurrentDecision]:
    rows = connection.execute(
        sa.select(decisions, annotators.c.name)
        .join(annotators)
        .order_by(decisions.c.image_id, decisions.c.finding, decisions.c.version)
    )
    newest: dict[tuple[str, str], CurrentDecision] = {}
    for row in rows:
        newest[row.image_id, row.finding] = CurrentDecision(
            row.image_id, row.finding, row.version, row.name, row.present, tuple(row.regions), row.saved, row.change
        )
    return newest
