"""The disc and fovea that a reader is offered for a photograph, and whether those of an answer are the reader's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.answers import Answer
from fundusnet.annotation.initial_points import Field, guess_points
from fundusnet.annotation.photographs import Geometry, Photographs
from fundusnet.annotation.tables import answers, images
from fundusnet.data.decode import Unreadable
from fundusnet.data.manifest import COORDINATES
from fundusnet.data.regions import Point, is_near

RECENT = 4
"""Photographs whose points a guess may have copied: a page loads the next two before the present one is saved."""
_SAME_POINT = 0.15  # pixels: proposed points are rounded to a tenth
Placed = tuple[str, Point, Point]
"""Path of a photograph, disc and fovea on it."""


def manifest_points(row: Any, geometry: Geometry) -> tuple[Point, Point] | None:
    """Disc and fovea of the manifest; None where they are not known, or outside the photograph."""
    known = [getattr(row, name) for name in COORDINATES]
    # ``prepare`` rejects photographs with points outside them, so those have to be placed again.
    size = (geometry.width, geometry.height)
    if None in known or not (is_near((known[0], known[1]), *size) and is_near((known[2], known[3]), *size)):
        return None
    return (known[0], known[1]), (known[2], known[3])


def guess_like(photographs: Photographs, row: Any, geometry: Geometry, last: Placed | None) -> tuple[Point, Point]:
    """Disc and fovea guessed for an image, as ``last`` has them on another photograph or where they usually are."""
    like: tuple[Field, Point, Point] | None = None
    if last is not None:
        with suppress(Unreadable):
            like = (photographs.geometry(last[0]).field, *last[1:])
    eye = row.eye or geometry.eye or "right"
    return guess_points((geometry.width, geometry.height), geometry.field, eye, like)


def recent_points(connection: Connection, annotator_id: int, image_id: str, count: int) -> list[Placed]:
    """The points of the answers this annotator saved last for other images, the newest first."""
    rows = connection.execute(
        sa.select(answers.c.content, images.c.path)
        .join(images)
        .where(answers.c.annotator_id == annotator_id, answers.c.image_id != image_id, images.c.listed)
        .order_by(answers.c.saved.desc())
        .limit(20)
    )
    found: list[Placed] = []
    for content, path in rows:
        if content["disc"] and content["fovea"] and all(path != each[0] for each in found):
            found.append((path, tuple(content["disc"]), tuple(content["fovea"])))
    return found[:count]


def proposals(photographs: Photographs, row: Any, recent: Sequence[Placed]) -> list[tuple[str, Point, Point]]:
    """Origin, disc and fovea of all proposals that a reader may have been offered; none if it cannot be read."""
    try:
        geometry = photographs.geometry(row.path)
    except Unreadable:
        return []
    if manifest_points(row, geometry):
        return []  # they are no guess: readers who leave them agree
    if geometry.points is not None:
        x, y, u, v = geometry.points
        return [("localised", (x, y), (u, v))]
    return [("guessed", *guess_like(photographs, row, geometry, last)) for last in (None, *recent)]


def with_origins(answer: Answer, before: Mapping[str, Any], proposed: Sequence[tuple[str, Point, Point]]) -> Answer:
    """The answer, with the origin of each point that the page did not give.

    A point counts as placed, unless it is where the version before had it with another origin, or where it may have
    been proposed.
    """
    found = {}
    for place, name in enumerate(("disc", "fovea")):
        point = getattr(answer, name)
        if point is None or getattr(answer, f"{name}_origin"):
            continue
        found[f"{name}_origin"] = next(
            (origin for origin, *pair in proposed if math.dist(point, pair[place]) < _SAME_POINT), "placed"
        )
        if before[name] and math.dist(point, before[name]) < _SAME_POINT:
            found[f"{name}_origin"] = before.get(f"{name}_origin") or "placed"
    return answer.model_copy(update=found)
