"""The database of a study: every answer is a new row, which is on disk before it is acknowledged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Connection, Engine, Float, ForeignKey, Integer, String, Table, UniqueConstraint
from sqlalchemy.exc import SQLAlchemyError

from fundusnet.errors import UserError

metadata = sa.MetaData()

settings = Table("settings", metadata, Column("name", String(64), primary_key=True), Column("value", String(256)))

images = Table(
    "images",
    metadata,
    Column("image_id", String(255), primary_key=True),
    Column("path", String(4096), nullable=False),
    Column("patient_id", String(255), nullable=False),
    Column("eye", String(8), nullable=False),
    Column("split", String(8), nullable=False),
    *(Column(name, Float) for name in ("disc_x", "disc_y", "fovea_x", "fovea_y", "grade")),
    Column("position", Integer, nullable=False),
    # False for images that the source no longer has: they are hidden, but their readings are kept.
    Column("listed", Boolean, nullable=False),
)

annotators = Table(
    "annotators",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    # False for annotators who left: their readings are kept, but they cannot sign in.
    Column("active", Boolean, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False, index=True),
    Column("used", Boolean, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False, index=True),
    Column("created", Float, nullable=False),
    # The link that started the session, until the page makes its first request, which uses the link up.
    Column("link_hash", String(64)),
)

# Who reads which image, and the state of each reading. ``version`` is the newest in ``answers``; 0 = none yet.
assignments = Table(
    "assignments",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("version", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False, default="todo"),
)

# Every version ever saved; rows are only added.
answers = Table(
    "answers",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("change", String(36), nullable=False),
    Column("state", String(16), nullable=False),
    Column("content", sa.JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("saved", Float, nullable=False),
    UniqueConstraint("annotator_id", "change"),
)

# Decisions of adjudicators on one finding of one image; ``present`` is NULL if withdrawn.
decisions = Table(
    "decisions",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("finding", String(255), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("change", String(36)),
    Column("present", Boolean),
    Column("regions", sa.JSON, nullable=False),
    Column("saved", Float, nullable=False),
)

# What trained networks suggest for an image (``fundusnet.annotation.suggestions``); rows are only added.
suggestions = Table(
    "suggestions",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("networks", String(16), primary_key=True),
    Column("content", sa.JSON, nullable=False),
    Column("uncertainty", Float, nullable=False),
    Column("made", Float, nullable=False),
)

# Who was shown which suggestion, and when first.
shown_suggestions = Table(
    "shown_suggestions",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("networks", String(16), primary_key=True),
    Column("at", Float, nullable=False),
)


class Storage:
    """A study's database.

    SQLite uses a write-ahead log and ``synchronous=FULL``: a committed transaction survives a crash of the process and
    of the machine. Other databases are trusted to keep what they committed.
    """

    def __init__(self, url: str) -> None:
        """Open the database at the SQLAlchemy ``url`` and create missing tables.

        Raises:
            UserError: The URL is invalid, its driver is not installed, or the database cannot be reached.
        """
        try:
            parsed = sa.make_url(url)
            self._sqlite = parsed.get_backend_name() == "sqlite"
            if self._sqlite:
                self._engine = sa.create_engine(parsed, pool_size=16, connect_args={"timeout": 30})
                _configure_sqlite(self._engine)
            else:
                self._engine = sa.create_engine(parsed, pool_size=16, pool_pre_ping=True)
            # SQLite allows one writer at a time and lets others retry after growing delays; a lock is faster.
            self._writing: AbstractContextManager[Any] = threading.Lock() if self._sqlite else nullcontext()
            metadata.create_all(self._engine)
        except ModuleNotFoundError as error:
            raise UserError(
                f"database={_without_password(url)} needs the module {error.name}; pip install it"
            ) from error
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise UserError(f"database={_without_password(url)} cannot be used: {reason}") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction in which all queries see the same state, whatever others write meanwhile."""
        level = {} if self._sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._engine.connect().execution_options(**level) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed when the block ends, and rolled back on an exception."""
        with self._writing, self._engine.connect().execution_options(write=True) as connection, connection.begin():
            yield connection

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


def _configure_sqlite(engine: Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # Keep Python's driver from starting transactions; the listener below does.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE, so that nobody else can write between a read and a write of this transaction.
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url
