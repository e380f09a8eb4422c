"""What adjudicators decide: undecided findings (S1.2), beside the questions of ``choice_adjudication``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import Person
from fundusnet.annotation.answers import Decision, check_decision
from fundusnet.annotation.assignment import shuffled
from fundusnet.annotation.choice_adjudication import by_subject, choice_cases
from fundusnet.annotation.decision_versions import add_version
from fundusnet.annotation.initial_points import guess_points
from fundusnet.annotation.overview import undecided_marks
from fundusnet.annotation.readings import (
    CurrentDecision,
    load_decisions,
    load_readings,
    origin_of,
    reference_points,
)
from fundusnet.annotation.study import MissingError, Study
from fundusnet.annotation.tables import decisions, images, marks
from fundusnet.annotation.tallies import disagreement
from fundusnet.errors import UserError

JSON = dict[str, Any]


def adjudication_cases(study: Study) -> list[JSON]:
    """Findings and questions that are or were undecided, each with the current decision, in the order of image ids.

    ``question`` is "" where it is whether a finding is present, ``finding`` where a question is of the photograph.
    """
    with study.storage.read() as connection:
        wanted = [(row.image_id, row.finding) for row in connection.execute(undecided_marks(study))]
        newest = load_decisions(connection)
        undecided = set(wanted)
        decided = [key for key, decision in newest.items() if decision.present is not None and key not in undecided]
        if decided:
            listed = set(connection.scalars(sa.select(images.c.image_id).where(images.c.listed)))
            wanted += [key for key in decided if key[0] in listed and key[1] in study.findings]
            wanted.sort(key=lambda key: (key[0], study.findings.index(key[1])))
        questions = choice_cases(connection, study)
    cases: list[JSON] = [
        {"image_id": key[0], "finding": key[1], "question": "", "decision": _as_json(newest.get(key))} for key in wanted
    ]
    cases += [
        {"image_id": image_id, "finding": finding, "question": question, "decision": decision}
        for (image_id, finding, question), decision in questions.items()
    ]
    return sorted(cases, key=lambda case: str(case["image_id"]))  # stable: findings first


def image_with_readings(study: Study, image_id: str) -> JSON:
    """One image with its readings side by side, without names.

    Raises:
        MissingError: No such image.
        Unreadable: Its photograph cannot be decoded.
    """
    with study.storage.read() as connection:
        readings = load_readings(connection, image_id)
        undecided = _cases(connection, study, image_id, readings.decisions)
        disputed = choice_cases(connection, study, image_id)
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
        "disputed": by_subject(disputed),
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
    listed = sa.select(images.c.image_id).where(images.c.image_id == image_id, images.c.listed)
    with study.storage.read() as connection:
        known = load_decisions(connection, image_id)
        if connection.scalar(listed) is None:
            raise MissingError
        if decision.finding not in _cases(connection, study, image_id, known):
            raise UserError(f"{decision.finding} is not undecided in this image; there is nothing to decide")
    change = None if decision.change is None else str(decision.change)
    row = {"image_id": image_id, "finding": decision.finding, "present": decision.present, "change": change}
    return add_version(
        study.storage, decisions, row | {"regions": decision.ordered_regions(), "annotator_id": adjudicator.id},
        decision.version, lambda connection: load_decisions(connection, image_id).get((image_id, decision.finding)),
        _as_json,
    )  # fmt: skip


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
