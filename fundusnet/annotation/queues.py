"""The images that a reader is to read, in the reader's own order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.access import Person
from fundusnet.annotation.assignment import reading_order
from fundusnet.annotation.roster import study_seed
from fundusnet.annotation.study import Study
from fundusnet.annotation.suggestions import stored_uncertainties, uncertain_order
from fundusnet.annotation.tables import assignments, images

JSON = dict[str, Any]


def queue(study: Study, reader: Person) -> list[JSON]:
    """The annotator's images in reading order, each with its state."""
    with study.storage.read() as connection:
        found = connection.execute(
            sa.select(assignments.c.image_id, assignments.c.state).where(
                assignments.c.annotator_id == reader.id, assignments.c.shown
            )
        )
        states = {row.image_id: row.state for row in found}
        order = _order(connection, study, states, reader)
    return [{"image_id": image_id, "state": states[image_id]} for image_id in order]


def matching(entries: Sequence[JSON], search: str) -> list[JSON]:
    """The entries of a queue whose id contains ``search``, in any case, each with its place in the queue."""
    wanted = search.casefold()
    if not wanted:
        return list(entries)
    return [
        entry | {"place": place} for place, entry in enumerate(entries) if wanted in str(entry["image_id"]).casefold()
    ]


def _order(connection: Connection, study: Study, own: Mapping[str, str], reader: Person) -> list[str]:
    seed = study_seed(connection)
    if study.uncertain is None:
        return reading_order(own, reader.name, seed)
    patients = connection.execute(sa.select(images.c.image_id, images.c.patient_id))
    known = stored_uncertainties(connection, study.uncertain)
    return uncertain_order(known, own, {row.image_id: row.patient_id for row in patients}, seed)
