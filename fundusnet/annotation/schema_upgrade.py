"""Adds to the tables of an earlier version what this one has besides."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy import Connection, Index, MetaData


def is_current(connection: Connection, metadata: MetaData) -> bool:
    """Whether the database has all tables, columns and indexes."""
    found, indexed = _columns(connection), _indexes(connection)
    return all(
        set(table.columns.keys()) <= found.get(table.name, set()) and not _outdated(table, indexed)
        for table in metadata.sorted_tables
    )


def create_or_upgrade(connection: Connection, metadata: MetaData) -> None:
    """Create missing tables, columns and indexes; an index that had other columns is made anew."""
    before = _columns(connection)
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if column.name not in before.get(table.name, table.columns.keys()):
                described = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {described}"))
    indexed = _indexes(connection)
    for table in metadata.sorted_tables:
        for index in _outdated(table, indexed):
            index.drop(connection, checkfirst=True)
            index.create(connection)
    if "settings" in before and connection.dialect.name != "sqlite":  # SQLite has no limit of a text
        connection.execute(sa.text("ALTER TABLE settings ALTER COLUMN value TYPE TEXT"))
    if "links" in before and "expires" not in before["links"]:  # they never ended; give them as long as new ones
        connection.execute(sa.text("UPDATE links SET expires = :end"), {"end": time.time() + 14 * 24 * 3600})
    if "assignments" in before and "shown" not in before["assignments"]:
        _restore_deleted_assignments(connection)


def _restore_deleted_assignments(connection: Connection) -> None:
    """0.1.0 deleted the assignments of people who left, finished ones excepted, and of images dealt to others."""
    connection.execute(
        sa.text(
            "INSERT INTO assignments (annotator_id, image_id, version, state, shown, seconds) "
            "SELECT annotator_id, image_id, version, state, :no, seconds FROM answers AS newest "
            "WHERE NOT EXISTS (SELECT 1 FROM assignments AS a "
            "WHERE a.annotator_id = newest.annotator_id AND a.image_id = newest.image_id) "
            "AND version = (SELECT max(version) FROM answers AS b "
            "WHERE b.annotator_id = newest.annotator_id AND b.image_id = newest.image_id)"
        ),
        {"no": False},
    )
    connection.execute(
        sa.text(
            "UPDATE assignments SET seconds = (SELECT seconds FROM answers WHERE "
            "answers.annotator_id = assignments.annotator_id AND answers.image_id = assignments.image_id "
            "AND answers.version = assignments.version) WHERE version > 0"
        )
    )
    unlisted = "SELECT image_id FROM images WHERE NOT listed"
    connection.execute(sa.text(f"UPDATE assignments SET shown = :no WHERE image_id IN ({unlisted})"), {"no": False})


def _columns(connection: Connection) -> dict[str, set[str]]:
    inspector = sa.inspect(connection)
    return {name: {column["name"] for column in inspector.get_columns(name)} for name in inspector.get_table_names()}


def _indexes(connection: Connection) -> dict[str, dict[str | None, list[str | None]]]:
    """Table → index → its columns."""
    inspector = sa.inspect(connection)
    return {
        name: {index["name"]: list(index["column_names"]) for index in inspector.get_indexes(name)}
        for name in inspector.get_table_names()
    }


def _outdated(table: sa.Table, found: dict[str, dict[str | None, list[str | None]]]) -> list[Index]:
    """The indexes of a table that the database lacks, or has with other columns."""
    here = found.get(table.name, {})
    return [index for index in table.indexes if here.get(index.name) != [column.name for column in index.columns]]
