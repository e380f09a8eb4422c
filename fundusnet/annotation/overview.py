"""The overview of a study: progress, agreement, and what is open. Its size is that of the answer, not of the study."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.agreement import Agreement, Pattern, agreement
from fundusnet.annotation.choice_adjudication import open_disputes
from fundusnet.annotation.group_overview import group_overview
from fundusnet.annotation.question_overview import question_overview
from fundusnet.annotation.readings import load_readings
from fundusnet.annotation.study import Study
from fundusnet.annotation.suggestion_effect import suggestion_effect
from fundusnet.annotation.suggestions import suggested_since
from fundusnet.annotation.tables import (
    annotators,
    answers,
    assignments,
    decisions,
    images,
    marks,
    progress,
    tallies,
)
from fundusnet.annotation.tallies import ANSWERED

JSON = dict[str, Any]
LISTED = 500
"""Images that a list of the overview names at most; ``counts`` has the number of all."""
COMMENTS, LOOKED_THROUGH = 100, 2000


def overview(study: Study) -> JSON:
    """Progress and pace of each annotator, agreement on each finding, and what is undecided, ungradable or missing."""
    with study.storage.read() as connection:
        sizes = sa.select(tallies.c.gradable, sa.func.count()).group_by(tallies.c.gradable)
        of_size = {int(gradable): int(count) for gradable, count in connection.execute(sizes)}
        undecided = undecided_marks(study).where(sa.not_(_decided()))
        lists: dict[str, list[JSON]] = {
            "undecided": [
                {"image_id": row.image_id, "finding": row.finding, "present": row.present, "readings": row.gradable}
                for row in connection.execute(undecided.limit(LISTED))
            ],
            "ungradable": _ungradable(connection),
            "points": _with_tally(connection, tallies.c.points != "", "points"),
            "missing": _missing(connection),
        }
        lists["disputed"], disputed = open_disputes(connection, study, LISTED)
        people = _progress(connection)
        return {
            "images": _count(connection, images, images.c.listed),
            "suggestions": _suggestions(connection, study),
            "comments": _comments(connection),
            "annotators": people,
            "agreement": [_agreement(connection, study, finding, of_size) for finding in study.findings],
            "questions": question_overview(connection, study.questions),
            "groups": group_overview(connection, study, people, _described),
            **lists,
            "counts": {
                "undecided": _count(connection, marks, _few(study)) - _decided_of_few(connection, study),
                "disputed": disputed,
                "ungradable": _count(connection, tallies, tallies.c.ungradable > 0),
                "points": _count(connection, tallies, tallies.c.points != ""),
                "missing": _count(connection, images, sa.not_(images.c.listed)),
            },
        }


def _suggestions(connection: Connection, study: Study) -> JSON | None:
    """The effect of suggestions, for which all answers are read; None, at once, if nobody was shown one."""
    if suggested_since(connection) is None:
        return None
    return suggestion_effect(connection, load_readings(connection), study.findings)


def _comments(connection: Connection) -> list[JSON]:
    """The newest comments of finished answers, without names; only the newest answers are looked through."""
    newest = sa.and_(*(answers.c[name] == assignments.c[name] for name in ("annotator_id", "image_id", "version")))
    rows = connection.execute(
        sa.select(answers.c.image_id, answers.c.content)
        .join(assignments, newest)
        .join(images, images.c.image_id == answers.c.image_id)
        .where(assignments.c.state.in_(ANSWERED), images.c.listed)
        .order_by(answers.c.saved.desc())
        .limit(LOOKED_THROUGH)
    )
    found = [{"image_id": image_id, "comment": content["comment"]} for image_id, content in rows if content["comment"]]
    return found[:COMMENTS]


def undecided_marks(study: Study) -> sa.Select[Any]:
    """Findings that some annotators marked, but too few to count as present, decided by an adjudicator or not.

    Only images count for which all assigned annotators and at least ``study.present`` have answered.
    """
    places = {finding: number for number, finding in enumerate(study.findings)} or {"": 0}
    place = sa.case(places, value=marks.c.finding, else_=-1)
    # By id rather than by place in the source: only marks are read then, of however many images.
    return sa.select(marks).where(_few(study)).order_by(marks.c.image_id, place)


def _few(study: Study) -> sa.ColumnElement[bool]:
    return sa.and_(marks.c.present.between(1, study.present - 1), marks.c.complete >= study.present)


def _decided_of_few(connection: Connection, study: Study) -> int:
    of_it = sa.and_(decisions.c.image_id == marks.c.image_id, decisions.c.finding == marks.c.finding)
    found = sa.select(sa.func.count()).select_from(decisions).join(marks, of_it)
    return int(connection.scalar(found.where(_few(study), decisions.c.present.is_not(None), _newest())) or 0)


def _decided() -> sa.Exists:
    """Whether the newest decision on the finding of a row of marks says present or absent."""
    of_it = (decisions.c.image_id == marks.c.image_id, decisions.c.finding == marks.c.finding)
    return sa.exists().where(*of_it, decisions.c.present.is_not(None), _newest())


def _newest() -> sa.ColumnElement[bool]:
    later = decisions.alias()
    return sa.not_(
        sa.exists().where(
            later.c.image_id == decisions.c.image_id,
            later.c.finding == decisions.c.finding,
            later.c.version > decisions.c.version,
        )
    )


def _count(connection: Connection, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(condition)) or 0)


def _progress(connection: Connection) -> list[JSON]:
    """Of each annotator who takes part or has read something."""
    rows = connection.execute(
        sa.select(annotators, progress)
        .outerjoin(progress)
        .where(annotators.c.role == "annotator")
        .order_by(annotators.c.id)
    )
    return [
        {"name": row.name, "group": row.group_name, "active": row.active}
        | {"done": row.done or 0, "total": row.total or 0, "median_seconds": row.median_seconds}
        for row in rows
        if row.active or row.done
    ]


def _agreement(connection: Connection, study: Study, finding: str, of_size: dict[int, int]) -> JSON:
    columns = (marks.c.gradable, marks.c.present, marks.c.regions)
    grouped = sa.select(*columns, sa.func.count()).where(marks.c.finding == finding).group_by(*columns)
    patterns: Counter[Pattern] = Counter()
    for gradable, present, regions, count in connection.execute(grouped):
        patterns[gradable, present, tuple(ord(each) - ord("0") for each in regions)] = count
    positive = sum(count for (_, present, _), count in patterns.items() if present >= study.present)
    return _described(finding, agreement(patterns, of_size), positive)


def _described(finding: str, found: Agreement, present: int) -> JSON:
    row: JSON = {"finding": finding, "images": found.images, "equal_readings": found.equal, "present": present}
    for unit, coefficients in (("image", found.image), ("region", found.region)):
        row |= {
            f"kappa_{unit}": coefficients.kappa,
            f"kappa_{unit}_interval": coefficients.kappa_interval,
            f"alpha_{unit}": coefficients.alpha,
            f"alpha_{unit}_interval": coefficients.alpha_interval,
        }
    if found.image.kappa is None or found.region.kappa is None:
        row["reason"] = "no image has two readings yet" if not found.images else "all readings agree"
    return row


def _with_tally(connection: Connection, condition: sa.ColumnElement[bool], *names: str) -> list[JSON]:
    """The first images whose tally fulfils a condition, each with these columns of it."""
    rows = connection.execute(
        sa.select(tallies).join(images).where(condition).order_by(images.c.position, images.c.image_id).limit(LISTED)
    )
    return [{name: getattr(row, name) for name in ("image_id", *names)} for row in rows]


def _ungradable(connection: Connection) -> list[JSON]:
    listed = _with_tally(connection, tallies.c.ungradable > 0, "gradable", "ungradable")
    said: dict[str, list[Any]] = {}
    newest = sa.and_(*(answers.c[name] == assignments.c[name] for name in ("annotator_id", "image_id", "version")))
    rows = connection.execute(
        sa.select(assignments.c.image_id, answers.c.content)
        .join(answers, newest)
        .where(assignments.c.image_id.in_([row["image_id"] for row in listed]), assignments.c.state == "ungradable")
        .order_by(assignments.c.annotator_id)
    )
    for image_id, content in rows:
        said.setdefault(image_id, []).append(content)
    return [
        {
            "image_id": row["image_id"],
            "reasons": [content["ungradable"] for content in said[row["image_id"]]],
            "comments": [content["comment"] for content in said[row["image_id"]] if content["comment"]],
            "readings": row["gradable"] + row["ungradable"],
        }
        for row in listed
    ]


def _missing(connection: Connection) -> list[JSON]:
    """Images whose photograph is missing or was changed, those with readings first."""
    read = sa.func.count(assignments.c.image_id)
    rows = connection.execute(
        sa.select(images.c.image_id, images.c.path, read)
        .outerjoin(assignments, sa.and_(assignments.c.image_id == images.c.image_id, assignments.c.state.in_(ANSWERED)))
        .where(sa.not_(images.c.listed))
        .group_by(images.c.image_id, images.c.path)
        .order_by(read.desc(), images.c.image_id)
        .limit(LISTED)
    )
    return [{"image_id": image_id, "path": path, "readings": count} for image_id, path, count in rows]
