"""Stores a decision as a new version of what was decided before, once, however often and by however many it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from fundusnet.annotation.storage import Storage
from fundusnet.annotation.study import ConflictError


class Version(Protocol):
    """What is stored of a decision, of any kind."""

    @property
    def version(self) -> int: ...
    @property
    def change(self) -> str | None: ...


V = TypeVar("V", bound=Version)


def add_version(
    storage: Storage,
    table: sa.Table,
    row: Mapping[str, Any],
    base: int,
    newest: Callable[[Connection], V | None],
    as_json: Callable[[V | None], dict[str, Any] | None],
) -> int:
    """Store a decision and return its version; sending the same change again has no effect.

    Args:
        storage: Of the study.
        table: Of these decisions.
        row: The decision, without version and time.
        base: The version that it was made on; 0 = none.
        newest: The decision that is stored now.
        as_json: What the page gets of it.

    Raises:
        ConflictError: Another decision was stored in the meantime.
    """
    with storage.read() as connection:
        before = newest(connection)
    if before is not None and row["change"] is not None and before.change == row["change"]:
        return before.version
    if (before.version if before else 0) == base:
        try:
            with storage.write() as connection:
                connection.execute(sa.insert(table).values({**row, "version": base + 1, "saved": time.time()}))
            return base + 1
        except IntegrityError:  # another adjudicator decided at the same moment
            with storage.read() as connection:
                before = newest(connection)
    raise ConflictError("decision", as_json(before))
