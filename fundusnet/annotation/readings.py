"""The current answers and decisions of a study (S1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.answers import NO_ANSWER
from fundusnet.annotation.tables import annotators, answers, assignments, choice_decisions, decisions, images
from fundusnet.annotation.tallies import ANSWERED, confirmed

Point = tuple[float, float]


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
class CurrentChoice:
    """The newest decision on a question of an image, or of a finding in it; ``choice`` is None if it was withdrawn."""

    image_id: str
    finding: str
    question: str
    version: int
    adjudicator: str
    choice: str | None
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
        choices: (image id, finding or "", question) → decision.
    """

    images: Mapping[str, Any]
    answers: Mapping[str, list[CurrentAnswer]]
    waiting: frozenset[str]
    decisions: Mapping[tuple[str, str], CurrentDecision] = field(default_factory=dict)
    choices: Mapping[tuple[str, str, str], CurrentChoice] = field(default_factory=dict)

    def gradable(self, image_id: str) -> list[CurrentAnswer]:
        """The answers for an image that do not call it ungradable, which are its readings."""
        return [given for given in self.answers.get(image_id, []) if given.state == "done"]


def load_readings(connection: Connection, image_id: str | None = None) -> Readings:
    """All current answers and decisions, or those of one image, in a ``Storage.read`` transaction."""

    def of(column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return sa.true() if image_id is None else column == image_id

    shown = {
        row.image_id: row
        for row in connection.execute(
            sa.select(images)
            .where(images.c.listed, of(images.c.image_id))
            .order_by(images.c.position, images.c.image_id)
        )
    }
    newest = sa.and_(
        answers.c.annotator_id == assignments.c.annotator_id,
        answers.c.image_id == assignments.c.image_id,
        answers.c.version == assignments.c.version,
    )
    found = connection.execute(
        sa.select(
            assignments.c.image_id, assignments.c.state.label("now"), assignments.c.shown, annotators.c.name,
            *(column for column in answers.c if column.name not in ("image_id", "annotator_id")),
        )
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .outerjoin(answers, newest)
        .where(of(assignments.c.image_id))
        .order_by(annotators.c.id, assignments.c.image_id)
    )  # fmt: skip
    given: dict[str, list[CurrentAnswer]] = {}
    waiting = set()
    for row in found:
        if row.now in ANSWERED and row.image_id in shown:
            answer = CurrentAnswer(
                row.image_id, row.name, row.version, row.change, row.state, row.content, row.seconds, row.saved
            )
            given.setdefault(row.image_id, []).append(answer)
        elif row.shown and row.now not in ANSWERED:
            waiting.add(row.image_id)
    decided = (load_decisions(connection, image_id), load_choices(connection, image_id))
    return Readings(shown, given, frozenset(waiting), *decided)


def current_answer(connection: Connection, annotator_id: int, image_id: str) -> dict[str, Any]:
    """The newest version of an answer, in the form the page uses."""
    row = connection.execute(
        sa.select(answers)
        .where(answers.c.annotator_id == annotator_id, answers.c.image_id == image_id)
        .order_by(answers.c.version.desc())
        .limit(1)
    ).first()
    if row is None:
        return {"version": 0, **NO_ANSWER, "state": "todo", "seconds": 0.0}
    return {"version": row.version, **row.content, "state": row.state, "seconds": row.seconds}


def reference_points(readings: Readings, image_id: str) -> tuple[Point, Point] | None:
    """Disc and fovea of an image; None if unknown.

    Each is the median of where readers placed it, of which points that were only proposed to them are no part; where
    nobody placed it, what the manifest says.
    """
    row = readings.images[image_id]
    given = [answer.content for answer in readings.gradable(image_id)]
    disc = _median(given, "disc") or _known(row.disc_x, row.disc_y)
    fovea = _median(given, "fovea") or _known(row.fovea_x, row.fovea_y)
    return (disc, fovea) if disc and fovea and disc != fovea else None


def _median(given: Iterable[Mapping[str, Any]], name: str) -> Point | None:
    placed = [point for content in given if (point := confirmed(content, name))]
    return (median(x for x, _ in placed), median(y for _, y in placed)) if placed else None


def _known(x: float | None, y: float | None) -> Point | None:
    return None if x is None or y is None else (x, y)


def origin_of(content: Mapping[str, Any], name: str) -> str | None:
    """Where "disc" or "fovea" of an answer comes from: "placed", "localised" or "guessed"; None without the point.

    Answers of 0.1.0 do not say, and count as placed.
    """
    return (content.get(f"{name}_origin") or "placed") if content.get(name) else None


def load_decisions(connection: Connection, image_id: str | None = None) -> dict[tuple[str, str], CurrentDecision]:
    """(image id, finding) → newest decision, of all images or one."""
    rows = connection.execute(
        sa.select(decisions, annotators.c.name)
        .join(annotators)
        .where(sa.true() if image_id is None else decisions.c.image_id == image_id)
        .order_by(decisions.c.image_id, decisions.c.finding, decisions.c.version)
    )
    newest: dict[tuple[str, str], CurrentDecision] = {}
    for row in rows:
        newest[row.image_id, row.finding] = CurrentDecision(
            row.image_id, row.finding, row.version, row.name, row.present, tuple(row.regions), row.saved, row.change
        )
    return newest


def load_choices(connection: Connection, image_id: str | None = None) -> dict[tuple[str, str, str], CurrentChoice]:
    """(image id, finding or "", question) → newest decision, of all images or one."""
    key = (choice_decisions.c.image_id, choice_decisions.c.finding, choice_decisions.c.question)
    rows = connection.execute(
        sa.select(choice_decisions, annotators.c.name)
        .join(annotators)
        .where(sa.true() if image_id is None else choice_decisions.c.image_id == image_id)
        .order_by(*key, choice_decisions.c.version)
    )
    return {
        (row.image_id, row.finding, row.question): CurrentChoice(
            row.image_id, row.finding, row.question, row.version, row.name, row.choice, row.saved, row.change
        )
        for row in rows
    }
