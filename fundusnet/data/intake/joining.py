"""Tables that belong together as one: several files, or a sheet of the right eyes and one of the left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.intake.shapes import EYE_OF_FILE
from fundusnet.data.intake.table import Table, read_any_table
from fundusnet.errors import UserError


def read_tables(files: Sequence[Path], pictures: Photographs) -> list[Table]:
    """The table of a file, or one for each sheet of a workbook; several files as one.

    Args:
        files: CSV or .xlsx; several have the same columns, in some sheet of each.
        pictures: By these a first row is known that already names a photograph.

    Raises:
        UserError: A file cannot be read, or two have no columns in common.
    """
    tables = [read_any_table(file, pictures) for file in files]
    if len(files) == 1:
        return _eyes_joined(tables[0])
    shared = set.intersection(*({table.columns for table in each} for each in tables))
    if not shared:
        names = "; ".join(f"{each[0].file.name} has {', '.join(each[0].columns[:8])}" for each in tables)
        raise UserError(f"several tables are read as one if they have the same columns: {names}; give one of them")
    return [
        _joined([table for each in tables for table in each if table.columns == columns]) for columns in sorted(shared)
    ]


def _eyes_joined(tables: Sequence[Table]) -> list[Table]:
    """The tables, those with the same columns as one where one is of the right and one of the left eye."""
    alike: dict[tuple[str, ...], list[Table]] = defaultdict(list)
    for table in tables:
        alike[table.columns].append(table)
    return [
        each
        for group in alike.values()
        for each in ([_joined(group)] if sorted(table.side for table in group) == ["left", "right"] else group)
    ]


def _joined(tables: Sequence[Table]) -> Table:
    """The rows of tables with the same columns; where each is of one eye, and these differ, that is a column more."""
    sides = {table.side for table in tables}
    named = len(sides) > 1 and "" not in sides
    return replace(
        tables[0],
        columns=(*tables[0].columns, *((EYE_OF_FILE,) if named else ())),
        rows=tuple((*row, *((table.side,) if named else ())) for table in tables for row in table.rows),
        lines=tuple(f"{table.sheet or table.file.name} {line}" for table in tables for line in table.lines),
        sheet=" and ".join(filter(None, (table.sheet for table in tables))),
        side=sides.pop() if len(sides) == 1 else "",
    )
