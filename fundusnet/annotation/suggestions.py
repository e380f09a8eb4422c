"""What trained networks suggest for an image: findings with their regions, and disc and fovea (S1.2).

A suggestion is never an answer: it counts only where a reader confirms it. So that the pull of suggestions on readers
can be measured, a study may keep a share of its images without them; which ones depends on its seed and the image
alone, so that all readers of an image have them or none has.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.assignment import random_key
from fundusnet.annotation.storage import set_setting, setting
from fundusnet.annotation.tables import annotators, answers, shown_suggestions, suggestions
from fundusnet.annotation.tallies import ANSWERED

Point = tuple[float, float]


@dataclass(frozen=True)
class Suggestion:
    """What the networks suggest for one image.

    Attributes:
        findings: Finding → regions that hold its activation, that with the largest share first; none if disc or fovea
            are unknown. Only findings whose probability reaches the operating point.
        probabilities: Finding → probability, of all findings that the study and the networks share.
        disc, fovea: Centres in pixels of the upright photograph; None if unknown.
        points: Where they come from: ``given``, ``localised`` or ``none``.
        uncertainty: How much the networks would learn from this image, 0 to 1 (``uncertainty``).
    """

    findings: dict[str, list[str]] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)
    disc: Point | None = None
    fovea: Point | None = None
    points: str = "none"
    uncertainty: float = 0.0

    def content(self) -> dict[str, Any]:
        """The JSON values that are stored besides the uncertainty, and that the page gets."""
        return {
            "findings": self.findings,
            "probabilities": {name: round(value, 4) for name, value in self.probabilities.items()},
            "disc": list(self.disc) if self.disc else None,
            "fovea": list(self.fovea) if self.fovea else None,
            "points": self.points,
        }


def is_suggested(image_id: str, seed: int, share: float) -> bool:
    """Whether the readers of an image get suggestions: a random choice of ``share`` of the images, by study seed.

    An image that has suggestions keeps them at any larger share.
    """
    return int.from_bytes(random_key(seed, "suggest", image_id)[:8]) < share * 2**64


def uncertainty(probabilities: Mapping[str, float], points: Mapping[str, float]) -> float:
    """How undecided the networks are about an image, 0 (certain) to 1: the mean over the findings.

    Our reading of "from which they would learn most": a finding counts ``4 q (1 - q)`` with q the probability after the
    operating point was moved to 0.5 on the scale of logits, because networks for rare findings never come near 0.5.

    Args:
        probabilities: Finding → probability.
        points: Finding → operating point.

    Examples:
        >>> uncertainty({"drusen": 0.2, "membrane": 0.99}, {"drusen": 0.2, "membrane": 0.5})
        0.5198
    """
    each = [_undecided(probability, points[name]) for name, probability in probabilities.items()]
    return round(sum(each) / len(each), 4) if each else 0.0


def uncertain_order(
    uncertainties: Mapping[str, float], images: Collection[str], patients: Mapping[str, str], seed: int
) -> list[str]:
    """``images`` in the order in which networks learn most from them, balanced over patients.

    First comes the most uncertain image of each patient, then the second of each, and so on. Images whose uncertainty
    is not known yet follow in random order.

    Args:
        uncertainties: Image → uncertainty, as far as known.
        images: Those to order.
        patients: Image → patient; "" if unknown: then the image counts as a patient of its own.
        seed: Decides between equals.
    """

    def rank(image: str) -> tuple[float, bytes]:
        return -uncertainties[image], random_key(seed, "uncertain", image)

    known = sorted((image for image in images if image in uncertainties), key=rank)
    seen: dict[str, int] = {}
    round_of: dict[str, int] = {}
    for image in known:
        patient = patients.get(image) or f"\0{image}"
        round_of[image] = seen[patient] = seen.get(patient, 0) + 1
    rest = sorted((image for image in images if image not in uncertainties), key=lambda i: random_key(seed, "later", i))
    return sorted(known, key=lambda image: (round_of[image], *rank(image))) + rest


def networks_digest(hashes: Sequence[str]) -> str:
    """A name for the networks of these checkpoints (SHA-256 each), whatever their order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()[:16]


def keep_suggestion(
    connection: Connection, image_id: str, networks: str, suggestion: Suggestion, made: float | None = None
) -> None:
    """Store what these networks suggest for an image, unless that is stored already; ``made`` now if not given."""
    if stored_suggestion(connection, image_id, networks) is None:
        row = {"image_id": image_id, "networks": networks, "content": suggestion.content(), "made": made or time.time()}
        connection.execute(sa.insert(suggestions).values(row | {"uncertainty": suggestion.uncertainty}))


def stored_suggestion(connection: Connection, image_id: str, networks: str) -> dict[str, Any] | None:
    """``Suggestion.content`` of an image; None if these networks have not seen it yet."""
    here = (suggestions.c.image_id == image_id, suggestions.c.networks == networks)
    found: dict[str, Any] | None = connection.scalar(sa.select(suggestions.c.content).where(*here))
    return found


