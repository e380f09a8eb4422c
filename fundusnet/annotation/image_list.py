"""The images of a study: taken from the source at every start, known by the content of their files."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from pandas.util import hash_pandas_object
from sqlalchemy import Connection

from fundusnet.annotation.identity import File, Version, digests, identify, versions
from fundusnet.annotation.storage import Storage, forget_setting, set_setting, setting
from fundusnet.annotation.tables import assignments, images
from fundusnet.annotation.tallies import recount, recount_progress
from fundusnet.data.manifest import COORDINATES, VISIT, Manifest

log = logging.getLogger(__name__)
_NAMED = 8  # images that a message lists


def list_images(storage: Storage, manifest: Manifest) -> None:
    """Make the photographs of ``manifest`` the images of the study, and say which of the earlier ones are missing."""
    current = versions(manifest.root, manifest.images["path"])
    state = _fingerprint(manifest, current)
    with storage.read() as connection:
        unchanged = setting(connection, "listed") == state
    if not unchanged:
        _update(storage, manifest, current, state)
    with storage.read() as connection:
        gone = sa.select(images.c.image_id).where(sa.not_(images.c.listed)).order_by(images.c.position)
        missing = list(connection.scalars(gone))
    if missing:
        names = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        log.warning("photographs of this study that are missing or were changed, their readings are kept: %s", names)


def _fingerprint(manifest: Manifest, current: Mapping[str, Version]) -> str:
    """Changes with whatever decides what the images are, so that a restart without a change need not compare them."""
    told = hash_pandas_object(manifest.images, index=False).to_numpy().tobytes()
    files = "\0".join(f"{path}\0{size}\0{changed}" for path, (size, changed) in current.items())
    return hashlib.sha256(told + files.encode()).hexdigest()


def _update(storage: Storage, manifest: Manifest, current: Mapping[str, Version], state: str) -> None:
    read = digests(storage, manifest.root, current)
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
                # Not the id: SQLite looks through all answers for each row whose key is set, even to what it was.
                del row["image_id"]
                changed.append(row | {"key": image_id})
        if new:
            connection.execute(sa.insert(images), new)
        if changed:
            connection.execute(sa.update(images).where(images.c.image_id == sa.bindparam("key")), changed)
        here = set(ids)
        gone = [row.image_id for row in stored.values() if row.listed and row.image_id not in here]
        _hide(connection, gone)
        if gone or again:
            # Until they are dealt again nobody reads them, also where this start ends before it comes to that.
            forget_setting(connection, "dealt")
        recount(connection, again)
        if len(read) == len(rows):  # what could not be read is tried again
            set_setting(connection, "listed", state)
        else:
            forget_setting(connection, "listed")
    if moved:
        log.info("%d photographs lie elsewhere than before and keep their readings", moved)


def _hide(connection: Connection, image_ids: Collection[str]) -> None:
    if image_ids:
        rows = [{"key": image_id} for image_id in image_ids]
        connection.execute(sa.update(images).where(images.c.image_id == sa.bindparam("key")).values(listed=False), rows)
        connection.execute(
            sa.update(assignments).where(assignments.c.image_id == sa.bindparam("key")).values(shown=False), rows
        )
        recount(connection, image_ids)
        recount_progress(connection)


def _image_row(row: Mapping[Any, Any], place: int) -> dict[str, Any]:
    numbers = {name: None if math.isnan(row[name]) else float(row[name]) for name in (*COORDINATES, "grade")}
    words = {name: str(row[name]) for name in ("image_id", "path", "patient_id", "eye", "split")}
    return {**words, **numbers, "position": place, "listed": True, "visit": str(row.get(VISIT) or "") or None}
