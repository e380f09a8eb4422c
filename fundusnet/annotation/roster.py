"""Who takes part in a study, and the images dealt to them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.assignment import deal
from fundusnet.annotation.readings import ANSWERED
from fundusnet.annotation.storage import annotators, answers, assignments, images, setting
from fundusnet.errors import UserError


def call(connection: Connection, roles: Sequence[tuple[str, str]]) -> None:
    """Make these people, (name, role), the ones who take part; others keep what they read and leave.

    Raises:
        UserError: a name is no name, stands twice, or had another role before.
    """
    names = [name for name, _ in roles]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"'{twice[0]}' is named twice; every annotator and adjudicator needs a name of their own")
    if bad := [name for name in names if name != name.strip() or not 0 < len(name) <= 80 or not name.isprintable()]:
        raise UserError(f"'{bad[0]}' is no name; give annotators=[anna,ben] with 1 to 80 printable characters each")
    before = {row.name: row.role for row in connection.execute(sa.select(annotators.c.name, annotators.c.role))}
    connection.execute(sa.update(annotators).values(active=False))
    for name, role in roles:
        if name not in before:
            connection.execute(sa.insert(annotators).values(name=name, role=role, active=True))
        elif before[name] != role:
            raise UserError(f"{name} is {before[name]} of this study and cannot be {role} too; use another name")
        else:
            connection.execute(sa.update(annotators).where(annotators.c.name == name).values(active=True))


def deal_out(connection: Connection, readings_per_image: int) -> None:
    """Assign the images of the study to those who take part; see ``deal``."""
    shown = list(connection.scalars(sa.select(images.c.image_id).where(images.c.listed)))
    people = connection.execute(sa.select(annotators).order_by(annotators.c.id)).all()
    readers = [row.name for row in people if row.active and row.role == "annotator"]
    ids, active = {row.name: row.id for row in people}, {row.name for row in people if row.active}
    assigned: dict[str, set[str]] = {}
    answered: dict[str, set[str]] = {}
    dealt = connection.execute(
        sa.select(assignments.c.image_id, annotators.c.name, assignments.c.version, assignments.c.state)
        .join(annotators)
    )  # fmt: skip
    for image_id, name, version, state in dealt:
        assigned.setdefault(image_id, set()).add(name)
        # Who left with an image half read will not finish it.
        if version if name in active else state in ANSWERED:
            answered.setdefault(image_id, set()).add(name)

    hands = deal(shown, readers, readings_per_image, assigned, answered, study_seed(connection))
    for image_id in shown:
        for name in assigned.get(image_id, set()) - hands[image_id]:
            connection.execute(
                sa.delete(assignments).where(
                    assignments.c.annotator_id == ids[name], assignments.c.image_id == image_id
                )
            )
    new = [(ids[name], image_id) for image_id in shown for name in hands[image_id] - assigned.get(image_id, set())]
    ended = _ended(connection)
    rows = [
        {"annotator_id": reader, "image_id": image_id, **ended.get((reader, image_id), {"version": 0, "state": "todo"})}
        for reader, image_id in new
    ]
    if rows:
        connection.execute(sa.insert(assignments), rows)


def study_seed(connection: Connection) -> int:
    """What the study's random orders follow from."""
    return int(setting(connection, "seed") or 0)


def _ended(connection: Connection) -> dict[tuple[int, str], dict[str, object]]:
    """Where the answers end of those who left and may come back, by annotator and image."""
    rows = connection.execute(
        sa.select(answers.c.annotator_id, answers.c.image_id, answers.c.version, answers.c.state)
        .outerjoin(
            assignments,
            sa.and_(answers.c.annotator_id == assignments.c.annotator_id, answers.c.image_id == assignments.c.image_id),
        )
        .where(assignments.c.image_id.is_(None))
        .order_by(answers.c.version)
    )
    return {(row.annotator_id, row.image_id): {"version": row.version, "state": row.state} for row in rows}
