"""A study: its images and annotators, the answers they save, and what an adjudicator makes of them (S1.2)."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import Person
from fundusnet.annotation.answers import NO_ANSWER, Answer, check_answer
from fundusnet.annotation.assignment import reading_order
from fundusnet.annotation.initial_points import Field, Point, guess_points
from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.readings import ANSWERED
from fundusnet.annotation.roster import call, deal_out, study_seed
from fundusnet.annotation.storage import (
    Storage,
    annotators,
    answers,
    assignments,
    images,
    set_setting,
    setting,
)
from fundusnet.data.decode import Unreadable
from fundusnet.data.manifest import COORDINATES, Manifest
from fundusnet.errors import UserError

JSON = dict[str, Any]


class MissingError(Exception):
    """No such image, or not one of this annotator's."""


class ConflictError(Exception):
    """Somebody saved since; ``stored`` is the ``what`` ("answer" or "decision") that is there now."""

    def __init__(self, what: str, stored: JSON | None) -> None:
        """Carry what is stored."""
        super().__init__(f"{what} saved elsewhere since")
        self.what, self.stored = what, stored


class Study:
    """Everything the server, the export and the import ask of a study; a database transaction a call."""

    def __init__(
        self,
        storage: Storage,
        photographs: Photographs,
        findings: Sequence[str],
        readings_per_image: int = 3,
        present: int = 2,
    ) -> None:
        """Use what ``storage`` holds; ``present`` readings make a finding present."""
        self.storage, self.photographs = storage, photographs
        self.findings = tuple(findings)
        self.readings_per_image, self.present = readings_per_image, present

    def begin(self, manifest: Manifest, seed: int) -> None:
        """Take in the manifest's images. The first seed a study is begun with stays its seed.

        Raises:
            UserError: the manifest has no image.
        """
        if not len(manifest.images):
            raise UserError(f"root={manifest.root}: no photograph to annotate; check data.root")
        with self.storage.write() as connection:
            if setting(connection, "study") is None:
                set_setting(connection, "study", secrets.token_hex(8))
                set_setting(connection, "seed", str(seed))
            known = set(connection.scalars(sa.select(images.c.image_id)))
            connection.execute(sa.update(images).values(listed=False))
            rows = [_image_row(row, place) for place, row in enumerate(manifest.images.to_dict("records"))]
            new = [row for row in rows if row["image_id"] not in known]
            if new:
                connection.execute(sa.insert(images), new)
            old = [row | {"key": row["image_id"]} for row in rows if row["image_id"] in known]
            if old:
                connection.execute(sa.update(images).where(images.c.image_id == sa.bindparam("key")), old)

    def enrol(self, readers: Sequence[str], adjudicators: Sequence[str] = (), alone: str = "me") -> bool:
        """Settle who takes part and deal the images out; True where they sign in by link.

        Named people are the roster from now on. Without names it stays as it was, or is ``alone``, who needs no link.

        Raises:
            UserError: a name is empty, stands twice, or had another role before.
        """
        with self.storage.write() as connection:
            if readers or adjudicators:
                set_setting(connection, "links", "yes")
                roles = [(name, "annotator") for name in readers] + [(name, "adjudicator") for name in adjudicators]
                call(connection, roles)
            elif setting(connection, "links") is None:
                call(connection, [(alone, "annotator")])
            deal_out(connection, self.readings_per_image)
            return setting(connection, "links") is not None

    @property
    def key(self) -> str:
        """What tells this study from others."""
        with self.storage.read() as connection:
            return setting(connection, "study") or ""

    @property
    def seed(self) -> int:
        """What the study's random orders follow from."""
        with self.storage.read() as connection:
            return study_seed(connection)

    def people(self) -> list[Person]:
        """Those who take part now, in order of enrolment."""
        with self.storage.read() as connection:
            rows = connection.execute(sa.select(annotators).where(annotators.c.active).order_by(annotators.c.id))
            return [Person(row.id, row.name, row.role) for row in rows]

    def progress(self, reader: Person) -> JSON:
        """How many images this annotator has answered, of how many."""
        with self.storage.read() as connection:
            return _progress(connection, reader.id)

    def queue(self, reader: Person) -> list[JSON]:
        """The annotator's images in their own order, and where each stands."""
        with self.storage.read() as connection:
            found = connection.execute(
                sa.select(assignments.c.image_id, assignments.c.state)
                .join(images)
                .where(assignments.c.annotator_id == reader.id, images.c.listed)
            )
            states = {row.image_id: row.state for row in found}
            order = reading_order(states, reader.name, study_seed(connection))
        return [{"image_id": image_id, "state": states[image_id]} for image_id in order]

    def path(self, image_id: str) -> str:
        """Path of an image's photograph as the manifest has it; raises ``MissingError``."""
        with self.storage.read() as connection:
            return str(_image(connection, image_id).path)

    def may_see(self, reader: Person, image_id: str) -> bool:
        """Whether an image is one of this annotator's, or the person an adjudicator."""
        if reader.role == "adjudicator":
            return True
        with self.storage.read() as connection:
            return connection.scalar(_assigned(reader.id, image_id)) is not None

    def image(self, reader: Person, image_id: str) -> JSON:
        """An image of this annotator's, its points, and the answer so far; raises MissingError, Unreadable."""
        with self.storage.read() as connection:
            row = _image(connection, image_id)
            if connection.scalar(_assigned(reader.id, image_id)) is None:
                raise MissingError
            answer = _answer(connection, reader.id, image_id)
            last = _last_points(connection, reader.id, image_id)
        view = self.photographs.view(row.path)
        described = {
            "image_id": image_id,
            "width": view.width,
            "height": view.height,
            "eye": row.eye or None,
            "eye_guess": row.eye or view.eye,
            "answer": answer,
        }
        if answer["disc"] and answer["fovea"]:
            return described | {"disc": answer["disc"], "fovea": answer["fovea"], "points": "answer"}
        known = [getattr(row, name) for name in COORDINATES]
        # Points outside the picture would have it rejected by ``prepare``: whoever reads it has to place them anew.
        if all(_within(*pair) for pair in zip(known, (view.width, view.height) * 2, strict=True)):
            return described | {"disc": known[:2], "fovea": known[2:], "points": "manifest"}
        disc, fovea = guess_points(
            (view.width, view.height), view.field, row.eye or view.eye or "right", self._before(last)
        )
        return described | {"disc": list(disc), "fovea": list(fovea), "points": "guess"}

    def save(self, reader: Person, image_id: str, answer: Answer) -> tuple[int, JSON]:
        """Save an answer as a new version: its number, and the progress. The same change again changes nothing.

        Raises:
            UserError: the answer breaks a rule.
            MissingError: not this annotator's image.
            ConflictError: a version was saved after the one the answer was made from.
        """
        change = str(answer.change)
        check_answer(answer, self.findings, self._size(image_id, answer))
        with self.storage.write() as connection:
            if (version := _saved_before(connection, reader.id, image_id, change)) is None:
                version = answer.version + 1
                moved = connection.execute(
                    sa.update(assignments)
                    .where(
                        assignments.c.annotator_id == reader.id,
                        assignments.c.image_id == image_id,
                        assignments.c.version == answer.version,
                    )
                    .values(version=version, state=answer.state)
                )
                if not moved.rowcount:
                    # Where another request held the row, its change may be this very one.
                    version = _saved_before(connection, reader.id, image_id, change) or 0
                    if not version:
                        if connection.scalar(_assigned(reader.id, image_id)) is None:
                            raise MissingError
                        raise ConflictError("answer", _answer(connection, reader.id, image_id))
                else:
                    row = {"annotator_id": reader.id, "image_id": image_id, "version": version, "change": change}
                    row |= {"state": answer.state, "content": answer.content()}
                    row |= {"seconds": answer.seconds, "saved": time.time()}
                    connection.execute(sa.insert(answers).values(row))
            progress = _progress(connection, reader.id)
        return version, progress

    def _before(self, last: tuple[str, Point, Point] | None) -> tuple[Field, Point, Point] | None:
        try:
            return None if last is None else (self.photographs.view(last[0]).field, *last[1:])
        except Unreadable:
            return None

    def _size(self, image_id: str, answer: Answer) -> tuple[int, int] | None:
        if answer.disc is None and answer.fovea is None:
            return None
        try:
            view = self.photographs.view(self.path(image_id))
        except Unreadable:
            return None
        return view.width, view.height


