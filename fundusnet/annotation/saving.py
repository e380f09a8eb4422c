"""Saves what a reader answered (S1.2): each answer as a new version, based on the one that the reader saw."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import Person
from fundusnet.annotation.answers import Answer, check_answer
from fundusnet.annotation.photographs import PhotographAway
from fundusnet.annotation.proposed_points import RECENT, proposals, recent_points, with_origins
from fundusnet.annotation.readings import current_answer
from fundusnet.annotation.rereading import reread
from fundusnet.annotation.storage import forget_setting
from fundusnet.annotation.study import ConflictError, MissingError, Study
from fundusnet.annotation.suggestions import note_shown
from fundusnet.annotation.tables import annotators, answers, assignments, images
from fundusnet.annotation.tallies import ANSWERED, progress_of, recount, recount_progress
from fundusnet.data.decode import Unreadable
from fundusnet.errors import UserError

JSON = dict[str, Any]
_ANY_SIZE = (10**9, 10**9)


def save_answer(study: Study, reader: Person, image_id: str, answer: Answer) -> tuple[int, JSON]:
    """Save an answer as a new version; sending the same change again has no effect.

    Returns:
        The number of the version, and the annotator's progress.

    Raises:
        UserError: The answer is invalid.
        MissingError: The image is not assigned to this annotator.
        ConflictError: A version was saved after the one that the answer is based on.
    """
    change = str(answer.change)
    check_answer(answer, study.findings, _size(study, image_id, answer), study.questions)
    answer = _with_origins(study, reader, image_id, answer)
    with study.storage.write() as connection:
        here = (assignments.c.annotator_id == reader.id, assignments.c.image_id == image_id)
        before = connection.execute(sa.select(assignments).where(*here).with_for_update()).first()
        if before is None:
            raise MissingError
        if (version := _saved_before(connection, reader.id, image_id, change)) is None:
            if before.version != answer.version:
                raise ConflictError("answer", current_answer(connection, reader.id, image_id))
            version = answer.version + 1
            row = {"annotator_id": reader.id, "image_id": image_id, "version": version, "change": change}
            row |= {"state": answer.state, "content": answer.content()}
            row |= {"seconds": answer.seconds, "saved": time.time()}
            connection.execute(sa.insert(answers).values(row))
            state = {"version": version, "state": answer.state, "seconds": answer.seconds}
            connection.execute(sa.update(assignments).where(*here).values(state))
            if answer.suggestion:  # the page's own note of it may have been lost
                note_shown(connection, reader.id, image_id, answer.suggestion.networks)
            if not before.shown:
                _show_again(connection, reader, image_id, answer.state)
            changed = {reader.id}
            if study.plan.reread_ungradable and (before.state == "ungradable") != (answer.state == "ungradable"):
                changed |= reread(connection, study.plan, reader.id, image_id)
            if not before.shown or before.state in ANSWERED or answer.state in ANSWERED:
                recount(connection, [image_id])
                recount_progress(connection, changed)
        progress = progress_of(connection, reader)
    return version, progress


def _saved_before(connection: Connection, annotator_id: int, image_id: str, change: str) -> int | None:
    """The version that ``change`` was saved as; raises UserError if it was made to another image."""
    row = connection.execute(
        sa.select(answers.c.image_id, answers.c.version).where(
            answers.c.annotator_id == annotator_id, answers.c.change == change
        )
    ).first()
    if row is not None and row.image_id != image_id:
        raise UserError("this change id was used for another image; give every change a new id")
    return None if row is None else int(row.version)


def _show_again(connection: Connection, reader: Person, image_id: str, state: str) -> None:
    """Give an image back to a reader whose answer came after it was dealt to others, so that both may go on.

    One who left has no use for it unless it is finished, and nobody sees an image that is not listed.
    """
    shown = sa.select(images.c.image_id).where(images.c.image_id == image_id, images.c.listed)
    active = sa.select(annotators.c.id).where(annotators.c.id == reader.id, annotators.c.active)
    if connection.scalar(shown) is None or (state not in ANSWERED and connection.scalar(active) is None):
        return
    here = (assignments.c.annotator_id == reader.id, assignments.c.image_id == image_id)
    connection.execute(sa.update(assignments).where(*here).values(shown=True))
    forget_setting(connection, "dealt")  # the image may have one reader too many now


def _with_origins(study: Study, reader: Person, image_id: str, answer: Answer) -> Answer:
    """The answer, with the origins that a page of 0.1.0 does not give."""
    if not any(getattr(answer, name) and not getattr(answer, f"{name}_origin") for name in ("disc", "fovea")):
        return answer
    with study.storage.read() as connection:
        row = connection.execute(sa.select(images).where(images.c.image_id == image_id)).one()
        before = current_answer(connection, reader.id, image_id)
        recent = recent_points(connection, reader.id, image_id, RECENT)
    return with_origins(answer, before, proposals(study.photographs, row, recent))


def _size(study: Study, image_id: str, answer: Answer) -> tuple[int, int] | None:
    if answer.disc is None and answer.fovea is None:
        return None
    with study.storage.read() as connection:
        row = connection.execute(sa.select(images).where(images.c.image_id == image_id)).first()
    if row is None:
        raise MissingError
    if row.width is not None:
        return row.width, row.height
    try:
        geometry = study.photographs.geometry(row.path)
    except PhotographAway:
        if row.listed:
            raise
        return _ANY_SIZE  # it was there when the reader saw it
    except Unreadable:
        return None
    return geometry.width, geometry.height
