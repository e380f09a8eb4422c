"""A study: its images, its annotators, and the answers they save (S1.2)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import Person
from fundusnet.annotation.assignment import reading_order
from fundusnet.annotation.companions import companions, is_beside
from fundusnet.annotation.image_list import list_images
from fundusnet.annotation.photographs import Geometry, Photographs
from fundusnet.annotation.plan import Group, Plan, by_group
from fundusnet.annotation.proposed_points import (
    guess_like,
    manifest_points,
    recent_points,
)
from fundusnet.annotation.questions import Question
from fundusnet.annotation.readings import current_answer
from fundusnet.annotation.roster import Member, assign_images, changed_roster, set_roster, study_seed
from fundusnet.annotation.storage import BusyError, DiskFullError, Storage, set_setting, setting
from fundusnet.annotation.tables import annotators, assignments, images
from fundusnet.annotation.tallies import recount_all
from fundusnet.data.manifest import Manifest
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
        groups: Mapping[str, Group] | None = None,
        reread_ungradable: int = 0,
        questions: Sequence[Question] = (),
        beside: Sequence[str] = (),
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
            groups: Of its readers, by name; none = everybody reads everything.
            reread_ungradable: Further readings, at most, of an image that readers call ungradable.
            questions: What readers are asked besides.
            beside: Photographs of the same patient that readers may see: "fellow", "earlier".
        """
        self.storage, self.photographs = storage, photographs
        self.findings, self.questions = tuple(findings), tuple(questions)
        self.plan = Plan(readings_per_image, dict(groups or {}), reread_ungradable)
        self.present, self.beside = present, tuple(beside)
        self.uncertain = uncertain

    def begin(self, manifest: Manifest, seed: int) -> None:
        """Make the photographs of ``manifest`` the images of the study; it keeps the first ``seed`` it is started with.

        Photographs are known by their content (``fundusnet.annotation.identity``): one that was moved or renamed keeps
        its id and its readings, one that was changed is a new image. Images that are no longer there are hidden.

        Raises:
            UserError: The manifest has no image.
        """
        if not len(manifest.images):
            raise UserError(f"root={manifest.root}: no photograph to annotate; check data.root")
        with self.storage.write() as connection:
            if setting(connection, "study") is None:
                set_setting(connection, "study", secrets.token_hex(8))
                set_setting(connection, "seed", str(seed))
            recount_all(connection)
        list_images(self.storage, manifest)

    def enrol(
        self,
        readers: Sequence[str] | Mapping[str, Sequence[str]],
        adjudicators: Sequence[str] = (),
        alone: str = "me",
        administrators: Sequence[str] = (),
    ) -> bool:
        """Set who takes part, and assign the images.

        Args:
            readers: Names of the annotators, by group if the study has groups; without any they stay who they were.
            adjudicators: Names of the adjudicators; without any they stay who they were.
            alone: Name of the only annotator of a study that never had names, who needs no link.
            administrators: Names of the administrators; without any they stay who they were.

        Returns:
            Whether people sign in by link.

        Raises:
            UserError: A name is invalid, is given twice, or had another role before.
        """
        with self.storage.write() as connection:
            if readers or adjudicators or administrators:
                set_setting(connection, "links", "yes")
                given = {
                    "annotator": self._members(readers, "annotators"),
                    "adjudicator": [Member(name, "adjudicator") for name in adjudicators],
                    "administrator": [Member(name, "administrator") for name in administrators],
                }
                named = {member.name for members in given.values() for member in members}
                stay = [member for member in changed_roster(connection, [], []) if member.name not in named]
                roster = [each or [one for one in stay if one.role == role] for role, each in given.items()]
                set_roster(connection, [member for members in roster for member in members])
            elif setting(connection, "links") is None:
                if self.plan.groups:
                    raise UserError("groups need named annotators; give annotators={GROUP:[NAME, …], …}")
                set_roster(connection, [Member(alone, "annotator")])
            links = setting(connection, "links") is not None
            recount_all(connection)
            self._check_groups(connection)
        assign_images(self.storage, self.plan)
        return links

    def _check_groups(self, connection: Connection) -> None:
        """Refuse a roster in which somebody is in no group; they would read nothing, without knowing why."""
        if not self.plan.groups:
            return
        active = (annotators.c.active, annotators.c.role == "annotator")
        outside = annotators.c.group_name.not_in(list(self.plan.groups))
        name = connection.scalar(
            sa.select(annotators.c.name).where(*active, outside).order_by(annotators.c.id).limit(1)
        )
        if name is not None:
            raise UserError(
                f"{name} is in none of the groups {', '.join(self.plan.groups)}; give annotators={{GROUP:[NAME, …], …}}"
            )

    def _members(self, names: Sequence[str] | Mapping[str, Sequence[str]], key: str) -> list[Member]:
        return [Member(name, "annotator", group) for name, group in by_group(names, self.plan.groups, key)]

    def change_people(self, join: Sequence[str] | Mapping[str, Sequence[str]], leave: Sequence[str]) -> None:
        """Let annotators join and people leave, while the study is served; images are assigned anew.

        Raises:
            UserError: A name is invalid, had another role before, or does not take part; or the study has no links.
        """
        self.change_members(self._members(join, "join"), leave)

    def change_members(self, join: Sequence[Member], leave: Sequence[str]) -> None:
        """As ``change_people``, for people of any role."""
        with self.storage.write() as connection:
            if setting(connection, "links") is None:
                raise UserError("this study has no links; start it with annotators=[...]")
            set_roster(connection, changed_roster(connection, join, leave))
            recount_all(connection)
        assign_images(self.storage, self.plan)

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
        return [person for person in self.everybody() if person.active]

    def everybody(self) -> list[Person]:
        """All people who ever took part, in the order of enrolment."""
        with self.storage.read() as connection:
            rows = connection.execute(sa.select(annotators).order_by(annotators.c.id))
            return [Person(row.id, row.name, row.role, row.active) for row in rows]

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
        """Whether this person may see an image: it, or one that it is shown beside, is assigned to them.

        Adjudicators may see all.
        """
        if reader.role != "annotator":
            return True
        with self.storage.read() as connection:
            if connection.scalar(_assigned(reader.id, image_id)) is not None:
                return True
            return bool(self.beside) and is_beside(connection, reader.id, _image(connection, image_id), self.beside)

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
            answer = current_answer(connection, reader.id, image_id)
            recent = recent_points(connection, reader.id, image_id, 1)
            beside = companions(connection, row, self.beside)
        geometry = self.photographs.geometry(row.path)
        if (row.width, row.height) != (geometry.width, geometry.height):
            self._keep_size(image_id, geometry)
        described = {
            "image_id": image_id,
            "width": geometry.width,
            "height": geometry.height,
            "eye": row.eye or None,
            "eye_guess": row.eye or geometry.eye,
            "answer": answer,
            "beside": beside,
        }
        if answer["disc"] and answer["fovea"]:
            return described | {"disc": answer["disc"], "fovea": answer["fovea"], "points": "answer"}
        if known := manifest_points(row, geometry):
            return described | {"disc": list(known[0]), "fovea": list(known[1]), "points": "manifest"}
        if geometry.points is not None:
            return described | {"disc": geometry.points[:2], "fovea": geometry.points[2:], "points": "localised"}
        disc, fovea = guess_like(self.photographs, row, geometry, recent[0] if recent else None)
        return described | {"disc": list(disc), "fovea": list(fovea), "points": "guess"}

    def _keep_size(self, image_id: str, geometry: Geometry) -> None:
        """Keep the size for checking answers, so that these need no photograph, which may be away or changed then."""
        with suppress(BusyError, DiskFullError), self.storage.write() as connection:
            size = {"width": geometry.width, "height": geometry.height}
            connection.execute(sa.update(images).where(images.c.image_id == image_id).values(size))


def _image(connection: Connection, image_id: str) -> Any:
    row = connection.execute(sa.select(images).where(images.c.image_id == image_id, images.c.listed)).first()
    if row is None:
        raise MissingError
    return row


def _assigned(annotator_id: int, image_id: str) -> sa.Select[tuple[str]]:
    here = (assignments.c.annotator_id == annotator_id, assignments.c.image_id == image_id)
    return sa.select(assignments.c.image_id).where(*here, assignments.c.shown)
