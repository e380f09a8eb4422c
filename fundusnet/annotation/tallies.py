"""What the finished answers for each image add up to, kept beside them so that an overview need not read them all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.patterns import write_patterns
from fundusnet.annotation.storage import set_setting, setting
from fundusnet.annotation.tables import annotators, answers, assignments, images, marks, tallies
from fundusnet.data.regions import REGIONS, eye_of

ANSWERED = ("done", "ungradable")
APART = 0.25
"""Two readers' discs (or foveas) further apart than this share of the distance from disc to fovea are shown to the
adjudicator. Our choice: a disc is about a third of that distance wide, and careful readers differ by a tenth."""
VERSION = "1"  # increase it when the same answers add up to something else
_AT_ONCE = 400


def recount(connection: Connection, image_ids: Collection[str]) -> None:
    """Derive tallies and marks of these images anew, in a write transaction."""
    for chunk in _chunks(list(image_ids)):
        # Two readers of one image may save at the same moment; SQLite has one writer anyway.
        connection.execute(sa.select(images.c.image_id).where(images.c.image_id.in_(chunk)).with_for_update()).all()
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


def recount_all(connection: Connection) -> None:
    """Derive everything anew where an earlier version counted differently, or not at all."""
    if setting(connection, "tallies") == VERSION:
        return
    recount(connection, list(connection.scalars(sa.select(assignments.c.image_id).distinct())))
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


def _chunks(image_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(image_ids), _AT_ONCE):
        yield image_ids[start : start + _AT_ONCE]
