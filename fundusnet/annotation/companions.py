"""Photographs of the same patient that a reader may see beside one: the fellow eye, and earlier visits.

Only the photographs are shown, never what anybody answered for them, and none of a later visit, which may show what has
become of the eye.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.tables import assignments, images

JSON = dict[str, Any]
FELLOW, EARLIER = "fellow", "earlier"
MOST = 12


def companions(connection: Connection, image: Any, kinds: Collection[str]) -> list[JSON]:
    """Photographs to show beside ``image``: first the fellow eye, then earlier visits, the newest first.

    Args:
        connection: Of a read transaction.
        image: Row of the images table.
        kinds: "fellow", "earlier" or both.
    """
    if not kinds or not image.patient_id or not image.eye:
        return []
    same = sa.select(images).where(images.c.patient_id == image.patient_id, images.c.listed)
    rows = connection.execute(same.where(images.c.image_id != image.image_id).order_by(images.c.position)).all()
    visits = _ordered([row.visit for row in (image, *rows)])
    found = [(kind, row) for row in rows if (kind := _kind(image, row, visits)) in kinds]
    found.sort(key=lambda each: (each[0] == EARLIER, -visits.get(each[1].visit or "", 0)))
    return [
        {"image_id": row.image_id, "kind": kind, "eye": row.eye, "visit": row.visit, "width": row.width}
        for kind, row in found[:MOST]
    ]


def is_beside(connection: Connection, annotator_id: int, image: Any, kinds: Collection[str]) -> bool:
    """Whether an image is shown beside one that this annotator reads."""
    if not kinds or not image.patient_id:
        return False
    own = (
        sa.select(images)
        .join(assignments, assignments.c.image_id == images.c.image_id)
        .where(assignments.c.annotator_id == annotator_id, assignments.c.shown)
        .where(images.c.patient_id == image.patient_id, images.c.listed)
    )
    return any(
        image.image_id == each["image_id"]
        for row in connection.execute(own).all()
        for each in companions(connection, row, kinds)
    )


def _kind(image: Any, other: Any, visits: dict[str, int]) -> str | None:
    """What ``other`` is to ``image``; None if it is nothing to show."""
    if not other.eye:
        return None
    if other.eye != image.eye:
        same_visit = not other.visit or not image.visit or other.visit == image.visit
        return FELLOW if same_visit else None
    if not other.visit or not image.visit:
        return None
    return EARLIER if visits[other.visit] < visits[image.visit] else None


def _ordered(given: Sequence[str | None]) -> dict[str, int]:
    """The place of each visit in time: by number if all are numbers, else as text, in which ISO dates are in order."""
    names = {visit for visit in given if visit}
    try:
        order = sorted(names, key=float)
    except ValueError:
        order = sorted(names)
    return {visit: place for place, visit in enumerate(order)}
