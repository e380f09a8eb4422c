"""Tables with a row for both eyes or several readers, as tables with a row for each photograph and reader."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fundusnet.data.intake import words
from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.intake.table import Table

# Columns that are made; no header has such names.
EYE = "(the eye in the name of the column)"
EYE_OF_FILE = "(the eye in the name of the table)"
PHOTOGRAPH = "(the photographs of that patient and eye)"
READER = "(the reader in the name of the column)"
READER_ONLY = "label"  # what a column is called whose name is that of a reader and nothing else

_READER = re.compile(
    r"(?:^|_)((?:reader|grader|rater|annotator|expert|doctor|observer|physician|ophthalmologist)_?(?:\d+|[a-h]))(?=_|$)"
)
_SHORT_READER = re.compile(r"^(?:label_(?=[gr]))?([gr]\d+)(?=_|$)|(?<=^label_)([gr]\d+)$")  # G1, R2, label G1


def is_made(column: str) -> bool:
    """Whether no column of the file is called so, or was it made from."""
    return column in (EYE, EYE_OF_FILE, PHOTOGRAPH, READER)


def one_row_an_eye(table: Table, images: Sequence[str] = ()) -> Table:
    """A table in which a row is of both eyes, with a row for each.

    Columns that name an eye become one, such as ``left_diagnosis`` and ``right_diagnosis``; the others are of both.

    Args:
        table: As it was read.
        images: Its two columns of photographs, if it has them; an eye without one has no row.
    """
    sides = {name: words.side_in(name) for name in table.columns}
    pairs: dict[str, dict[str, str]] = defaultdict(dict)  # rest of the name → eye → column
    for name, (side, rest) in sides.items():
        if side:
            pairs[rest][side] = name
    of_eyes = {rest: columns for rest, columns in pairs.items() if len(columns) == 2}
    image = sides[images[0]][1] if images else None
    order = [sides[name][0] for name in images] or ["right", "left"]
    return _split(table, {eye: {rest: each[eye] for rest, each in of_eyes.items()} for eye in order}, EYE, image)


def has_columns_of_eyes(table: Table) -> bool:
    """Whether two columns differ in the eye alone."""
    return len(one_row_an_eye(table).origins) > len(table.origins)


def one_row_a_reader(table: Table) -> Table:
    """A table with a column for each reader (``drusen_reader1``, ``G2 ANRS``), with a row for each reader.

    It stays as it is if fewer than two readers have a column of the same name; a reader who says nothing has no row.
    """
    readers: dict[str, dict[str, str]] = defaultdict(dict)  # rest of the name → reader → column
    short: dict[str, dict[str, str]] = defaultdict(dict)
    for name in table.columns:
        reader, rest = reader_in(name)
        if reader:
            readers[rest][reader] = name
        elif found := _SHORT_READER.search(words.plain(name)):
            reader = found[1] or found[2]
            short[re.sub(rf"(?:^|_){reader}(?=_|$)", "", words.plain(name)).strip("_")][reader] = name
    several = {rest: each for rest, each in short.items() if rest and len(each) > 1}
    if len(several) > 1:  # two columns may be called R1 and R2 for another reason
        readers |= several
    others = {words.plain(name) for name in table.columns}
    kept = {rest: each for rest, each in readers.items() if len(each) > 1 and rest not in others}
    if not kept:
        return table
    names = sorted({reader for each in kept.values() for reader in each})
    return _split(
        table,
        {reader: {rest: each[reader] for rest, each in kept.items() if reader in each} for reader in names},
        READER,
    )


def reader_in(name: str) -> tuple[str, str]:
    """The reader in the name of a column, and the rest: "Drusen (Reader 1)" → ("reader_1", "drusen")."""
    text = words.plain(name)
    found = _READER.search(text)
    if found is None:
        return "", text
    return found[1], (text[: found.start()] + text[found.end() :]).strip("_") or READER_ONLY


def one_row_a_photograph(table: Table, pictures: Photographs, patient: str, eye: str | None, side: str = "") -> Table:
    """A table whose rows name a patient and an eye, with a row for each photograph of these.

    Args:
        table: As it was read.
        pictures: The photographs, whose names have patient and eye.
        patient: A column.
        eye: A column; None if all rows are of one.
        side: Which, then: "left" or "right".
    """
    rows, lines = [], []
    place = table.columns.index(patient)
    eyes = [words.eye_of(cell) for cell in table.column(eye)] if eye else [side] * len(table.rows)
    for row, line, each in zip(table.rows, table.lines, eyes, strict=True):
        files = pictures.of_eye(row[place], each) if each else []
        names = [file.relative_to(pictures.folder).as_posix() for file in files]
        for name in names or [f"{row[place]} {each}".strip()]:
            rows.append((*row, *(() if eye else (each,)), name))
            lines.append(line)
    columns = (*table.columns, *(() if eye else (EYE_OF_FILE,)), PHOTOGRAPH)
    return replace(table, columns=columns, rows=tuple(rows), lines=tuple(lines))


def _split(table: Table, parts: Mapping[str, Mapping[str, str]], title: str, needed: str | None = None) -> Table:
    """Each row once for each part (an eye, a reader), with its columns under common names.

    Args:
        table: The table.
        parts: Part → common name → its column; the columns of no part are shared by all.
        title: Name of the column that says of which part a row is.
        needed: A row is kept if it has a cell under this common name; None = if it has any cell of the part, or if no
            part has one.
    """
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    taken = {column for part in parts.values() for column in part.values()}
    shared = [name for name in table.columns if name not in taken]
    at = {name: place for place, name in enumerate(table.columns)}
    rows, lines = [], []
    for row, line in zip(table.rows, table.lines, strict=True):
        mine = {part: [row[at[each[name]]] if name in each else "" for name in names] for part, each in parts.items()}
        said = {
            part: cells
            for part, cells in mine.items()
            if (cells[names.index(needed)] if needed else any(not words.is_unknown(cell) for cell in cells))
        }
        if not said and needed is None:
            said = {"": [""] * len(names)}
        for part, cells in said.items():
            rows.append((*(row[at[name]] for name in shared), *cells, part))
            lines.append(line)
    origins = {
        name: tuple(
            before for part in parts.values() if name in part for before in table.origins.get(part[name], (part[name],))
        )
        for name in names
    }
    return replace(
        table,
        columns=(*shared, *names, title),
        rows=tuple(rows),
        lines=tuple(lines),
        origins={**table.origins, **origins},
    )
