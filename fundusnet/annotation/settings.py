"""What a study remembers of how it was started, so that a restart without an option changes nothing."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.storage import set_setting, setting
from fundusnet.annotation.tables import annotators, assignments, images, marks
from fundusnet.annotation.tallies import recount_all
from fundusnet.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How a study was started.

    Attributes:
        source: Name of the source of its photographs.
        options: Of the source.
        findings: Names that can be marked, in order.
        readings_per_image: Annotators of each image.
        present: Readings that make a finding present.
        seed: Of all random orders.
        groups: Of readers: name → splits and readings_per_image (``fundusnet.annotation.plan.as_groups``).
        reread_ungradable: Further readings, at most, of an image that readers call ungradable.
        questions: Name → choices and options (``fundusnet.annotation.questions.as_questions``).
        beside: Photographs of the same patient that readers may see: "fellow", "earlier".
    """

    source: str
    options: Mapping[str, Any]
    findings: tuple[str, ...]
    readings_per_image: int
    present: int
    seed: int
    groups: Mapping[str, Any] = field(default_factory=dict)
    reread_ungradable: int = 0
    questions: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[str] = ()  # a study of an earlier version goes on as it was read so far


# The keys of the command that say each; a group stands for all in it.
KEYS: dict[str, tuple[str, ...]] = {
    "source": ("data", "data.source"),
    "options": ("data.options",),
    "findings": ("finding", "finding.names"),
    "readings_per_image": ("readings_per_image",),
    "present": ("data.present",),
    "seed": ("seed",),
    "groups": ("groups",),
    "reread_ungradable": ("reread_ungradable",),
    "questions": ("questions",),
    "beside": ("beside",),
}


def settle(connection: Connection, asked: Settings, given: Collection[str]) -> Settings:
    """The settings that hold: those the study remembers, or what was asked for in a new one.

    Args:
        connection: Of a write transaction.
        asked: As the command was configured.
        given: Dotted keys that the user gave; all others have their defaults and change nothing.

    Raises:
        UserError: A given key differs from what cannot be changed.
    """
    before = _remembered(connection, asked, given)
    if before is None:
        return asked
    changes = {name: getattr(asked, name) for name in KEYS if _is_given(name, given)}
    if "options" in changes and "source" not in changes:
        changes["options"] = {**before.options, **_given_options(asked, given)}
    now = replace(before, **changes)
    if now.source != before.source:
        raise UserError(f"this study was started with data={before.source}; leave data out, or name another folder")
    if now.seed != before.seed:
        raise UserError(f"this study has seed={before.seed}; leave seed out, or name another folder")
    if now.findings != before.findings:
        _check_findings(connection, now.findings, before.findings)
    if _asked(now.questions) != _asked(before.questions) and _has_readings(connection):
        asked_before = ", ".join(before.questions) or "nothing besides"
        raise UserError(
            f"this study asks {asked_before}, and readings exist; leave questions out, or start another study with "
            "folder= (earlier=EXPORT takes the readings along)"
        )
    for name in ("options", "readings_per_image", "present", "groups", "reread_ungradable", "questions", "beside"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            log.info("%s=%s from now on; it was %s", KEYS[name][0], new, old)
    return now


def remember(connection: Connection, settings: Settings) -> None:
    """Keep the settings for the next start."""
    set_setting(connection, "settings", json.dumps(asdict(settings)))


def _asked(questions: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What readers are asked, in order; which questions are adjudicated is no part of it."""
    return [
        (name, {key: value for key, value in options.items() if key != "adjudicate"})
        for name, options in questions.items()
    ]


def _is_given(name: str, given: Collection[str]) -> bool:
    keys = KEYS[name]
    return any(key in keys or (name == "options" and key.startswith("data.options.")) for key in given)


def _given_options(asked: Settings, given: Collection[str]) -> dict[str, Any]:
    if "data.options" in given:
        return dict(asked.options)
    names = {key.removeprefix("data.options.").split(".")[0] for key in given if key.startswith("data.options.")}
    return {name: value for name, value in asked.options.items() if name in names}


def _remembered(connection: Connection, asked: Settings, given: Collection[str]) -> Settings | None:
    stored = setting(connection, "settings")
    if stored is not None:
        found = json.loads(stored)
        return Settings(**{**found, "findings": tuple(found["findings"]), "beside": tuple(found.get("beside", ()))})
    if setting(connection, "study") is None:
        return None
    # A study of 0.1.0, which remembered its seed only.
    recount_all(connection)
    marked = [name for name in connection.scalars(sa.select(marks.c.finding).distinct()) if name not in asked.findings]
    if marked:
        names = ",".join([*asked.findings, *sorted(marked)])
        raise UserError(f"readers of this study marked {marked[0]}; start it with finding.names=[{names}]")
    seed = int(setting(connection, "seed") or 0)
    return replace(
        asked, seed=seed, beside=(), readings_per_image=_readings_per_image(connection) or asked.readings_per_image
    )


def _readings_per_image(connection: Connection) -> int | None:
    """What a study of 0.1.0 was started with, from who reads what; None if all read everything."""
    counts = sa.select(sa.func.count()).join(images).where(assignments.c.shown, images.c.listed)
    sizes = Counter(connection.scalars(counts.group_by(assignments.c.image_id)))
    readers = connection.scalar(
        sa.select(sa.func.count()).select_from(annotators).where(annotators.c.active, annotators.c.role == "annotator")
    )
    usual = sizes.most_common(1)[0][0] if sizes else None
    return usual if usual and readers and usual < readers else None


def _has_readings(connection: Connection) -> bool:
    return connection.scalar(sa.select(assignments.c.image_id).where(assignments.c.version > 0).limit(1)) is not None


def _check_findings(connection: Connection, now: tuple[str, ...], before: tuple[str, ...]) -> None:
    """Refuse other findings once somebody has read: earlier readings do not say whether a new one is absent."""
    if set(now) == set(before):  # in another order, with other keys
        log.info("findings from now on: %s", ", ".join(now))
        return
    if _has_readings(connection):
        raise UserError(
            f"this study marks {', '.join(before)}, and readings exist; leave finding out, or start another study "
            "with folder= (earlier=EXPORT takes the readings along)"
        )
    log.info("findings from now on: %s; they were %s", ", ".join(now), ", ".join(before))
