"""The people who take part in a study, and the images assigned to them."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.assignment import choose_readers
from fundusnet.annotation.plan import EVERYBODY, Plan
from fundusnet.annotation.storage import Storage, forget_setting, set_setting, setting
from fundusnet.annotation.tables import annotators, assignments, images
from fundusnet.annotation.tallies import ANSWERED, recount, recount_progress
from fundusnet.errors import UserError

log = logging.getLogger(__name__)


ROLES = ("annotator", "adjudicator", "administrator")
"""Annotators read; adjudicators see all readings and decide; administrators manage people besides."""


class Member(NamedTuple):
    """Who takes part: name, one of ``ROLES``, and the group of an annotator."""

    name: str
    role: str
    group: str = EVERYBODY


def set_roster(connection: Connection, people: Sequence[Member]) -> None:
    """Make these people the ones who take part; others become inactive and keep their readings.

    Args:
        connection: Of a write transaction.
        people: Who takes part.

    Raises:
        UserError: A name is invalid, is given twice, or had another role or group before.
    """
    names = [member.name for member in people]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"'{twice[0]}' is given twice; every annotator and adjudicator needs a different name")
    if bad := [name for name in names if name != name.strip() or not 0 < len(name) <= 80 or not name.isprintable()]:
        raise UserError(
            f"'{bad[0]}' is not a valid name; give annotators=[anna,ben], with 1 to 80 printable characters each"
        )
    before = {row.name: row for row in connection.execute(sa.select(annotators))}
    connection.execute(sa.update(annotators).values(active=False))
    for name, role, group in people:
        known = before.get(name)
        if known is None:
            row = {"name": name, "role": role, "group_name": group, "active": True}
            connection.execute(sa.insert(annotators).values(row))
            continue
        if known.role != role:
            raise UserError(f"{name} is already {known.role} of this study and cannot be {role} too; use another name")
        if known.group_name != group:
            _check_move(connection, known, group)
        here = annotators.c.id == known.id
        connection.execute(sa.update(annotators).where(here).values(active=True, group_name=group))


def _check_move(connection: Connection, person: Any, group: str) -> None:
    """Refuse another group to somebody who has read in one; readings are reported with their reader's group."""
    if person.group_name == EVERYBODY:
        forget_setting(connection, "tallies")  # what was read counts for the group from now on
        return
    read = sa.select(assignments.c.image_id).where(assignments.c.annotator_id == person.id, assignments.c.version > 0)
    if connection.scalar(read.limit(1)) is not None:
        raise UserError(
            f"{person.name} has read in the group {person.group_name} and cannot be in '{group}'; use another name"
        )


def changed_roster(connection: Connection, join: Sequence[Member], leave: Sequence[str]) -> list[Member]:
    """Those who take part when annotators ``join`` and others ``leave``.

    Raises:
        UserError: Somebody who is to leave does not take part.
    """
    rows = connection.execute(sa.select(annotators).where(annotators.c.active).order_by(annotators.c.id))
    now = {row.name: Member(row.name, row.role, row.group_name) for row in rows}
    if unknown := [name for name in leave if name not in now]:
        raise UserError(f"leave: {unknown[0]} does not take part in this study; choose from {', '.join(now)}")
    new = {member.name for member in join}
    stay = [
        each for each in now.values() if each.name not in leave and (each.role != "annotator" or each.name not in new)
    ]
    return [*stay, *join]


def assign_images(storage: Storage, plan: Plan) -> None:
    """Deal the images of the study to those who take part; see ``choose_readers``.

    Choosing takes seconds in a large study, so it is done outside the transaction that stores it: an image that
    somebody starts meanwhile stays with them.
    """
    with storage.read() as connection:
        listed = sa.select(images.c.image_id, images.c.split).where(images.c.listed)
        splits: dict[str, str] = {row.image_id: row.split for row in connection.execute(listed)}
        people = list(connection.execute(sa.select(annotators).order_by(annotators.c.id)))
        state = _state(splits, people, plan)
        if setting(connection, "dealt") == state:
            return
        found = _Dealt.load(connection, people)
        seed = study_seed(connection)
    chosen = _choose(splits, people, plan, found, seed)
    if plan.groups and (unread := Counter(splits[image_id] for image_id, who in chosen.items() if not who)):
        counts = ", ".join(f"{count} of the split {split or '(none)'}" for split, count in sorted(unread.items()))
        log.warning("photographs that nobody reads: %s; see groups", counts)
    ids = {row.name: row.id for row in people}
    new, old = [], []
    for image_id in splits:
        shown = found.shown.get(image_id, set())
        if shown != chosen[image_id]:
            new += [(ids[name], image_id) for name in chosen[image_id] - shown]
            old += [(ids[name], image_id) for name in shown - chosen[image_id]]
    with storage.write() as connection:
        _withdraw(connection, old)
        _deal(connection, new)
        recount(connection, {image_id for _, image_id in [*new, *old]})
        recount_progress(connection)
        set_setting(connection, "dealt", state)


