"""Undecided findings, and adjudicators' decisions on them (S1.2)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from fundusnet.annotation.access import Person
from fundusnet.annotation.answers import Decision, check_decision
from fundusnet.annotation.assignment import shuffled
from fundusnet.annotation.initial_points import guess_points
from fundusnet.annotation.overview import undecided_marks
from fundusnet.annotation.readings import (
    CurrentDecision,
    load_decisions,
    load_readings,
    origin_of,
    reference_points,
)
from fundusnet.annotation.study import ConflictError, MissingError, Study
from fundusnet.annotation.tables import decisions, images, marks
from fundusnet.annotation.tallies import disagreement
from fundusnet.errors import UserError

JSON = dict[str, Any]


def adjudication_cases(study: Study) -> list[JSON]:
    """Findings that are or were undecided, each with the current decision, in the order of image ids."""
    with study.storage.read() as connection:
        wanted = [(row.image_id, row.finding) for row in connection.execute(undecided_marks(study))]
        newest = load_decisions(connection)
        undecided = set(wanted)
        decided = [key for key, decision in newest.items() if decision.present is not None and key not in undecided]
        if decided:
            listed = set(connection.scalars(sa.select(images.c.image_id).where(images.c.listed)))
            wanted += [key for key in decided if key[0] in listed and key[1] in study.findings]
            wanted.sort(key=lambda key: (key[0], study.findings.index(key[1])))
    return [
        {"image_id": image_id, "finding": finding, "decision": _as_json(newest.get((image_id, finding)))}
        for image_id, finding in wanted
    ]


def image_with_readings(study: Study, image_id: str) -> JSON:
    """One image with its readings side by side, without names.

    Raises:
        MissingError: No such image.
        Unreadable: Its photograph cannot be decoded.
    """
    with study.storage.read() as connection:
        readings = load_readings(connection, image_id)
        undecided = _cases(connection, study, image_id, readings.decisions)
    if image_id not in readings.images:
        raise MissingError
    row = readings.images[image_id]
    geometry = study.photographs.geometry(row.path)
    known = reference_points(readings, image_id)
    disc, fovea = known or guess_points(
        (geometry.width, geometry.height), geometry.field, row.eye or geometry.eye or "right"
    )
    given = readings.answers.get(image_id, [])
    names = shuffled([answer.annotator for answer in given], image_id, study.seed)
    return {
        "image_id": image_id,
        "width": geometry.width,
        "height": geometry.height,
        "eye": row.eye or None,
        "disc": list(disc),
        "fovea": list(fovea),
        "points": "guess" if known is None else "answer" if readings.gradable(image_id) else "manifest",
        "points_disagree": disagreement([answer.content for answer in readings.gradable(image_id)]),
        "readings": [
            {
                "annotator": chr(ord("A") + names.index(answer.annotator)),
                "findings": answer.content["findings"] if answer.state == "done" else {},
                "normal": answer.content["normal"],
                "ungradable": answer.content["ungradable"],
                "comment": answer.content["comment"],
                "choices": answer.content.get("choices", {}),
                "disc": answer.content["disc"],
                "fovea": answer.content["fovea"],
                "disc_origin": origin_of(answer.content, "disc"),
                "fovea_origin": origin_of(answer.content, "fovea"),
            }
            for answer in sorted(given, key=lambda answer: names.index(answer.annotator))
        ],
        "undecided": undecided,
        "decisions": {finding: _as_json(decision) for (_, finding), decision in readings.decisions.items()},
    }


def save_decision(study: Study, adjudicator: Person, image_id: str, decision: Decision) -> int:
    """Store a decision as a new version and return its number; sending the same change again has no effect.

    Raises:
        UserError: The decision is invalid, or the annotators agree on the finding.
        MissingError: No such image.
        ConflictError: Another decision was stored in the meantime.
    """
    check_decision(decision, study.findings)
    change = None if decision.change is None else str(decision.change)
    key = (image_id, decision.finding)
    listed = sa.select(images.c.image_id).where(images.c.image_id == image_id, images.c.listed)
    with study.storage.read() as connection:
        known = load_decisions(connection, image_id)
        if connection.scalar(listed) is None:
            raise MissingError
        if decision.finding not in _cases(connection, study, image_id, known):
            raise UserError(f"{decision.finding} is not undecided in this image; there is nothing to decide")
    before = known.get(key)
    if before is not None and change is not None and before.change == change:
        return before.version
    stored = before.version if before else 0
    if stored == decision.version:
        row = {"image_id": image_id, "finding": decision.finding, "version": stored + 1, "change": change}
        row |= {"annotator_id": adjudicator.id, "present": decision.present, "saved": time.time()}
        row |= {"regions": decision.ordered_regions()}
        try:
            with study.storage.write() as connection:
                connection.execute(sa.insert(decisions).values(row))
            return stored + 1
        except IntegrityError:  # another adjudicator decided at the same moment
            with study.storage.read() as connection:
                before = load_decisions(connection, image_id).get(key)
    raise ConflictError("decision", _as_json(before))


def _cases(
    connection: Connection, study: Study, image_id: str, known: Mapping[tuple[str, str], CurrentDecision]
) -> list[str]:
    """Findings of one image that are undecided or decided by an adjudicator."""
    found = {row.finding for row in connection.execute(undecided_marks(study).where(marks.c.image_id == image_id))}
    found |= {finding for (_, finding), decision in known.items() if decision.present is not None}
    return [finding for finding in study.findings if finding in found]


def _as_json(decision: CurrentDecision | None) -> JSON | None:
    if decision is None:
        return None
    return {"present": decision.present, "regions": list(decision.regions), "version": decision.version}
