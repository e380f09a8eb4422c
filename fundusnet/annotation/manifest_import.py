"""Imports the readings of a manifest or an earlier export into a study."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.questions import Choices, check_choices
from fundusnet.annotation.record import RECORD, Record, RecordedAnswer, RecordedChoice, RecordedDecision, read_record
from fundusnet.annotation.storage import forget_setting
from fundusnet.annotation.study import Study
from fundusnet.annotation.suggestions import keep_suggestion, note_share, note_shown
from fundusnet.annotation.tables import annotators, answers, assignments, choice_decisions, decisions, images
from fundusnet.annotation.tallies import recount, recount_progress
from fundusnet.data.manifest import COORDINATES, READING_COLUMNS, read_manifest
from fundusnet.errors import UserError

log = logging.getLogger(__name__)


def import_readings(study: Study, folder: Path) -> int:
    """Add the readings of the manifest in ``folder`` to a study.

    An export of a study provides its answers and decisions as they were given, any other manifest its
    ``readings.csv``. Answers that this study already has are kept, so the same manifest can be named at every start.

    Returns:
        Number of answers added.

    Raises:
        UserError: The manifest is invalid, or names images or findings that this study does not have.
    """
    with study.storage.write() as connection:
        known = set(connection.scalars(sa.select(images.c.image_id)))
        record = read_record(folder) if (folder / RECORD).is_file() else None
        given, decided = (record.answers, record.decisions) if record else (_from_manifest(folder), [])
        recorded = record.readers if record else []
        groups = {each.annotator: each.group for each in recorded if each.group in study.plan.groups}
        chosen = record.choice_decisions if record else []
        named = [(answer.image_id, [*answer.findings]) for answer in given]
        named += [(decision.image_id, [decision.finding]) for decision in decided]
        for image_id, findings in [*named, *((choice.image_id, list[str]()) for choice in chosen)]:
            if image_id not in known:
                raise UserError(f"{folder}: image_id '{image_id}' is not in this study; use the same photographs")
            if unknown := [name for name in findings if name not in study.findings]:
                raise UserError(f"{folder}: finding '{unknown[0]}' is not in this study; add it to finding.names")
        for answer in given:
            _check_choices(study, folder, answer.image_id, answer.choices, answer.findings)
        for choice in chosen:
            said = {choice.finding: {choice.question: choice.choice}} if choice.choice is not None else {}
            _check_choices(study, folder, choice.image_id, said, study.findings)
        added = [
            answer.image_id for answer in given if _add_answer(connection, answer, groups.get(answer.annotator, ""))
        ]
        new = len(added)
        unlisted = sa.select(images.c.image_id).where(sa.not_(images.c.listed))
        connection.execute(sa.update(assignments).where(assignments.c.image_id.in_(unlisted)).values(shown=False))
        recount(connection, set(added))
        recount_progress(connection)
        if added:
            forget_setting(connection, "dealt")  # they count towards the readings of each image
        for decision in decided:
            _add_decision(connection, decision)
        for choice in chosen:
            _add_choice(connection, choice)
        if record:
            _add_suggestions(connection, record, known)
    if new:
        log.info("imported %d answers from %s", new, folder)
    return new


def _from_manifest(folder: Path) -> list[RecordedAnswer]:
    """The readings of any manifest, each as the answer it would have come from."""
    manifest = read_manifest(folder)
    places = {
        row["image_id"]: ((row["disc_x"], row["disc_y"]), (row["fovea_x"], row["fovea_y"]))
        for row in manifest.images.dropna(subset=list(COORDINATES)).to_dict("records")
    }
    marked: dict[tuple[str, str], dict[str, list[str]]] = {}
    for image_id, annotator, finding, cell in manifest.readings[list(READING_COLUMNS)].itertuples(
        index=False, name=None
    ):
        findings = marked.setdefault((image_id, annotator), {})
        if finding:
            findings[finding] = sorted({*findings.get(finding, []), *filter(None, cell.split(";"))})
    recorded = []
    for (image_id, annotator), findings in marked.items():
        disc, fovea = places.get(image_id, (None, None))
        recorded.append(
            RecordedAnswer(
                image_id=image_id, annotator=annotator, saved=time.time(), version=1, state="done", findings=findings,
                # The same rows always get the same id, whenever they are imported.
                change=uuid5(NAMESPACE_URL, f"{image_id}\0{annotator}\0{findings}"),
                normal=not findings, ungradable=None, comment="", disc=disc, fovea=fovea, seconds=0.0,
            )
        )  # fmt: skip
    return recorded


def _check_choices(study: Study, folder: Path, image_id: str, choices: Choices, marked: Collection[str]) -> None:
    try:
        check_choices(choices, study.questions, marked, complete=False)
    except UserError as error:
        raise UserError(f"{folder}, image {image_id}: {error}; give questions= as in that study") from error


def _add_answer(connection: Connection, answer: RecordedAnswer, group: str) -> bool:
    """Add an answer, unless its annotator already has one for that image."""
    annotator_id = _annotator_id(connection, answer.annotator, "annotator", group)
    here = {"annotator_id": annotator_id, "image_id": answer.image_id}
    same = (answers.c.annotator_id == annotator_id, answers.c.image_id == answer.image_id)
    if connection.scalar(sa.select(answers.c.version).where(*same)) is not None:
        return False
    state = {"version": 1, "state": answer.state, "seconds": answer.seconds}
    placed = connection.execute(
        sa.update(assignments)
        .where(assignments.c.annotator_id == annotator_id, assignments.c.image_id == answer.image_id)
        .values(state | {"shown": True})
    )
    if not placed.rowcount:
        connection.execute(sa.insert(assignments).values(here | state | {"shown": True}))
    more = {"change": str(answer.change), "content": answer.content(), "saved": answer.saved}
    connection.execute(sa.insert(answers).values(here | state | more))
    return True


def _add_decision(connection: Connection, decision: RecordedDecision) -> None:
    here = {"image_id": decision.image_id, "finding": decision.finding}
    same = (decisions.c.image_id == decision.image_id, decisions.c.finding == decision.finding)
    if connection.scalar(sa.select(decisions.c.version).where(*same)) is None:
        adjudicator = _annotator_id(connection, decision.adjudicator, "adjudicator")
        said = {"present": decision.present, "regions": decision.ordered_regions(), "saved": decision.saved}
        connection.execute(sa.insert(decisions).values(**here, **said, version=1, annotator_id=adjudicator))


def _add_choice(connection: Connection, decision: RecordedChoice) -> None:
    here = {"image_id": decision.image_id, "finding": decision.finding, "question": decision.question}
    same = (choice_decisions.c[name] == value for name, value in here.items())
    if connection.scalar(sa.select(choice_decisions.c.version).where(*same)) is None:
        adjudicator = _annotator_id(connection, decision.adjudicator, "adjudicator")
        said = {"choice": decision.choice, "saved": decision.saved, "version": 1, "annotator_id": adjudicator}
        connection.execute(sa.insert(choice_decisions).values(here | said))


def _add_suggestions(connection: Connection, record: Record, images: Collection[str]) -> None:
    """What was suggested, and to whom it was shown: readings that were made with suggestions stay such."""
    for chosen in record.shares:
        note_share(connection, chosen.seed, chosen.share)
    for suggested in record.suggestions:
        if suggested.image_id in images:
            keep_suggestion(connection, suggested.image_id, suggested.networks, suggested.suggestion(), suggested.made)
    for shown in record.shown:
        if shown.image_id in images:
            annotator = _annotator_id(connection, shown.annotator, "annotator")
            note_shown(connection, annotator, shown.image_id, shown.networks, shown.at)


def _annotator_id(connection: Connection, name: str, role: str, group: str = "") -> int:
    """The id of an annotator; a new one is added as inactive until the name is enrolled."""
    row = connection.execute(sa.select(annotators).where(annotators.c.name == name)).first()
    if row is None:
        connection.execute(sa.insert(annotators).values(name=name, role=role, group_name=group, active=False))
        return _annotator_id(connection, name, role)
    return int(row.id)
