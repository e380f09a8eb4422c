"""Questions that readers answered differently, and adjudicators' decisions on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import Person
from fundusnet.annotation.answers import ChoiceDecision, check_choice_decision
from fundusnet.annotation.decision_versions import add_version
from fundusnet.annotation.disputes import disputed, is_open
from fundusnet.annotation.plan import EVERYBODY
from fundusnet.annotation.readings import CurrentChoice, load_choices
from fundusnet.annotation.study import MissingError, Study
from fundusnet.annotation.tables import choice_decisions, disputes, images, patterns
from fundusnet.errors import UserError

JSON = dict[str, Any]
Key = tuple[str, str, str]
"""Image id, finding or "", question."""


def choice_cases(connection: Connection, study: Study, image_id: str | None = None) -> dict[Key, JSON | None]:
    """Questions that are or were disputed, each with the current decision, by image and then as they are asked.

    Args:
        connection: Of a transaction.
        study: Says which questions are adjudicated.
        image_id: None = of all images.
    """

    def of(column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return sa.true() if image_id is None else column == image_id

    found = connection.execute(sa.select(disputes).where(disputed(study.questions), of(disputes.c.image_id)))
    keys: set[Key] = {(row.image_id, row.finding, row.question) for row in found}
    newest = load_choices(connection, image_id)
    names = [question.name for question in study.questions]
    decided = {key for key, decision in newest.items() if decision.choice is not None and key[2] in names} - keys
    if decided:
        listed = set(connection.scalars(sa.select(images.c.image_id).where(images.c.listed, of(images.c.image_id))))
        keys |= {key for key in decided if key[0] in listed}
    places = {finding: place for place, finding in enumerate(study.findings)}
    ordered = sorted(keys, key=lambda key: (key[0], names.index(key[2]), places.get(key[1], -1)))
    return {key: as_json(newest.get(key)) for key in ordered}


def open_disputes(connection: Connection, study: Study, limit: int) -> tuple[list[JSON], int]:
    """The first questions that wait for a decision, with how often each choice was made; and how many there are."""
    waiting = sa.and_(disputed(study.questions), is_open())
    same = sa.and_(
        *(patterns.c[name] == disputes.c[name] for name in ("image_id", "finding", "question")),
        patterns.c.group_name == EVERYBODY,
    )
    key = (disputes.c.image_id, disputes.c.question, disputes.c.finding)
    rows = connection.execute(
        sa.select(*key, patterns.c.pattern).join(patterns, same).where(waiting).order_by(*key).limit(limit)
    )
    listed = [
        {"image_id": row.image_id, "finding": row.finding, "question": row.question, "given": json.loads(row.pattern)}
        for row in rows
    ]
    return listed, int(connection.scalar(sa.select(sa.func.count()).select_from(disputes).where(waiting)) or 0)


def save_choice(study: Study, adjudicator: Person, image_id: str, decision: ChoiceDecision) -> int:
    """Store a decision as a new version and return its number; sending the same change again has no effect.

    Raises:
        UserError: The decision is invalid, or there is nothing to decide.
        MissingError: No such image.
        ConflictError: Another decision was stored in the meantime.
    """
    check_choice_decision(decision, study.questions, study.findings)
    key = (image_id, decision.finding, decision.question)
    listed = sa.select(images.c.image_id).where(images.c.image_id == image_id, images.c.listed)
    with study.storage.read() as connection:
        if connection.scalar(listed) is None:
            raise MissingError
        if key not in choice_cases(connection, study, image_id):
            raise UserError(f"readers agree on {decision.question[:80]} in this image, or it is not adjudicated")
    row = {"image_id": image_id, "finding": decision.finding, "question": decision.question, "choice": decision.choice}
    change = None if decision.change is None else str(decision.change)
    return add_version(
        study.storage, choice_decisions, row | {"annotator_id": adjudicator.id, "change": change}, decision.version,
        lambda connection: load_choices(connection, image_id).get(key), as_json,
    )  # fmt: skip


def as_json(decision: CurrentChoice | None) -> JSON | None:
    """A decision as the page gets it."""
    return None if decision is None else {"choice": decision.choice, "version": decision.version}


def by_subject(cases: Mapping[Key, JSON | None]) -> list[JSON]:
    """The cases of one image as the page gets them."""
    return [{"finding": key[1], "question": key[2], "decision": decision} for key, decision in cases.items()]