def _within(value: float | None, length: int) -> bool:
    return value is not None and 0 <= value <= length


def _image_row(row: Mapping[Any, Any], place: int) -> JSON:
    numbers = {name: None if math.isnan(row[name]) else float(row[name]) for name in (*COORDINATES, "grade")}
    words = {name: str(row[name]) for name in ("image_id", "path", "patient_id", "eye", "split")}
    return {**words, **numbers, "position": place, "listed": True}


def _image(connection: Connection, image_id: str) -> Any:
    row = connection.execute(sa.select(images).where(images.c.image_id == image_id, images.c.listed)).first()
    if row is None:
        raise MissingError
    return row


def _assigned(annotator_id: int, image_id: str) -> sa.Select[tuple[str]]:
    return (
        sa.select(assignments.c.image_id)
        .join(images)
        .where(assignments.c.annotator_id == annotator_id, assignments.c.image_id == image_id, images.c.listed)
    )


def _answer(connection: Connection, annotator_id: int, image_id: str) -> JSON:
    """The newest version of an answer, as the page knows it."""
    row = connection.execute(
        sa.select(answers)
        .where(answers.c.annotator_id == annotator_id, answers.c.image_id == image_id)
        .order_by(answers.c.version.desc())
        .limit(1)
    ).first()
    if row is None:
        return {"version": 0, **NO_ANSWER, "state": "todo", "seconds": 0.0}
    return {"version": row.version, **row.content, "state": row.state, "seconds": row.seconds}


def _saved_before(connection: Connection, annotator_id: int, image_id: str, change: str) -> int | None:
    """The version that ``change`` made; raises UserError where it was made to another image."""
    row = connection.execute(
        sa.select(answers.c.image_id, answers.c.version).where(
            answers.c.annotator_id == annotator_id, answers.c.change == change
        )
    ).first()
    if row is not None and row.image_id != image_id:
        raise UserError("this change was made to another image; give every change an id of its own")
    return None if row is None else int(row.version)


def _last_points(connection: Connection, annotator_id: int, image_id: str) -> tuple[str, Point, Point] | None:
    """Photograph, disc and fovea of the answer this annotator saved last, on another image."""
    rows = connection.execute(
        sa.select(answers.c.content, images.c.path)
        .join(images)
        .where(answers.c.annotator_id == annotator_id, answers.c.image_id != image_id, images.c.listed)
        .order_by(answers.c.saved.desc())
        .limit(20)
    )
    for content, path in rows:
        if content["disc"] and content["fovea"]:
            return path, tuple(content["disc"]), tuple(content["fovea"])
    return None


def _progress(connection: Connection, annotator_id: int) -> JSON:
    counts = connection.execute(
        sa.select(assignments.c.state, sa.func.count())
        .join(images)
        .where(assignments.c.annotator_id == annotator_id, images.c.listed)
        .group_by(assignments.c.state)
    )
    by_state = {state: int(count) for state, count in counts}
    return {"done": sum(by_state.get(state, 0) for state in ANSWERED), "total": sum(by_state.values())}
