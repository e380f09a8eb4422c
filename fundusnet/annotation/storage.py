"""The database of a study: every answer is a new row, which is on disk before it is acknowledged."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fundusnet.annotation.schema_upgrade import create_or_upgrade, is_current
from fundusnet.annotation.tables import metadata, settings
from fundusnet.errors import UserError

BUSY = "the study's database is locked by another program, or out of reach; trying again"


class BusyError(UserError):
    """The database is locked by somebody else, or out of reach; the same may work a moment later."""


class DiskFullError(UserError):
    """The database cannot grow; the same works when there is room again."""


class Storage:
    """A study's database.

    SQLite uses a write-ahead log and ``synchronous=FULL``: a committed transaction survives a crash of the process and
    of the machine. Other databases are trusted to keep what they committed.
    """

    def __init__(self, url: str, patience: float = 30.0) -> None:
        """Open the database at the SQLAlchemy ``url`` and create missing tables; SQLite's file is its owner's only.

        Args:
            url: Where it is.
            patience: Seconds to wait while another process holds a lock.

        Raises:
            UserError: The URL is invalid, its driver is not installed, or the database cannot be reached.
        """
        self.patience = patience
        try:
            parsed = sa.make_url(url)
            self._sqlite = parsed.get_backend_name() == "sqlite"
            if self._sqlite:
                self._engine = sa.create_engine(parsed, pool_size=16)
                _configure_sqlite(self._engine)
                _make_private(parsed.database)
            else:
                self._engine = sa.create_engine(parsed, pool_size=16, pool_pre_ping=True)
            self._writing = threading.Lock()
            with self.read() as connection:
                current = is_current(connection, metadata)
            if not current:
                with self.write() as connection:
                    create_or_upgrade(connection, metadata)
        except ModuleNotFoundError as error:
            raise UserError(
                f"database={_without_password(url)} needs the module {error.name}; pip install it"
            ) from error
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise UserError(f"database={_without_password(url)} cannot be used: {reason}") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction in which all queries see the same state, whatever others write meanwhile.

        Raises:
            BusyError: The database is locked or cannot be reached.
        """
        level = {} if self._sqlite else {"isolation_level": "REPEATABLE READ"}
        with (
            _plain_errors(),
            self._engine.connect().execution_options(patience=self.patience, **level) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed when the block ends, and rolled back on an exception.

        Raises:
            BusyError: The database is locked or cannot be reached.
            DiskFullError: There is no room for it.
        """
        with (
            self._one_writer(),
            _plain_errors(),
            self._engine.connect().execution_options(write=True, patience=self.patience) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        # SQLite allows one writer at a time and lets others retry after growing delays; a lock is faster.
        if not self._sqlite:
            yield
            return
        if not self._writing.acquire(timeout=self.patience):
            raise BusyError(BUSY)
        try:
            yield
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def setting(connection: Connection, name: str) -> str | None:
    """The value of the setting ``name``; None if it is not set."""
    value: str | None = connection.scalar(sa.select(settings.c.value).where(settings.c.name == name))
    return value


def set_setting(connection: Connection, name: str, value: str) -> None:
    """Set the setting ``name`` to ``value``."""
    changed = connection.execute(sa.update(settings).where(settings.c.name == name).values(value=value))
    if not changed.rowcount:
        connection.execute(sa.insert(settings).values(name=name, value=value))


def forget_setting(connection: Connection, name: str) -> None:
    """Remove the setting ``name``."""
    connection.execute(sa.delete(settings).where(settings.c.name == name))


def _configure_sqlite(engine: Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # Keep Python's driver from starting transactions; the listener below does.
        connection.isolation_level = None
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE, so that nobody else can write between a read and a write of this transaction.
        write = connection.get_execution_options().get("write", False)
        patience = connection.get_execution_options().get("patience", 30.0)
        connection.exec_driver_sql(f"PRAGMA busy_timeout={int(1000 * patience)}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Tell what a database waits for and what it lacks from what is our fault."""
    try:
        yield
    except OperationalError as error:
        text, state = str(error.orig), getattr(error.orig, "sqlstate", None)
        if "disk is full" in text or state == "53100":
            raise DiskFullError(
                "the disk of the study's database is full; make room, nothing else is needed"
            ) from error
        if (
            "locked" in text
            or "busy" in text
            or error.connection_invalidated
            or (state or "").startswith(("08", "57P", "40P01"))  # 40P01: each waited for the other
        ):
            raise BusyError(BUSY) from error
        raise
    except PoolTimeoutError as error:
        raise BusyError(BUSY) from error


def _make_private(database: str | None) -> None:
    """Create the file for its owner only; SQLite gives its journals the same mode."""
    if database and database != ":memory:" and not database.startswith("file:"):
        file = Path(database)
        if not file.exists():
            with suppress(OSError):  # SQLite will say what is wrong
                os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        for each in (file, *(file.with_name(f"{file.name}{suffix}") for suffix in ("-wal", "-shm"))):
            with suppress(OSError):  # somebody else's, or not there
                each.chmod(0o600)


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url
