"""The people of a study as an administrator manages them: who takes part, their links, and what each has answered."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import LINK_SECONDS, SESSION_SECONDS, end_sessions, new_link
from fundusnet.annotation.roster import ROLES, Member
from fundusnet.annotation.storage import setting
from fundusnet.annotation.study import MissingError, Study
from fundusnet.annotation.tables import annotators, answers, assignments, images, links, sessions
from fundusnet.annotation.tallies import ANSWERED
from fundusnet.errors import UserError

JSON = dict[str, Any]
PAGE = 200


def people(study: Study) -> list[JSON]:
    """Everybody who ever took part: role, group, progress, devices signed in, and whether a link waits to be opened."""
    now = time.time()
    with study.storage.read() as connection:
        counts: dict[int, Counter[str]] = {}
        grouped = sa.select(assignments.c.annotator_id, assignments.c.state, sa.func.count()).where(assignments.c.shown)
        grouped = grouped.group_by(assignments.c.annotator_id, assignments.c.state)
        for reader, state, count in connection.execute(grouped):
            counts.setdefault(reader, Counter())[state] = count
        open_sessions = _counts(
            connection,
            sessions.c.annotator_id,
            sessions.c.ended.is_(None),
            sessions.c.link_hash.is_(None),
            sessions.c.created > now - SESSION_SECONDS,
        )
        waiting = _counts(connection, links.c.annotator_id, links.c.used.is_(False), links.c.expires > now)
        rows = connection.execute(sa.select(annotators).order_by(annotators.c.id)).all()
    return [
        {
            "id": row.id, "name": row.name, "role": row.role, "group": row.group_name, "active": row.active,
            "done": sum(counts.get(row.id, Counter())[state] for state in ANSWERED),
            "total": counts.get(row.id, Counter()).total(),
            "devices": open_sessions[row.id], "link": bool(waiting[row.id]),
        }
        for row in rows
    ]  # fmt: skip


def add_person(study: Study, name: str, role: str, group: str) -> str:
    """Let somebody take part and return their link.

    Raises:
        UserError: The name, role or group is invalid, or somebody of this name takes part already.
    """
    if role not in ROLES:
        raise UserError(f"'{role[:40]}' is no role; choose from {', '.join(ROLES)}")
    if role == "annotator" and study.plan.groups and group not in study.plan.groups:
        raise UserError(f"choose one of the groups {', '.join(study.plan.groups)} for {name}")
    if any(person.name == name for person in study.people()):
        raise UserError(f"{name} takes part already; every person needs a different name")
    member = Member(name, role, group if role == "annotator" and study.plan.groups else "")
    study.change_members([member], [])
    return renew_link(study, next(person.id for person in study.people() if person.name == name))


def renew_link(study: Study, person_id: int) -> str:
    """A new link for one more device of somebody who takes part; an earlier one that was not opened ends."""
    with study.storage.write() as connection:
        row = _person(connection, person_id)
        if not row.active:
            raise UserError(f"{row.name} does not take part; let them return first")
        return f"{setting(connection, 'address') or ''}/join/{new_link(connection, person_id, LINK_SECONDS)}"


def sign_out_everywhere(study: Study, person_id: int) -> None:
    """End all sessions and links of somebody."""
    with study.storage.write() as connection:
        _person(connection, person_id)
        end_sessions(connection, person_id)


def set_active(study: Study, person_id: int, *, active: bool) -> None:
    """Let somebody leave or return; images are assigned anew."""
    with study.storage.read() as connection:
        row = _person(connection, person_id)
    if row.active == active:
        return
    member = Member(row.name, row.role, row.group_name)
    study.change_members([member] if active else [], [] if active else [row.name])


def answers_of(study: Study, person_id: int, offset: int = 0) -> JSON:
    """What somebody has answered, the newest first, ``PAGE`` at a time, and how many answers there are."""
    newest = sa.and_(*(answers.c[name] == assignments.c[name] for name in ("annotator_id", "image_id", "version")))
    mine = (assignments.c.annotator_id == person_id, assignments.c.version > 0)
    with study.storage.read() as connection:
        row = _person(connection, person_id)
        count = connection.scalar(sa.select(sa.func.count()).select_from(assignments).where(*mine))
        found = connection.execute(
            sa.select(answers, images.c.listed)
            .join(assignments, newest)
            .join(images, images.c.image_id == answers.c.image_id)
            .where(*mine)
            .order_by(answers.c.saved.desc(), answers.c.image_id)
            .offset(offset)
            .limit(PAGE)
        ).all()
    return {
        "name": row.name,
        "count": count,
        "answers": [
            {"image_id": each.image_id, "state": each.state, "seconds": each.seconds, "saved": each.saved,
             "listed": each.listed,
             **{name: each.content.get(name) for name in ("findings", "normal", "ungradable", "comment", "choices")}}
            for each in found
        ],
    }  # fmt: skip


def _person(connection: Connection, person_id: int) -> Any:
    row = connection.execute(sa.select(annotators).where(annotators.c.id == person_id)).first()
    if row is None:
        raise MissingError
    return row


def _counts(connection: Connection, column: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> Counter[int]:
    rows = connection.execute(sa.select(column, sa.func.count()).where(*conditions).group_by(column))
    return Counter({row[0]: row[1] for row in rows})