def _state(splits: Mapping[str, str], people: Sequence[Any], plan: Plan) -> str:
    """Changes with everything that decides who reads what, except the progress of readers."""
    readers = [row for row in people if row.active and row.role == "annotator"]
    # The number rises where images may have been dealt wrongly under a state that has not changed since.
    parts = ["2", *sorted(splits), "", *(row.name for row in readers), "", str(plan.readings_per_image)]
    if plan.groups:
        parts += ["", *(f"{image_id}\0{split}" for image_id, split in sorted(splits.items()))]
        parts += ["", *(row.group_name for row in readers), "", repr(sorted(plan.groups.items()))]
    if plan.reread_ungradable:
        parts += ["", str(plan.reread_ungradable)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _choose(
    splits: Mapping[str, str], people: Sequence[Any], plan: Plan, found: _Dealt, seed: int
) -> dict[str, set[str]]:
    """The readers of each image: those whom each group chooses, and all who keep it."""
    chosen = {image_id: set(found.kept.get(image_id, ())) for image_id in splits}
    for name, group in plan.parts().items():
        own = [image_id for image_id, split in splits.items() if group.reads(split)]
        # Without groups, whoever has read counts; with groups, readings of unknown readers count for none of them.
        inside = {row.name for row in people if not plan.groups or row.group_name == name}
        readers = [row.name for row in people if row.active and row.role == "annotator" and row.name in inside]
        further = {
            image_id: min(plan.reread_ungradable, len(who & inside)) for image_id, who in found.ungradable.items()
        }
        assigned, kept = ({image: who & inside for image, who in each.items()} for each in (found.assigned, found.kept))
        for image_id, who in choose_readers(own, readers, plan.readings(name), assigned, kept, seed, further).items():
            chosen[image_id] |= who
    return chosen


def recorded_groups(connection: Connection) -> list[dict[str, Any]]:
    """The group of each annotator who has one, as in ``study.json`` of an export."""
    grouped = sa.select(annotators).where(annotators.c.group_name != EVERYBODY).order_by(annotators.c.id)
    return [{"annotator": row.name, "group": row.group_name} for row in connection.execute(grouped)]


def study_seed(connection: Connection) -> int:
    """The seed of all random orders of the study."""
    return int(setting(connection, "seed") or 0)


@dataclass(frozen=True)
class _Dealt:
    """Who reads what.

    Attributes:
        shown: Image → those who see it now.
        assigned: Image → those who may go on with it.
        kept: Image → those who keep it whatever is dealt: a started image stays with an active reader; one who left
            keeps only finished images.
        ungradable: Image → those who called it ungradable.
    """

    shown: dict[str, set[str]]
    assigned: dict[str, set[str]]
    kept: dict[str, set[str]]
    ungradable: dict[str, set[str]]

    @classmethod
    def load(cls, connection: Connection, people: Sequence[Any]) -> _Dealt:
        names, active = {row.id: row.name for row in people}, {row.id for row in people if row.active}
        found = cls({}, {}, {}, {})
        columns = [assignments.c[name] for name in ("image_id", "annotator_id", "version", "state", "shown")]
        known = sa.or_(assignments.c.shown, assignments.c.version > 0)
        for image_id, reader, version, state, shown in connection.execute(sa.select(*columns).where(known)):
            stays = state in ANSWERED or (version > 0 and reader in active)
            for table, applies in (
                (found.shown, shown),
                (found.assigned, stays or reader in active),
                (found.kept, stays),
                (found.ungradable, state == "ungradable"),
            ):
                if applies:
                    table.setdefault(image_id, set()).add(names[reader])
        return found


def _withdraw(connection: Connection, pairs: Sequence[tuple[int, str]]) -> None:
    """Take images from readers; what an active one started meanwhile stays."""
    left = sa.select(annotators.c.id).where(sa.not_(annotators.c.active))
    if pairs:
        connection.execute(
            sa.update(assignments)
            .where(
                assignments.c.annotator_id == sa.bindparam("reader"),
                assignments.c.image_id == sa.bindparam("image"),
                sa.or_(assignments.c.version == 0, assignments.c.annotator_id.in_(left)),
            )
            .values(shown=False),
            [{"reader": reader, "image": image_id} for reader, image_id in pairs],
        )


def _deal(connection: Connection, pairs: Sequence[tuple[int, str]]) -> None:
    """Give images to readers, again where they had them before."""
    readers = {reader for reader, _ in pairs}
    had = connection.execute(
        sa.select(assignments.c.annotator_id, assignments.c.image_id).where(
            assignments.c.annotator_id.in_(readers), sa.not_(assignments.c.shown)
        )
    )
    before = {(row.annotator_id, row.image_id) for row in had}
    again = [{"reader": reader, "image": image_id} for reader, image_id in pairs if (reader, image_id) in before]
    first = [
        {"annotator_id": reader, "image_id": image_id, "version": 0, "state": "todo", "shown": True, "seconds": 0.0}
        for reader, image_id in pairs
        if (reader, image_id) not in before
    ]
    if again:
        connection.execute(
            sa.update(assignments)
            .where(
                assignments.c.annotator_id == sa.bindparam("reader"), assignments.c.image_id == sa.bindparam("image")
            )
            .values(shown=True),
            again,
        )
    if first:
        connection.execute(sa.insert(assignments), first)
