"""How suggestions pull readers: agreement and marks with and without them, and what they confirm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.agreement import agreement, patterns_of
from fundusnet.annotation.readings import CurrentAnswer, Readings
from fundusnet.annotation.suggestions import shown_to
from fundusnet.annotation.tables import suggestions

JSON = dict[str, Any]


def suggestion_effect(connection: Connection, readings: Readings, findings: Sequence[str]) -> JSON | None:
    """Agreement on the images with suggestions and on those without, since these are chosen at random.

    Args:
        connection: Of the transaction that ``readings`` were loaded in.
        readings: All answers so far; ungradable ones do not count.
        findings: What the study can mark.

    Returns:
        ``with`` and ``without`` (images), ``mixed`` (images that only some of their readers had suggestions for, which
        count for neither), and for each of ``findings`` these two again, each with ``images`` of two readings or more,
        ``kappa_image`` and ``kappa_region`` (None where undefined) and ``marked``, the share of the readings that mark
        it; besides ``suggested``, how often it was suggested to a reader who has answered, and ``confirmed``, how often
        of these the reader marks it. None if nobody was shown a suggestion.
    """
    shown = shown_to(connection)
    if not shown:
        return None
    groups: dict[str, list[list[CurrentAnswer]]] = {"with": [], "without": [], "mixed": []}
    for image_id in readings.images:
        if answers := readings.gradable(image_id):
            had = {(answer.annotator, image_id) in shown for answer in answers}
            groups["mixed" if len(had) > 1 else "with" if had == {True} else "without"].append(answers)
    suggested = _suggested(connection)
    return {
        **{name: len(images) for name, images in groups.items()},
        "findings": [
            {
                "finding": finding,
                **{name: _agreement(groups[name], finding) for name in ("with", "without")},
                **_confirmed(groups["with"] + groups["mixed"], finding, shown, suggested),
            }
            for finding in findings
        ],
    }


def _agreement(images: Sequence[Sequence[CurrentAnswer]], finding: str) -> JSON:
    found = agreement(*patterns_of([[answer.content["findings"] for answer in answers] for answers in images], finding))
    marks = [finding in answer.content["findings"] for answers in images for answer in answers]
    return {
        "images": found.images,
        "kappa_image": found.image.kappa,
        "kappa_region": found.region.kappa,
        "marked": sum(marks) / len(marks) if marks else None,
    }


def _confirmed(
    images: Sequence[Sequence[CurrentAnswer]],
    finding: str,
    shown: set[tuple[str, str]],
    suggested: dict[str, set[str]],
) -> JSON:
    """How often a finding was suggested to a reader of these images, and how often that reader marks it."""
    marks = [
        finding in answer.content["findings"]
        for answers in images
        for answer in answers
        if (answer.annotator, answer.image_id) in shown and finding in suggested.get(answer.image_id, ())
    ]
    return {"suggested": len(marks), "confirmed": sum(marks)}


def _suggested(connection: Connection) -> dict[str, set[str]]:
    """Image → findings suggested for it, by whatever networks."""
    found: dict[str, set[str]] = {}
    for row in connection.execute(sa.select(suggestions.c.image_id, suggestions.c.content)):
        found.setdefault(row.image_id, set()).update(row.content["findings"])
    return found
