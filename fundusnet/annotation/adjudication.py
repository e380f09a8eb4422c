"""Undecided findings, adjudicators' decisions on them, and the overview of a study (S1.2)."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from fundusnet.annotation.access import Person
from fundusnet.annotation.agreement import agreement
from fundusnet.annotation.answers import Decision, check_decision
from fundusnet.annotation.assignment import shuffled
from fundusnet.annotation.initial_points import guess_points
from fundusnet.annotation.readings import CurrentDecision, Readings, load_readings, readings_table, reference_points
from fundusnet.annotation.storage import annotators, assignments, decisions, images
from fundusnet.annotation.study import ConflictError, MissingError, Study
from fundusnet.annotation.suggestion_effect import suggestion_effect
from fundusnet.data.consensus import consensus
from fundusnet.errors import UserError

JSON = dict[str, Any]
COMMENTS = 100
"""The overview shows the newest ones, without names."""


def overview(study: Study) -> JSON:
    """Progress and pace of each annotator, agreement on each finding, undecided and ungradable images, suggestions."""
    with study.storage.read() as connection:
        readings = load_readings(connection)
        people = connection.execute(
            sa.select(annotators).where(annotators.c.role == "annotator").order_by(annotators.c.id)
        ).all()
        assigned = connection.execute(
            sa.select(assignments.c.annotator_id, sa.func.count())
            .join(images)
            .where(images.c.listed)
            .group_by(assignments.c.annotator_id)
        )
        totals = {annotator_id: int(count) for annotator_id, count in assigned}
        effect = suggestion_effect(connection, readings, study.findings)
    done = [given for answers in readings.answers.values() for given in answers]
    progress = []
    for row in people:
        own = [given for given in done if given.annotator == row.name]
        if not row.active and not own:
            continue
        seconds = [given.seconds for given in own if given.seconds > 0]
        pace = round(median(seconds), 1) if seconds else None
        progress.append({"name": row.name, "done": len(own), "total": totals.get(row.id, 0), "median_seconds": pace})
    reasons = {
        image_id: [given.content["ungradable"] for given in answers if given.state == "ungradable"]
        for image_id, answers in readings.answers.items()
    }
    return {
        "images": len(readings.images),
        "annotators": progress,
        "agreement": [_agreement(study, readings, finding) for finding in study.findings],
        "undecided": [
            {
                "image_id": image_id,
                "finding": finding,
                "present": sum(finding in given.content["findings"] for given in readings.gradable(image_id)),
                "readings": len(readings.gradable(image_id)),
            }
            for image_id, finding in undecided(study, readings)
            if _verdict(readings, image_id, finding) is None
        ],
        "ungradable": [
            {"image_id": image_id, "reasons": reasons[image_id], "readings": len(readings.answers[image_id])}
            for image_id in readings.images
            if reasons.get(image_id)
        ],
        "suggestions": effect,
        "comments": [
            {"image_id": given.image_id, "comment": given.content["comment"]}
            for given in sorted(done, key=lambda given: -given.saved)
            if given.content["comment"]
        ][:COMMENTS],
    }


def undecided(study: Study, readings: Readings) -> list[tuple[str, str]]:
    """Images and findings that some annotators marked, but too few to count as present.

    Only images count for which all assigned annotators and at least ``study.present`` have answered.
    """
    ready = {
        image_id
        for image_id in readings.images
        if image_id not in readings.waiting and len(readings.answers.get(image_id, [])) >= study.present
    }
    table = readings_table(readings, adjudicated=False)
    table = consensus(table[table["image_id"].isin(ready)], present=study.present, findings=study.findings)
    rows = table.loc[table["label"] == "undecided", ["image_id", "finding"]]
    return [(str(image_id), str(finding)) for image_id, finding in rows.itertuples(index=False, name=None)]


def adjudication_cases(study: Study) -> list[JSON]:
    """Findings that are or were undecided, each with the current decision."""
    with study.storage.read() as connection:
        readings = load_readings(connection)
    return [
        {"image_id": image_id, "finding": finding, "decision": _as_json(readings.decisions.get((image_id, finding)))}
        for image_id, finding in _cases(study, readings)
    ]


def image_with_readings(study: Study, image_id: str) -> JSON:
    """One image with its readings side by side, without names.

    Raises:
        MissingError: No such image.
        Unreadable: Its photograph cannot be decoded.
    """
    with study.storage.read() as connection:
        readings = load_readings(connection)
    if image_id not in readings.images:
        raise MissingError
    row = readings.images[image_id]
    geometry = study.photographs.geometry(row.path)
    known = reference_points(readings, image_id)
    disc, fovea = known or guess_points(
        (geometry.width, geometry.height), geometry.field, row.eye or geometry.eye or "right"
    )
    names = shuffled([given.annotator for given in readings.answers.get(image_id, [])], image_id, study.seed)
    return {
        "image_id": image_id,
        "width": geometry.width,
        "height": geometry.height,
        "eye": row.eye or None,
        "disc": list(disc),
        "fovea": list(fovea),
        "points": "guess" if known is None else "answer" if readings.gradable(image_id) else "manifest",
        "readings": [
            {
                "annotator": chr(ord("A") + names.index(given.annotator)),
                "findings": given.content["findings"] if given.state == "done" else {},
                "normal": given.content["normal"],
                "ungradable": given.content["ungradable"],
                "comment": given.content["comment"],
                **{name: given.content.get(name) for name in ("disc", "fovea", "disc_origin", "fovea_origin")},
            }
            for given in sorted(readings.answers.get(image_id, []), key=lambda given: names.index(given.annotator))
        ],
        "undecided": [finding for image, finding in _cases(study, readings) if image == image_id],
        "decisions": {
            finding: _as_json(decision)
            for (image, finding), decision in readings.decisions.items()
            if image == image_id
        },
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
    with study.storage.read() as connection:
        readings = load_readings(connection)
    if image_id not in readings.images:
        raise MissingError
    if key not in _cases(study, readings):
        raise UserError(f"{decision.finding} is not undecided in this image; there is nothing to save_decision")
    before = readings.decisions.get(key)
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
                before = load_readings(connection).decisions.get(key)
    raise ConflictError("decision", _as_json(before))


def _cases(study: Study, readings: Readings) -> list[tuple[str, str]]:
    """Findings that are undecided or decided by an adjudicator, in the order of the images."""
    decided = {key for key, decision in readings.decisions.items() if decision.present is not None}
    wanted = {*undecided(study, readings), *decided}
    place = {image_id: number for number, image_id in enumerate(readings.images)}
    known = [(image_id, finding) for image_id, finding in wanted if image_id in place and finding in study.findings]
    return sorted(known, key=lambda key: (place[key[0]], study.findings.index(key[1])))


def _verdict(readings: Readings, image_id: str, finding: str) -> bool | None:
    decision = readings.decisions.get((image_id, finding))
    return None if decision is None else decision.present


def _as_json(decision: CurrentDecision | None) -> JSON | None:
    if decision is None:
        return None
    return {"present": decision.present, "regions": list(decision.regions), "version": decision.version}


def _agreement(study: Study, readings: Readings, finding: str) -> JSON:
    graded = [readings.gradable(image_id) for image_id in readings.images]
    found = agreement([[given.content["findings"] for given in answers] for answers in graded], finding)
    row: JSON = {
        "finding": finding,
        "kappa_image": found.image,
        "kappa_region": found.region,
        "images": found.images,
        "present": sum(sum(finding in g.content["findings"] for g in answers) >= study.present for answers in graded),
    }
    if found.image is None or found.region is None:
        row["reason"] = "no image has two readings yet" if not found.images else "all readings agree"
    return row
