"""The people who take part in a study, and the images assigned to them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.assignment import choose_readers
from fundusnet.annotation.storage import Storage, set_setting, setting
from fundusnet.annotation.tables import annotators, assignments, images
from fundusnet.annotation.tallies import ANSWERED, recount
from fundusnet.errors import UserError


def set_roster(connection: Connection, roles: Sequence[tuple[str, str]]) -> None:
    """Make these people the ones who take part; others become inactive and keep their readings.

    Args:
        connection: Of a write transaction.
        roles: (name, role) of each person.

    Raises:
        UserError: A name is invalid, is given twice, or had another role before.
    """
    names = [name for name, _ in roles]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"'{twice[0]}' is given twice; every annotator and adjudicator needs a different name")
    if bad := [name for name in names if name != name.strip() or not 0 < len(name) <= 80 or not name.isprintable()]:
        raise UserError(
            f"'{bad[0]}' is not a valid name; give annotators=[anna,ben], with 1 to 80 printable characters each"
        )
    before = {row.name: row.role for row in connection.execute(sa.select(annotators.c.name, annotators.c.role))}
    connection.execute(sa.update(annotators).values(active=False))
    for name, role in roles:
        if name not in before:
            connection.execute(sa.insert(annotators).values(name=name, role=role, active=True))
        elif before[name] != role:
            raise UserError(
                f"{name} is already {before[name]} of this study and cannot be {role} too; use another name"
            )
        else:
            connection.execute(sa.update(annotators).where(annotators.c.name == name).values(active=True))


def changed_roster(connection: Connection, join: Sequence[str], leave: Sequence[str]) -> list[tuple[str, str]]:
    """(name, role) of those who take part when annotators ``join`` and others ``leave``.

    Raises:
        UserError: Somebody who is to leave does not take part.
    """
    rows = connection.execute(sa.select(annotators).where(annotators.c.active).order_by(annotators.c.id))
    now = {row.name: row.role for row in rows}
    if unknown := [name for name in leave if name not in now]:
        raise UserError(f"leave: {unknown[0]} does not take part in this study; choose from {', '.join(now)}")
    stay = [
        (name, role) for name, role in now.items() if name not in leave and (role != "annotator" or name not in join)
    ]
    return stay + [(name, "annotator") for name in join]


def assign_images(storage: Storage, readings_per_image: int) -> None:
    """Deal the images of the study to those who take part; see ``choose_readers``.

    Choosing takes seconds in a large study, so it is done outside the transaction that stores it: an image that
    somebody starts meanwhile stays with them.
    """
    with storage.read() as connection:
        listed = list(connection.scalars(sa.select(images.c.image_id).where(images.c.listed)))
        people = list(connection.execute(sa.select(annotators).order_by(annotators.c.id)))
        readers = [row.name for row in people if row.active and row.role == "annotator"]
        # Changes with everything that decides who reads what, except the progress of readers.
        state = "\0".join([*sorted(listed), "", *readers, "", str(readings_per_image)])
        state = hashlib.sha256(state.encode()).hexdigest()
        if setting(connection, "dealt") == state:
            return
        found = _Dealt.load(connection, people)
        seed = study_seed(connection)
    chosen = choose_readers(listed, readers, readings_per_image, found.assigned, found.kept, seed)
    ids = {row.name: row.id for row in people}
    new, old = [], []
    for image_id in listed:
        shown = found.shown.get(image_id, set())
        if shown != chosen[image_id]:
            new += [(ids[name], image_id) for name in chosen[image_id] - shown]
            old += [(ids[name], image_id) for name in shown - chosen[image_id]]
    with storage.write() as connection:
        _withdraw(connection, old)
        _deal(connection, new)
        recount(connection, {image_id for _, image_id in [*new, *old]})
        set_setting(connection, "dealt", state)


def study_seed(connection: Connection) -> int:
    """The seed of all random orders of the study."""
    return int(setting(connection, "seed") or 0)


@dataclass(frozen=True)
class _Dealt:
    """Who reads what.

    Attributes:
        shown: Image → those who see it now.
        assigned: Image → those who may go on with it.
        kept: Image → those who keep it whatever is dealt: a started image stays with an active reader; one who left
            keeps only finished images.
    """

    shown: dict[str, set[str]]
    assigned: dict[str, set[str]]
    kept: dict[str, set[str]]

    @classmethod
    def load(cls, connection: Connection, people: Sequence[Any]) -> _Dealt:
        names, active = {row.id: row.name for row in people}, {row.id for row in people if row.active}
        found = cls({}, {}, {})
        columns = [assignments.c[name] for name in ("image_id", "annotator_id", "version", "state", "shown")]
        known = sa.or_(assignments.c.shown, assignments.c.version > 0)
        for image_id, reader, version, state, shown in connection.execute(sa.select(*columns).where(known)):
            stays = state in ANSWERED or (version > 0 and reader in active)
            for table, applies in (
                (found.shown, shown),
                (found.assigned, stays or reader in active),
                (found.kept, stays),
            ):
                if applies:
                    table.setdefault(image_id, set()).add(names[reader])
        return found


def _withdraw(connection: Connection, pairs: Sequence[tuple[int, str]]) -> None:
    """Take images from readers; what an active one started meanwhile stays."""
    left = sa.select(annotators.c.id).where(sa.not_(annotators.c.active))
    if pairs:
        connection.execute(
            sa.update(assignments)
            .where(
                assignments.c.annotator_id == sa.bindparam("reader"),
                assignments.c.image_id == sa.bindparam("image"),
                sa.or_(assignments.c.version == 0, assignments.c.annotator_id.in_(left)),
            )
            .values(shown=False),
            [{"reader": reader, "image": image_id} for reader, image_id in pairs],
        )


def _deal(connection: Connection, pairs: Sequence[tuple[int, str]]) -> None:
    """Give images to readers, again where they had them before."""
    readers = {reader for reader, _ in pairs}
    had = connection.execute(
        sa.select(assignments.c.annotator_id, assignments.c.image_id).where(
            assignments.c.annotator_id.in_(readers), sa.not_(assignments.c.shown)
        )
    )
    before = {(row.annotator_id, row.image_id) for row in had}
    again = [{"reader": reader, "image": image_id} for reader, image_id in pairs if (reader, image_id) in before]
    first = [
        {"annotator_id": reader, "image_id": image_id, "version": 0, "state": "todo", "shown": True, "seconds": 0.0}
        for reader, image_id in pairs
        if (reader, image_id) not in before
    ]
    if again:
        connection.execute(
            sa.update(assignments)
            .where(
                assignments.c.annotator_id == sa.bindparam("reader"), assignments.c.image_id == sa.bindparam("image")
            )
            .values(shown=True),
            again,
        )
    if first:
        connection.execute(sa.insert(assignments), first)
