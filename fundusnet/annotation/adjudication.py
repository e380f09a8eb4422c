"""What the annotators left undecided, an adjudicator's decisions on it, and how the study stands (S1.2)."""

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
from fundusnet.annotation.readings import Decided, Read, points, read_so_far, readings_table
from fundusnet.annotation.storage import annotators, assignments, decisions, images
from fundusnet.annotation.study import ConflictError, MissingError, Study
from fundusnet.data.consensus import consensus
from fundusnet.errors import UserError

JSON = dict[str, Any]


def overview(study: Study) -> JSON:
    """Progress and pace by annotator, agreement by finding, and what is undecided or ungradable."""
    with study.storage.read() as connection:
        read = read_so_far(connection)
        everybody = connection.execute(
            sa.select(annotators).where(annotators.c.role == "annotator").order_by(annotators.c.id)
        ).all()
        dealt = connection.execute(
            sa.select(assignments.c.annotator_id, sa.func.count())
            .join(images)
            .where(images.c.listed)
            .group_by(assignments.c.annotator_id)
        )
        totals = {annotator_id: int(count) for annotator_id, count in dealt}
    done = [given for answers in read.answers.values() for given in answers]
    people = []
    for row in everybody:
        own = [given for given in done if given.annotator == row.name]
        if not row.active and not own:
            continue
        seconds = [given.seconds for given in own if given.seconds > 0]
        pace = round(median(seconds), 1) if seconds else None
        people.append({"name": row.name, "done": len(own), "total": totals.get(row.id, 0), "median_seconds": pace})
    return {
        "images": len(read.images),
        "annotators": people,
        "agreement": [_agreement(study, read, finding) for finding in study.findings],
        "undecided": [
            {
                "image_id": image_id,
                "finding": finding,
                "present": sum(finding in given.content["findings"] for given in read.graded(image_id)),
                "readings": len(read.graded(image_id)),
            }
            for image_id, finding in undecided(study, read)
            if _word(read, image_id, finding) is None
        ],
        "ungradable": [
            {"image_id": image_id, "reasons": reasons, "readings": len(read.answers[image_id])}
            for image_id in read.images
            if (reasons := [g.content["ungradable"] for g in read.answers.get(image_id, []) if g.state == "ungradable"])
        ],
    }


def undecided(study: Study, read: Read) -> list[tuple[str, str]]:
    """Image and finding that some marked but too few, where everybody has answered and at least ``present`` did."""
    ready = {
        image_id
        for image_id in read.images
        if image_id not in read.waiting and len(read.answers.get(image_id, [])) >= study.present
    }
    table = readings_table(read, adjudicated=False)
    table = consensus(table[table["image_id"].isin(ready)], present=study.present, findings=study.findings)
    rows = table.loc[table["label"] == "undecided", ["image_id", "finding"]]
    return [(str(image_id), str(finding)) for image_id, finding in rows.itertuples(index=False, name=None)]


def to_adjudicate(study: Study) -> list[JSON]:
    """What was or is undecided, with the decision so far."""
    with study.storage.read() as connection:
        read = read_so_far(connection)
    return [
        {"image_id": image_id, "finding": finding, "decision": _as_json(read.decisions.get((image_id, finding)))}
        for image_id, finding in _open_questions(study, read)
    ]


def adjudicated_image(study: Study, image_id: str) -> JSON:
    """One image with its readings side by side, without names; raises MissingError, Unreadable."""
    with study.storage.read() as connection:
        read = read_so_far(connection)
    if image_id not in read.images:
        raise MissingError
    row = read.images[image_id]
    view = study.photographs.view(row.path)
    known = points(read, image_id)
    disc, fovea = known or guess_points((view.width, view.height), view.field, row.eye or view.eye or "right")
    names = shuffled([given.annotator for given in read.answers.get(image_id, [])], image_id, study.seed)
    return {
        "image_id": image_id,
        "width": view.width,
        "height": view.height,
        "eye": row.eye or None,
        "disc": list(disc),
        "fovea": list(fovea),
        "points": "guess" if known is None else "answer" if read.graded(image_id) else "manifest",
        "readings": [
            {
                "annotator": chr(ord("A") + names.index(given.annotator)),
                "findings": given.content["findings"] if given.state == "done" else {},
                "normal": given.content["normal"],
                "ungradable": given.content["ungradable"],
                "comment": given.content["comment"],
            }
            for given in sorted(read.answers.get(image_id, []), key=lambda given: names.index(given.annotator))
        ],
        "undecided": [finding for image, finding in _open_questions(study, read) if image == image_id],
        "decisions": {
            finding: _as_json(decision) for (image, finding), decision in read.decisions.items() if image == image_id
        },
    }


def decide(study: Study, adjudicator: Person, image_id: str, decision: Decision) -> int:
    """Keep a decision as a new version and return its number; the same change again changes nothing.

    Raises:
        UserError: the decision breaks a rule, or the annotators are of one mind about the finding.
        MissingError: no such image.
        ConflictError: somebody decided since.
    """
    check_decision(decision, study.findings)
    change = None if decision.change is None else str(decision.change)
    key = (image_id, decision.finding)
    with study.storage.read() as connection:
        read = read_so_far(connection)
    if image_id not in read.images:
        raise MissingError
    if key not in _open_questions(study, read):
        raise UserError(f"{decision.finding} is not undecided in this image; there is nothing to decide")
    before = read.decisions.get(key)
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
        except IntegrityError:  # another adjudicator was quicker by a moment
            with study.storage.read() as connection:
                before = read_so_far(connection).decisions.get(key)
    raise ConflictError("decision", _as_json(before))


def _open_questions(study: Study, read: Read) -> list[tuple[str, str]]:
    """Undecided by the annotators, or decided by an adjudicator already, in the order of the images."""
    decided = {key for key, decision in read.decisions.items() if decision.present is not None}
    wanted = {*undecided(study, read), *decided}
    place = {image_id: number for number, image_id in enumerate(read.images)}
    known = [(image_id, finding) for image_id, finding in wanted if image_id in place and finding in study.findings]
    return sorted(known, key=lambda key: (place[key[0]], study.findings.index(key[1])))


def _word(read: Read, image_id: str, finding: str) -> bool | None:
    decision = read.decisions.get((image_id, finding))
    return None if decision is None else decision.present


def _as_json(decision: Decided | None) -> JSON | None:
    if decision is None:
        return None
    return {"present": decision.present, "regions": list(decision.regions), "version": decision.version}


def _agreement(study: Study, read: Read, finding: str) -> JSON:
    graded = [read.graded(image_id) for image_id in read.images]
    found = agreement([[given.content["findings"] for given in answers] for answers in graded], finding)
    row: JSON = {
        "finding": finding,
        "kappa_image": found.image,
        "kappa_region": found.region,
        "images": found.images,
        "present": sum(sum(finding in g.content["findings"] for g in answers) >= study.present for answers in graded),
    }
    if found.image is None or found.region is None:
        row["reason"] = "no image has two readings yet" if not found.images else "all readings say the same"
    return row
