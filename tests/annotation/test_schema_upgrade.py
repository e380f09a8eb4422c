"""A study of an earlier version gets the tables, columns and indexes that this version has besides."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
import studies
from studies import Page, answer, client_of, open_study

from fundusnet.annotation.tables import metadata

INDEXES = {index.name: index for table in metadata.sorted_tables for index in table.indexes}
ADDED = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if column.nullable and not column.primary_key
]


def described(url: str) -> tuple[dict[str, set[str]], dict[str | None, list[str | None]]]:
    """Table → columns, and index → columns, as the database has them."""
    inspector = sa.inspect(engine := sa.create_engine(url))
    names = inspector.get_table_names()
    columns = {name: {column["name"] for column in inspector.get_columns(name)} for name in names}
    indexes = {index["name"]: list(index["column_names"]) for name in names for index in inspector.get_indexes(name)}
    engine.dispose()
    return columns, {name: listed for name, listed in indexes.items() if name in INDEXES}


def change(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A study with an answer."""
    study = open_study(tmp_path)
    assert Page(client_of(study)).put("a", answer()).status_code == 200
    study.storage.close()
    return studies.url_of(tmp_path)


def reopened(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    assert Page(client_of(study)).get("/api/images/a").json()["answer"]["version"] == 1
    study.storage.close()


@pytest.mark.parametrize("without", ["each", "all", "others"])
def test_missing_and_changed_indexes_are_made(tmp_path: Path, url: str, without: str) -> None:
    complete = described(url)
    assert set(complete[1]) == set(INDEXES), "a new study has all"
    for some in [[name] for name in INDEXES] if without == "each" else [list(INDEXES)]:
        change(url, *(f"DROP INDEX {name}" for name in some))
        if without == "others":  # as an earlier version had them: of another column
            first = {name: (INDEXES[name].table, INDEXES[name].table.primary_key.columns.keys()[0]) for name in some}
            change(url, *(f"CREATE INDEX {name} ON {table} ({column})" for name, (table, column) in first.items()))
        assert described(url) != complete
        reopened(tmp_path)
        assert described(url) == complete


def test_missing_columns_are_made(tmp_path: Path, url: str) -> None:
    complete = described(url)
    indexed = {(index.table.name, column.name) for index in INDEXES.values() for column in index.columns}
    some = [(table, name) for table, name in ADDED if (table, name) not in indexed]
    assert ("images", "visit") in some
    change(url, *(f"ALTER TABLE {table} DROP COLUMN {name}" for table, name in some))
    assert described(url) != complete
    reopened(tmp_path)
    assert described(url) == complete


def test_a_current_study_is_left_alone(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("fundusnet.annotation.storage.create_or_upgrade", fail)
    reopened(tmp_path)
