"""What answers add up to for each image and each reader, kept so that an overview need not read them all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import Person
from fundusnet.annotation.disputes import write_disputes
from fundusnet.annotation.patterns import write_patterns
from fundusnet.annotation.storage import set_setting, setting
from fundusnet.annotation.tables import annotators, answers, assignments, images, marks, progress, tallies
from fundusnet.data.regions import REGIONS, eye_of

ANSWERED = ("done", "ungradable")
APART = 0.25
"""Two readers' discs (or foveas) further apart than this share of the distance from disc to fovea are shown to the
adjudicator. Our choice: a disc is about a third of that distance wide, and careful readers differ by a tenth."""
VERSION = "4"  # increase it when the same answers add up to something else
_AT_ONCE = 400


def recount(connection: Connection, image_ids: Collection[str]) -> None:
    """Derive tallies and marks of these images anew, in a write transaction."""
    for chunk in _chunks(sorted(image_ids)):  # in one order, so that two of these do not wait for each other
        # Two readers of one image may save at the same moment. Each has stored an answer that refers to the image; only
        # with the weaker lock (key_share) they do not wait for each other.
        locked = sa.select(images.c.image_id).where(images.c.image_id.in_(chunk)).order_by(images.c.image_id)
        connection.execute(locked.with_for_update(key_share=True)).all()
        for table in (tallies, marks):
            connection.execute(sa.delete(table).where(table.c.image_id.in_(chunk)))
        newest = sa.and_(
            answers.c.annotator_id == assignments.c.annotator_id,
            answers.c.image_id == assignments.c.image_id,
            answers.c.version == assignments.c.version,
        )
        rows = connection.execute(
            sa.select(
                assignments.c.image_id, assignments.c.state, assignments.c.shown,
                answers.c.content, annotators.c.group_name,
            )
            .join(images, images.c.image_id == assignments.c.image_id)
            .join(annotators, annotators.c.id == assignments.c.annotator_id)
            .outerjoin(answers, newest)
            .where(assignments.c.image_id.in_(chunk), images.c.listed)
        )  # fmt: skip
        of_image: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            of_image[row.image_id].append(row)
        counted = [_count(image_id, found) for image_id, found in of_image.items()]
        if sums := [row for row, _ in counted if row]:
            connection.execute(sa.insert(tallies), sums)
        if marked := [row for _, found in counted for row in found]:
            connection.execute(sa.insert(marks), marked)
        write_patterns(connection, chunk, of_image)
        write_disputes(connection, chunk, of_image)


def progress_of(connection: Connection, reader: Person) -> dict[str, int]:
    """How many images this annotator has answered (``done``) of how many (``total``)."""
    row = connection.execute(sa.select(progress).where(progress.c.annotator_id == reader.id)).first()
    return {"done": row.done, "total": row.total} if row else {"done": 0, "total": 0}


def recount_progress(connection: Connection, annotator_ids: Collection[int] | None = None) -> None:
    """Count the images of these annotators anew, or of all, in a write transaction."""
    chosen = sa.true() if annotator_ids is None else annotators.c.id.in_(annotator_ids)
    # The same reader may save in two browsers at the same moment.
    people = connection.scalars(
        sa.select(annotators.c.id).where(chosen).order_by(annotators.c.id).with_for_update(key_share=True)
    ).all()
    connection.execute(sa.delete(progress).where(progress.c.annotator_id.in_(people)))
    if people:
        connection.execute(sa.insert(progress), [_progress_row(connection, annotator_id) for annotator_id in people])


def recount_all(connection: Connection) -> None:
    """Derive everything anew where an earlier version counted differently, or not at all."""
    if setting(connection, "tallies") == VERSION:
        return
    recount(connection, list(connection.scalars(sa.select(assignments.c.image_id).distinct())))
    recount_progress(connection)
    set_setting(connection, "tallies", VERSION)


def confirmed(content: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """The reader's own "disc" or "fovea"; None where it is missing or was only proposed.

    Answers of 0.1.0 do not say where a point comes from, and count as placed.
    """
    point = content.get(name)
    return (point[0], point[1]) if point and (content.get(f"{name}_origin") or "placed") == "placed" else None


def disagreement(contents: Sequence[Mapping[str, Any]]) -> str:
    """How the confirmed points of several readings of one image disagree: "mirrored", "apart", or "" if they do not."""
    pairs = [
        (disc, fovea) for each in contents if (disc := confirmed(each, "disc")) and (fovea := confirmed(each, "fovea"))
    ]
    found = ""
    for one, other in combinations(pairs, 2):
        if eye_of(*one) != eye_of(*other):
            return "mirrored"
        limit = APART * min(math.dist(*one), math.dist(*other))
        if any(math.dist(a, b) > limit for a, b in zip(one, other, strict=True)):
            found = "apart"
    return found


def _count(image_id: str, rows: Sequence[Any]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    read = [row.content for row in rows if row.state == "done"]
    ungradable = sum(row.state == "ungradable" for row in rows)
    if not read and not ungradable:
        return None, []
    waiting = any(row.shown and row.state not in ANSWERED for row in rows)
    shared = {"image_id": image_id, "gradable": len(read)}
    marked = []
    for finding in dict.fromkeys(name for content in read for name in content["findings"]):
        regions = [content["findings"][finding] for content in read if finding in content["findings"]]
        touched = "".join(chr(ord("0") + sum(region in each for each in regions)) for region in REGIONS.values())
        complete = 0 if waiting else len(read) + ungradable
        marked.append(shared | {"finding": finding, "present": len(regions), "regions": touched, "complete": complete})
    return shared | {"ungradable": ungradable, "points": disagreement(read)}, marked


def _progress_row(connection: Connection, annotator_id: int) -> dict[str, Any]:
    counts = connection.execute(
        sa.select(assignments.c.state, sa.func.count())
        .where(assignments.c.annotator_id == annotator_id, assignments.c.shown)
        .group_by(assignments.c.state)
    )
    by_state = {state: int(count) for state, count in counts}
    return {
        "annotator_id": annotator_id,
        "done": sum(by_state.get(state, 0) for state in ANSWERED),
        "total": sum(by_state.values()),
        "median_seconds": _median_seconds(connection, annotator_id),
    }


def _median_seconds(connection: Connection, annotator_id: int) -> float | None:
    """Median time of this annotator's gradable readings; None without any."""
    timed = sa.select(assignments.c.seconds).where(
        assignments.c.annotator_id == annotator_id,
        assignments.c.shown,
        assignments.c.state == "done",
        assignments.c.seconds > 0,
    )
    count = connection.scalar(sa.select(sa.func.count()).select_from(timed.subquery())) or 0
    if not count:
        return None
    middle = timed.order_by(assignments.c.seconds).offset((count - 1) // 2).limit(2 - count % 2)
    found: list[float] = list(connection.scalars(middle))
    return round(sum(found) / len(found), 1)


def _chunks(image_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(image_ids), _AT_ONCE):
        yield image_ids[start : start + _AT_ONCE]