def stored_uncertainties(connection: Connection, networks: str) -> dict[str, float]:
    """Image → uncertainty of all images that these networks have seen."""
    rows = connection.execute(
        sa.select(suggestions.c.image_id, suggestions.c.uncertainty).where(suggestions.c.networks == networks)
    )
    return {row.image_id: row.uncertainty for row in rows}


def note_shown(
    connection: Connection, annotator_id: int, image_id: str, networks: str, at: float | None = None
) -> bool:
    """Store that this annotator was shown the suggestion for an image, now or ``at``; the first time counts.

    Returns:
        Whether these networks suggested anything for the image; otherwise nothing is stored.
    """
    if stored_suggestion(connection, image_id, networks) is None:
        return False
    key = {"annotator_id": annotator_id, "image_id": image_id, "networks": networks}
    here = (shown_suggestions.c[name] == value for name, value in key.items())
    if connection.scalar(sa.select(shown_suggestions.c.at).where(*here)) is None:
        connection.execute(sa.insert(shown_suggestions).values(key | {"at": at or time.time()}))
    return True


def networks_shown(connection: Connection, annotator_id: int, image_id: str) -> str | None:
    """The networks whose suggestion for an image this annotator was shown first; None if none was."""
    key = {"annotator_id": annotator_id, "image_id": image_id}
    shown = sa.select(shown_suggestions.c.networks).order_by(shown_suggestions.c.at).limit(1)
    found: str | None = connection.scalar(shown.where(*(shown_suggestions.c[name] == key[name] for name in key)))
    return found


def networks_for(connection: Connection, annotator_id: int, image_id: str, newest: str | None) -> str | None:
    """The networks whose suggestion for an image this annotator gets; None for none.

    Whoever was shown a suggestion keeps it, whatever networks came since, so that a reading rests on one. Whoever ever
    finished the image without one gets none, also after opening it again: the reading would rest on both.

    Args:
        connection: Of a transaction.
        annotator_id: Of the reader.
        image_id: Of the image.
        newest: The networks of those who have seen no suggestion yet; None for none.
    """
    before = networks_shown(connection, annotator_id, image_id)
    if before is not None or newest is None:
        return before
    key = {"annotator_id": annotator_id, "image_id": image_id}
    finished = sa.select(answers.c.version).where(*(answers.c[name] == key[name] for name in key))
    return newest if connection.scalar(finished.where(answers.c.state.in_(ANSWERED)).limit(1)) is None else None


def note_share(connection: Connection, seed: int, share: float) -> None:
    """Store by which seed which share of the images is to have suggestions, unless the share was larger before."""
    shares = recorded_shares(connection)
    if share > shares.get(seed, 0):
        set_setting(connection, "suggested_shares", json.dumps(shares | {seed: share}))


def recorded_shares(connection: Connection) -> dict[int, float]:
    """Seed → the largest share of the images that ever were to have suggestions.

    Those of a study whose readings were imported are among them; those that an earlier version chose are not.
    """
    shares = json.loads(setting(connection, "suggested_shares") or "{}")
    return {int(seed): share for seed, share in shares.items()}


def suggested_since(connection: Connection) -> float | None:
    """When the first suggestion was made; None if none was ever shown to anybody."""
    if connection.scalar(sa.select(shown_suggestions.c.image_id).limit(1)) is None:
        return None
    found: float | None = connection.scalar(sa.select(sa.func.min(suggestions.c.made)))
    return found


def shown_to(connection: Connection) -> dict[tuple[str, str], str]:
    """(annotator, image) → networks, of all suggestions that were shown; the first networks of several."""
    found: dict[tuple[str, str], str] = {}
    for row in recorded_shown(connection):
        found.setdefault((row["annotator"], row["image_id"]), row["networks"])
    return found


def recorded_shown(connection: Connection) -> list[dict[str, Any]]:
    """Who was shown which suggestion and when, as ``study.json`` holds it."""
    table = shown_suggestions
    rows = connection.execute(
        sa.select(annotators.c.name, table.c.image_id, table.c.networks, table.c.at)
        .join(annotators)
        .order_by(table.c.at)
    )
    return [{"annotator": row.name, "image_id": row.image_id, "networks": row.networks, "at": row.at} for row in rows]


def recorded_suggestions(connection: Connection) -> list[dict[str, Any]]:
    """All suggestions, as ``study.json`` holds them."""
    rows = connection.execute(sa.select(suggestions).order_by(suggestions.c.made, suggestions.c.image_id))
    return [
        {"image_id": row.image_id, "networks": row.networks, "made": row.made, "uncertainty": row.uncertainty}
        | row.content
        for row in rows
    ]


def _undecided(probability: float, point: float) -> float:
    q = 1 / (1 + math.exp(_logit(point) - _logit(probability)))
    return 4 * q * (1 - q)


def _logit(probability: float) -> float:
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
