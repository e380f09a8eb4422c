"""The images of a study: taken from the source at every start, known by the content of their files."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.identity import File, digests, identify
from fundusnet.annotation.storage import Storage
from fundusnet.annotation.tables import assignments, images
from fundusnet.annotation.tallies import recount
from fundusnet.data.manifest import COORDINATES, Manifest

log = logging.getLogger(__name__)
_NAMED = 8  # images that a message lists


def list_images(storage: Storage, manifest: Manifest) -> None:
    """Make the photographs of ``manifest`` the images of the study, and say which of the earlier ones are missing."""
    read = digests(storage, manifest.root, [str(path) for path in manifest.images["path"]])
    rows = [_image_row(row, place) for place, row in enumerate(manifest.images.to_dict("records"))]
    with storage.write() as connection:
        stored = {row.image_id: row for row in connection.execute(sa.select(images).order_by(images.c.listed.desc()))}
        before = [File(row.image_id, row.path, row.digest) for row in stored.values()]
        found = [File(row["image_id"], row["path"], read.get(row["path"])) for row in rows]
        ids = identify(before, found)
        new, changed, again, moved = [], [], [], 0
        for image_id, file, row in zip(ids, found, rows, strict=True):
            row["image_id"] = image_id
            old = stored.get(image_id)
            if old is None:
                new.append(row | {"digest": file.digest})
                continue
            moved += old.path != file.path
            if not old.listed:
                again.append(image_id)
            row["digest"] = file.digest or old.digest
            if any(getattr(old, name) != value for name, value in row.items()):
                changed.append(row | {"key": image_id})
        if new:
            connection.execute(sa.insert(images), new)
        if changed:
            connection.execute(sa.update(images).where(images.c.image_id == sa.bindparam("key")), changed)
        here = set(ids)
        missing = [row.image_id for row in stored.values() if row.image_id not in here]
        _hide(connection, [image_id for image_id in missing if stored[image_id].listed])
        recount(connection, again)
    if moved:
        log.info("%d photographs lie elsewhere than before and keep their readings", moved)
    if missing:
        names = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        log.warning("photographs of this study that are missing or were changed, their readings are kept: %s", names)


def _hide(connection: Connection, image_ids: Collection[str]) -> None:
    if image_ids:
        rows = [{"key": image_id} for image_id in image_ids]
        connection.execute(sa.update(images).where(images.c.image_id == sa.bindparam("key")).values(listed=False), rows)
        connection.execute(
            sa.update(assignments).where(assignments.c.image_id == sa.bindparam("key")).values(shown=False), rows
        )
        recount(connection, image_ids)


def _image_row(row: Mapping[Any, Any], place: int) -> dict[str, Any]:
    numbers = {name: None if math.isnan(row[name]) else float(row[name]) for name in (*COORDINATES, "grade")}
    words = {name: str(row[name]) for name in ("image_id", "path", "patient_id", "eye", "split")}
    return {**words, **numbers, "position": place, "listed": True}
