"""The people who take part in a study, and the images assigned to them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.assignment import choose_readers
from fundusnet.annotation.readings import ANSWERED
from fundusnet.annotation.storage import annotators, answers, assignments, images, setting
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


def assign_images(connection: Connection, readings_per_image: int) -> None:
    """Assign the images of the study to those who take part; see ``choose_readers``."""
    shown = list(connection.scalars(sa.select(images.c.image_id).where(images.c.listed)))
    people = connection.execute(sa.select(annotators).order_by(annotators.c.id)).all()
    readers = [row.name for row in people if row.active and row.role == "annotator"]
    ids, active = {row.name: row.id for row in people}, {row.name for row in people if row.active}
    assigned: dict[str, set[str]] = {}
    answered: dict[str, set[str]] = {}
    rows_before = connection.execute(
        sa.select(assignments.c.image_id, annotators.c.name, assignments.c.version, assignments.c.state)
        .join(annotators)
    )  # fmt: skip
    for image_id, name, version, state in rows_before:
        assigned.setdefault(image_id, set()).add(name)
        # A started image stays with an active reader; one who left keeps only finished images.
        if version if name in active else state in ANSWERED:
            answered.setdefault(image_id, set()).add(name)

    chosen = choose_readers(shown, readers, readings_per_image, assigned, answered, study_seed(connection))
    for image_id in shown:
        for name in assigned.get(image_id, set()) - chosen[image_id]:
            connection.execute(
                sa.delete(assignments).where(
                    assignments.c.annotator_id == ids[name], assignments.c.image_id == image_id
                )
            )
    new = [(ids[name], image_id) for image_id in shown for name in chosen[image_id] - assigned.get(image_id, set())]
    earlier, unread = _answers_of_the_unassigned(connection), {"version": 0, "state": "todo"}
    rows = [
        {"annotator_id": reader, "image_id": image_id, **earlier.get((reader, image_id), unread)}
        for reader, image_id in new
    ]
    if rows:
        connection.execute(sa.insert(assignments), rows)


def study_seed(connection: Connection) -> int:
    """The seed of all random orders of the study."""
    return int(setting(connection, "seed") or 0)


def _answers_of_the_unassigned(connection: Connection) -> dict[tuple[int, str], dict[str, object]]:
    """(annotator, image) → newest version and state of answers without an assignment: of people who left."""
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
