"""Questions that readers answered differently: kept beside the answers, and decided by adjudicators where asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.questions import Question
from fundusnet.annotation.tables import choice_decisions, decisions, disputes


def write_disputes(connection: Connection, image_ids: Sequence[str], answers: Mapping[str, Sequence[Any]]) -> None:
    """Derive the disputes of images anew.

    Args:
        connection: Of a write transaction.
        image_ids: Of all images to derive.
        answers: Image → a row for each reader who has answered or is still to answer: ``state``, ``shown``,
            ``content``.
    """
    connection.execute(sa.delete(disputes).where(disputes.c.image_id.in_(image_ids)))
    rows = [
        {"image_id": image_id, "finding": finding, "question": question}
        for image_id, given in answers.items()
        for finding, question in _disputed(given)
    ]
    if rows:
        connection.execute(sa.insert(disputes), rows)


def _disputed(given: Sequence[Any]) -> Iterable[tuple[str, str]]:
    if any(row.shown and row.state not in ("done", "ungradable") for row in given):
        return []
    chosen: dict[tuple[str, str], set[str]] = {}
    for row in given:
        if row.state == "done":
            for finding, choices in row.content.get("choices", {}).items():
                for question, choice in choices.items():
                    chosen.setdefault((finding, question), set()).add(choice)
    return [key for key, choices in chosen.items() if len(choices) > 1]


def disputed(questions: Sequence[Question]) -> sa.ColumnElement[bool]:
    """Whether a row of ``disputes`` is to be decided, or has been.

    Those of a finding that an adjudicator called absent are not.
    """
    asked = [question.name for question in questions if question.adjudicate]
    later = decisions.alias()
    absent = sa.exists().where(
        decisions.c.image_id == disputes.c.image_id,
        decisions.c.finding == disputes.c.finding,
        decisions.c.present.is_(False),
        ~sa.exists().where(
            later.c.image_id == decisions.c.image_id,
            later.c.finding == decisions.c.finding,
            later.c.version > decisions.c.version,
        ),
    )
    return sa.and_(disputes.c.question.in_(asked), ~absent)


def is_open() -> sa.ColumnElement[bool]:
    """Whether no decision on a row of ``disputes`` holds."""
    later = choice_decisions.alias()
    columns = ("image_id", "finding", "question")
    return ~sa.exists().where(
        *(choice_decisions.c[name] == disputes.c[name] for name in columns),
        choice_decisions.c.choice.is_not(None),
        ~sa.exists().where(
            *(later.c[name] == choice_decisions.c[name] for name in columns),
            later.c.version > choice_decisions.c.version,
        ),
    )
