"""A study: its images, its annotators, and the answers they save (S1.2)."""

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
from fundusnet.annotation.roster import assign_images, set_roster, study_seed
from fundusnet.annotation.storage import (
    Storage,
    annotators,
    answers,
    assignments,
    images,
    set_setting,
    setting,
)
from fundusnet.annotation.suggestions import stored_uncertainties, uncertain_order
from fundusnet.data.decode import Unreadable
from fundusnet.data.manifest import COORDINATES, Manifest
from fundusnet.errors import UserError

JSON = dict[str, Any]


class MissingError(Exception):
    """There is no such image, or it is not assigned to this annotator."""


class ConflictError(Exception):
    """A newer version was saved in the meantime.

    Attributes:
        what: "answer" or "decision".
        stored: The version that is stored now.
    """

    def __init__(self, what: str, stored: JSON | None) -> None:
        super().__init__(f"a newer {what} is stored")
        self.what, self.stored = what, stored


class Study:
    """What the server needs of a study; each call is one database transaction."""

    def __init__(
        self,
        storage: Storage,
        photographs: Photographs,
        findings: Sequence[str],
        readings_per_image: int = 3,
        present: int = 2,
        uncertain: str | None = None,
    ) -> None:
        """Open a study.

        Args:
            storage: Its database.
            photographs: Its photographs.
            findings: Names that can be marked.
            readings_per_image: Annotators of each image.
            present: Readings that make a finding present.
            uncertain: Name of networks (``fundusnet.annotation.suggestions``): images that they are most uncertain of
                come first; None = every reader has a random order.
        """
        self.storage, self.photographs = storage, photographs
        self.findings = tuple(findings)
        self.readings_per_image, self.present = readings_per_image, present
        self.uncertain = uncertain

    def begin(self, manifest: Manifest, seed: int) -> None:
        """Add the images of ``manifest``; a study keeps the first ``seed`` it is started with.

        Raises:
            UserError: The manifest has no image.
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
        """Set who takes part, and assign the images.

        Args:
            readers: Names of the annotators; without any names the roster stays as it was.
            adjudicators: Names of the adjudicators.
            alone: Name of the only annotator of a study that never had names, who needs no link.

        Returns:
            Whether people sign in by link.

        Raises:
            UserError: A name is invalid, is given twice, or had another role before.
        """
        with self.storage.write() as connection:
            if readers or adjudicators:
                set_setting(connection, "links", "yes")
                roles = [(name, "annotator") for name in readers] + [(name, "adjudicator") for name in adjudicators]
                set_roster(connection, roles)
            elif setting(connection, "links") is None:
                set_roster(connection, [(alone, "annotator")])
            assign_images(connection, self.readings_per_image)
            return setting(connection, "links") is not None

    @property
    def key(self) -> str:
        """A random id of this study; "" before it is started."""
        with self.storage.read() as connection:
            return setting(connection, "study") or ""

    @property
    def seed(self) -> int:
        """The seed of all random orders of the study."""
        with self.storage.read() as connection:
            return study_seed(connection)

    def people(self) -> list[Person]:
        """The people who take part now, in the order of enrolment."""
        with self.storage.read() as connection:
            rows = connection.execute(sa.select(annotators).where(annotators.c.active).order_by(annotators.c.id))
            return [Person(row.id, row.name, row.role) for row in rows]

    def progress(self, reader: Person) -> JSON:
        """How many images this annotator has answered (``done``) of how many (``total``)."""
        with self.storage.read() as connection:
            return _progress(connection, reader.id)

    def queue(self, reader: Person) -> list[JSON]:
        """The annotator's images in reading order, each with its state."""
        with self.storage.read() as connection:
            found = connection.execute(
                sa.select(assignments.c.image_id, assignments.c.state)
                .join(images)
                .where(assignments.c.annotator_id == reader.id, images.c.listed)
            )
            states = {row.image_id: row.state for row in found}
            order = self._order(connection, states, reader)
        return [{"image_id": image_id, "state": states[image_id]} for image_id in order]

    def _order(self, connection: Connection, own: Mapping[str, str], reader: Person) -> list[str]:
        seed = study_seed(connection)
        if self.uncertain is None:
            return reading_order(own, reader.name, seed)
        patients = connection.execute(sa.select(images.c.image_id, images.c.patient_id))
        known = stored_uncertainties(connection, self.uncertain)
        return uncertain_order(known, own, {row.image_id: row.patient_id for row in patients}, seed)

    def image_ids(self) -> list[str]:
        """The images of the study, in a random order."""
        with self.storage.read() as connection:
            shown = list(connection.scalars(sa.select(images.c.image_id).where(images.c.listed)))
            return reading_order(shown, "", study_seed(connection))

    def path(self, image_id: str) -> str:
        """Path of an image's photograph as in the manifest; raises ``MissingError``."""
        with self.storage.read() as connection:
            return str(_image(connection, image_id).path)

    def can_see(self, reader: Person, image_id: str) -> bool:
        """Whether this person may see an image: it is assigned to them, or they are an adjudicator."""
        if reader.role == "adjudicator":
            return True
        with self.storage.read() as connection:
            return connection.scalar(_assigned(reader.id, image_id)) is not None

    def is_assigned(self, reader: Person, image_id: str) -> bool:
        """Whether this person reads the image."""
        with self.storage.read() as connection:
            return connection.scalar(_assigned(reader.id, image_id)) is not None

    def image(self, reader: Person, image_id: str) -> JSON:
        """An assigned image with its points and the current answer.

        Raises:
            MissingError: The image is not assigned to this annotator.
            Unreadable: Its photograph cannot be decoded.
        """
        with self.storage.read() as connection:
            row = _image(connection, image_id)
            if connection.scalar(_assigned(reader.id, image_id)) is None:
                raise MissingError
            answer = _answer(connection, reader.id, image_id)
            last = _last_points(connection, reader.id, image_id)
        geometry = self.photographs.geometry(row.path)
        described = {
            "image_id": image_id,
            "width": geometry.width,
            "height": geometry.height,
            "eye": row.eye or None,
            "eye_guess": row.eye or geometry.eye,
            "answer": answer,
        }
        if answer["disc"] and answer["fovea"]:
            return described | {"disc": answer["disc"], "fovea": answer["fovea"], "points": "answer"}
        known = [getattr(row, name) for name in COORDINATES]
        # ``prepare`` rejects photographs with points outside them, so those have to be placed again.
        if all(_within(*pair) for pair in zip(known, (geometry.width, geometry.height) * 2, strict=True)):
            return described | {"disc": known[:2], "fovea": known[2:], "points": "manifest"}
        disc, fovea = guess_points(
            (geometry.width, geometry.height), geometry.field, row.eye or geometry.eye or "right", self._points_of(last)
        )
        return described | {"disc": list(disc), "fovea": list(fovea), "points": "guess"}

    def save(self, reader: Person, image_id: str, answer: Answer) -> tuple[int, JSON]:
        """Save an answer as a new version; sending the same change again has no effect.

        Returns:
            The number of the version, and the annotator's progress.

        Raises:
            UserError: The answer is invalid.
            MissingError: The image is not assigned to this annotator.
            ConflictError: A version was saved after the one that the answer is based on.
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
                    # A concurrent request may have saved the same change.
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

    def _points_of(self, last: tuple[str, Point, Point] | None) -> tuple[Field, Point, Point] | None:
        try:
            return None if last is None else (self.photographs.geometry(last[0]).field, *last[1:])
        except Unreadable:
            return None

    def _size(self, image_id: str, answer: Answer) -> tuple[int, int] | None:
        if answer.disc is None and answer.fovea is None:
            return None
        try:
            geometry = self.photographs.geometry(self.path(image_id))
        except Unreadable:
            return None
        return geometry.width, geometry.height


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
    """The newest version of an answer, in the form the page uses."""
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
    """The version that ``change`` was saved as; raises UserError if it was made to another image."""
    row = connection.execute(
        sa.select(answers.c.image_id, answers.c.version).where(
            answers.c.annotator_id == annotator_id, answers.c.change == change
        )
    ).first()
    if row is not None and row.image_id != image_id:
        raise UserError("this change id was used for another image; give every change a new id")
    return None if row is None else int(row.version)


def _last_points(connection: Connection, annotator_id: int, image_id: str) -> tuple[str, Point, Point] | None:
    """Path, disc and fovea of the answer this annotator saved last for another image."""
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
