"""What has been read so far: newest answers, decisions, and the readings table they make (S1.2)."""

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
class Given:
    """The newest version of an annotator's answer on one image."""

    image_id: str
    annotator: str
    version: int
    change: str
    state: str
    content: Mapping[str, Any]
    seconds: float
    saved: float


@dataclass(frozen=True)
class Decided:
    """An adjudicator's newest word on one finding of one image; ``present`` None = taken back."""

    image_id: str
    finding: str
    version: int
    adjudicator: str
    present: bool | None
    regions: tuple[str, ...]
    saved: float
    change: str | None


@dataclass(frozen=True)
class Read:
    """All that was answered about the images the study shows.

    Attributes:
        images: rows of the images table, in the order of the source.
        answers: by image, in the order in which annotators were enrolled; finished ones only.
        waiting: images that an annotator still has to answer.
        decisions: by image and finding.
    """

    images: Mapping[str, Any]
    answers: Mapping[str, list[Given]]
    waiting: frozenset[str]
    decisions: Mapping[tuple[str, str], Decided] = field(default_factory=dict)

    def graded(self, image_id: str) -> list[Given]:
        """Answers on an image that are readings: those that do not call it ungradable."""
        return [given for given in self.answers.get(image_id, []) if given.state == "done"]


def read_so_far(connection: Connection) -> Read:
    """Everything at one moment."""
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
    given: dict[str, list[Given]] = {}
    waiting = set()
    for row in found:
        if row.now not in ANSWERED:
            waiting.add(row.image_id)
        elif row.image_id in shown:
            answer = Given(
                row.image_id, row.name, row.version, row.change, row.state, row.content, row.seconds, row.saved
            )
            given.setdefault(row.image_id, []).append(answer)
    return Read(shown, given, frozenset(waiting), _decisions(connection))


def readings_table(read: Read, *, adjudicated: bool, present: int = 2) -> pd.DataFrame:
    """The answers as a manifest's readings, one row a finding, an empty one for a normal image.

    With ``adjudicated`` a decision takes the place of what the annotators said of that finding, so that consensus
    follows it: a present one is marked by ``adjudicated-1``, ``adjudicated-2`` … (as many as there were readings, at
    least ``present``), an absent one by nobody. No annotator's name stands beside what that annotator did not say.
    """
    rows: list[Row] = []
    for image_id in read.images:
        own = _rows(read.graded(image_id))
        rows += _adjudicated(image_id, own, read, present) if adjudicated else own
    return pd.DataFrame(rows, columns=list(READING_COLUMNS), dtype=str)


def points(read: Read, image_id: str) -> tuple[Point, Point] | None:
    """Disc and fovea: the median of where the readings have them, else where the manifest has; None if unknown."""
    pairs = [
        (given.content["disc"], given.content["fovea"])
        for given in read.graded(image_id)
        if given.content["disc"] and given.content["fovea"]
    ]
    if pairs:
        disc, fovea = ((median(p[i][0] for p in pairs), median(p[i][1] for p in pairs)) for i in (0, 1))
        if disc != fovea:
            return disc, fovea
    row = read.images[image_id]
    known = (row.disc_x, row.disc_y, row.fovea_x, row.fovea_y)
    return (known[:2], known[2:]) if None not in known else None


def _rows(given: Iterable[Given]) -> list[Row]:
    rows: list[Row] = []
    for answer in given:
        findings = answer.content["findings"]
        marked = [(answer.image_id, answer.annotator, name, ";".join(regions)) for name, regions in findings.items()]
        rows += marked or [(answer.image_id, answer.annotator, "", "")]
    return rows


def _adjudicated(image_id: str, rows: list[Row], read: Read, present: int) -> list[Row]:
    decided = [
        decision
        for (image, _), decision in read.decisions.items()
        if image == image_id and decision.present is not None
    ]
    replaced = {decision.finding for decision in decided}
    kept = [row for row in rows if row[2] not in replaced]
    voices = [f"{ADJUDICATED}-{number + 1}" for number in range(max(present, len({row[1] for row in rows})))]
    for decision in decided:
        if decision.present:
            kept += [(image_id, voice, decision.finding, ";".join(decision.regions)) for voice in voices]
    # The image was read, and nothing is left of what was marked: that is a normal reading.
    return kept or ([(image_id, voices[0], "", "")] if rows else [])


def _decisions(connection: Connection) -> dict[tuple[str, str], Decided]:
    rows = connection.execute(
        sa.select(decisions, annotators.c.name)
        .join(annotators)
        .order_by(decisions.c.image_id, decisions.c.finding, decisions.c.version)
    )
    newest: dict[tuple[str, str], Decided] = {}
    for row in rows:
        newest[row.image_id, row.finding] = Decided(
            row.image_id, row.finding, row.version, row.name, row.present, tuple(row.regions), row.saved, row.change
        )
    return newest
