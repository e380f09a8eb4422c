"""Another reader of the same group for a photograph that somebody calls ungradable, at the moment it is said."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.assignment import random_key
from fundusnet.annotation.plan import Plan
from fundusnet.annotation.roster import study_seed
from fundusnet.annotation.tables import annotators, assignments, images, progress


def reread(connection: Connection, plan: Plan, annotator_id: int, image_id: str) -> set[int]:
    """Give an image to as many readers of the annotator's group as ``plan`` asks for, in a write transaction.

    ``fundusnet.annotation.roster.assign_images`` would come to the same number of readers, but for all images, which
    takes seconds. Where the ungradable answer is taken back, a reader who has not started loses the image again.

    Returns:
        The readers who have an image more or less.
    """
    group = connection.scalar(sa.select(annotators.c.group_name).where(annotators.c.id == annotator_id))
    if plan.groups and group not in plan.groups:
        return set()
    # One change of an image's readers at a time.
    here = sa.select(images).where(images.c.image_id == image_id, images.c.listed).with_for_update(key_share=True)
    image = connection.execute(here).first()
    if image is None or not plan.parts()[group or ""].reads(image.split):
        return set()
    inside = annotators.c.group_name == group if plan.groups else sa.true()
    columns = (assignments, annotators.c.name, annotators.c.active)
    rows = connection.execute(
        sa.select(*columns).join(annotators).where(assignments.c.image_id == image_id, inside)
    ).all()
    ungradable = sum(row.state == "ungradable" for row in rows)
    reading = [row for row in rows if row.shown]
    missing = plan.readings(group or "") + min(ungradable, plan.reread_ungradable) - len(reading)
    seed = study_seed(connection)
    if missing > 0:
        more = _lightest(connection, inside, {row.annotator_id for row in reading}, image_id, seed)[:missing]
        for reader in more:
            _show(connection, reader, image_id, known=any(row.annotator_id == reader for row in rows))
        return set(more)
    if missing < 0:
        idle = [row.annotator_id for row in reading if row.version == 0]
        loads = _loads(connection, inside)
        idle.sort(key=lambda reader: (-loads[reader], random_key(seed, image_id, str(reader))))
        if idle[:-missing]:
            of_image = (assignments.c.image_id == image_id, assignments.c.annotator_id.in_(idle[:-missing]))
            connection.execute(sa.update(assignments).where(*of_image, assignments.c.version == 0).values(shown=False))
            return set(idle[:-missing])
    return set()


def _lightest(
    connection: Connection, inside: sa.ColumnElement[bool], without: set[int], image_id: str, seed: int
) -> list[int]:
    """Readers who take part, those with the fewest images first."""
    loads = _loads(connection, inside)
    active = (annotators.c.active, annotators.c.role == "annotator", inside)
    free = [row.id for row in connection.execute(sa.select(annotators).where(*active)) if row.id not in without]
    return sorted(free, key=lambda reader: (loads[reader], random_key(seed, image_id, str(reader))))


def _loads(connection: Connection, inside: sa.ColumnElement[bool]) -> Counter[int]:
    totals = sa.select(progress.c.annotator_id, progress.c.total).join(annotators).where(inside)
    return Counter({row.annotator_id: row.total for row in connection.execute(totals)})


def _show(connection: Connection, reader: int, image_id: str, *, known: bool) -> None:
    row: dict[str, Any] = {"annotator_id": reader, "image_id": image_id}
    if known:
        of_reader = (assignments.c.annotator_id == reader, assignments.c.image_id == image_id)
        connection.execute(sa.update(assignments).where(*of_reader).values(shown=True))
    else:
        row |= {"version": 0, "state": "todo", "shown": True, "seconds": 0.0}
        connection.execute(sa.insert(assignments).values(row))
