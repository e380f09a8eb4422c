"""From the rows of a user's table to a manifest, and what was understood of them, in words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fundusnet.data.delimiters import number_from
from fundusnet.data.fellow_eyes import patients_of
from fundusnet.data.intake import words
from fundusnet.data.intake.columns import Columns
from fundusnet.data.intake.photographs import Photographs, is_mangled, patient_and_eye
from fundusnet.data.intake.table import Table
from fundusnet.data.intake.visits import are_dates, visits_of
from fundusnet.data.listing import relative_path, unique_ids
from fundusnet.data.manifest import COORDINATES, READING_COLUMNS, VISIT, Manifest, images_table
from fundusnet.data.regions import REGIONS
from fundusnet.data.sources.csv import PLACEHOLDERS
from fundusnet.errors import UserError

READER = "table"  # who read where the table names nobody
SIDED = 0.8  # share of file names that must name an eye before they are believed
_SEPARATORS = re.compile("[;|\n\uff0c\uff1b]|,(?!\\d)|\\s[+&]\\s")
# Regions without underscores, in other spellings too: supero-temporal, superior temporal, fovea.
_REGION_NAMES = {
    **{name.replace("_", ""): name for name in REGIONS.values()},
    **{f"{sector}ior{side}": f"{sector}o{side}" for sector in ("super", "infer") for side in ("temporal", "nasal")},
    **{"fovea": "macula", "macular": "macula", "superiordisc": "disc_superior", "inferiordisc": "disc_inferior"},
}

Marked = dict[str, set[str]]  # finding → regions


@dataclass
class Understood:
    """A manifest and what is to be said about it.

    Attributes:
        manifest: Its root is the folder of the photographs.
        findings: Finding → number of photographs with it, and read without it.
        grades: Name of each grade → number of photographs, from the lowest.
        readers: How many readers most photographs have.
        remarks: What was taken how, or left out.
    """

    manifest: Manifest
    findings: dict[str, tuple[int, int]]
    grades: dict[str, int]
    readers: int
    remarks: list[str]


@dataclass
class _Row:
    """What one row says; ``marked`` is None where it does not say what was seen."""

    line: str
    about: dict[str, str | float]
    grade: str
    reader: str
    marked: Marked | None


@dataclass
class _Strange:
    """Cells that say nothing that is understood, counted."""

    cells: Counter[str] = field(default_factory=Counter)
    empty: int = 0  # rows left unread for an empty cell among the findings


def read_rows(table: Table, columns: Columns, pictures: Photographs, classes: Sequence[str] = ()) -> Understood:
    """The manifest of a table.

    Args:
        table: A row or several for each photograph.
        columns: What its columns are.
        pictures: The photographs.
        classes: Names of the grades, lowest first: the words in the table, or names for its numbers; () = the numbers,
            or the words where their order is known.

    Raises:
        UserError: No photograph is found, or the order of the grades is not known.
    """
    remarks: list[str] = []
    image = columns.one["image"]
    files = pictures.match(table.column(image))
    if not any(files):
        several = next(found for cell in table.column(image) if len(found := pictures.candidates(cell)) > 1)
        raise UserError(
            f"column '{image}' of {table.file} names no photograph that is the only one of its name in "
            f"{pictures.folder}: it has {_either(several)}; choose a folder with images=FOLDER, or name files in full"
        )
    _say_missing(table, image, files, pictures, remarks)
    grade_of, names = _grades(table, columns, classes, remarks)
    findings = _finding_names(columns, remarks)
    visits = _visits(table, columns["visit"], remarks)
    strange = _Strange()
    groups: dict[Path, list[_Row]] = defaultdict(list)
    for cells, line, file in zip(table.rows, table.lines, files, strict=True):
        if file is not None:
            row = dict(zip(table.columns, cells, strict=True))
            groups[file].append(_read_row(row, line, columns, findings, visits, strange))
    if not (columns["finding"] or columns["annotator"]):
        _drop_repeated(groups, remarks)
        if not groups:
            raise UserError(
                f"{table.file}: {remarks[-1]}; with columns.annotator=NAME they are readings of different people, else "
                "give one row for each photograph"
            )
    _say_strange(strange, remarks)
    if columns.unordered:
        values = dict.fromkeys(cell for cell in table.column(columns.unordered) if not words.is_unknown(cell))
        remarks.append(
            f"column '{columns.unordered}' may hold grades, {', '.join(values)}; to use it say columns.grade="
            f"'{columns.unordered}' and their order, lowest first: classes=[…]"
        )
    patients = _patients(table.column(columns.one["fellow"]), files, pictures) if columns["fellow"] else {}
    images, readings = _tables(groups, grade_of, patients, pictures.folder, remarks, columns.without)
    manifest = Manifest(pictures.folder, images, readings, classes=tuple(names))
    return Understood(manifest, _count(readings), _grade_counts(images, names), _readers(readings), remarks)


def _read_row(
    row: Mapping[str, str],
    line: str,
    columns: Columns,
    findings: Mapping[str, str],
    visits: Mapping[str, str],
    strange: _Strange,
) -> _Row:
    def cell(role: str) -> str:
        name = columns[role]
        return "" if name is None or words.is_unknown(row[name]) else row[name]

    patient = re.sub(r"^(\d+)[.,]0+$", r"\1", cell("patient"))
    about: dict[str, str | float] = {
        "patient_id": "" if patient.lower() in PLACEHOLDERS - {"0"} else patient,
        "eye": words.eye_of(cell("eye")),
        VISIT: visits.get(cell("visit"), ""),
        "split": words.split_of(cell("split")) or "",
    }
    for role in COORDINATES:
        if cell(role):
            try:
                about[role] = number_from(cell(role))
            except ValueError:
                about[role] = ""
    for role, value in about.items():
        if value == "" and cell(role.removesuffix("_id")):
            strange.cells[f"{role} '{cell(role)}'"] += 1
    about = {role: value for role, value in about.items() if value != "" or role not in COORDINATES}
    marked = _marked(row, columns, findings, cell("finding"), cell("present"), strange)
    if marked and columns["regions"]:
        regions = _regions(cell("regions"), strange)
        marked = dict.fromkeys(marked, regions)
    return _Row(line, about, cell("grade"), cell("annotator") or READER, marked)


def _marked(
    row: Mapping[str, str],
    columns: Columns,
    findings: Mapping[str, str],
    listed: str,
    present: str,
    strange: _Strange,
) -> Marked | None:
    """The findings that a row says are there; None if it does not say what was seen."""
    answers = {column: words.presence(row[column], counts=True) for column in findings}
    empty = [column for column, answer in answers.items() if answer is None and column not in columns.marks]
    parts = [part.strip() for part in _SEPARATORS.split(listed) if part.strip()]
    if len(empty) < len(findings) and empty:
        strange.empty += 1
        return None
    if not parts and (len(empty) == len(findings) or not findings):
        return None
    for column in empty:
        if not words.is_unknown(row[column]):
            strange.cells[f"{column} '{row[column]}'"] += 1
    marked: Marked = {findings[column]: set() for column, answer in answers.items() if answer}
    if words.yes_or_no(present or "1") is not False:
        marked |= {words.finding_name(part): set() for part in parts if not words.says_nothing_found(part)}
    return marked


def _regions(cell: str, strange: _Strange) -> set[str]:
    found = set()
    for part in filter(None, (part.strip() for part in _SEPARATORS.split(cell))):
        if name := _REGION_NAMES.get(words.plain(part).replace("_", "")):
            found.add(name)
        else:
            strange.cells[f"region '{part}'"] += 1
    return found


def _visits(table: Table, column: str | None, remarks: list[str]) -> Mapping[str, str]:
    """When a photograph was taken, for each cell of the column that says it."""
    if column is None:
        return {}
    visits = visits_of(table.column(column))
    if visits is None and are_dates(table.column(column)):
        example = next(cell for cell in table.column(column) if not words.is_unknown(cell))
        remarks.append(
            f"visits are left out: nothing tells whether day or month is first in '{column}', such as {example}; write "
            "dates as 2024-01-31"
        )
    return visits or {}


def _patients(fellows: Sequence[str], files: Sequence[Path | None], pictures: Photographs) -> dict[Path, str]:
    """Photograph → its patient, named after the first of the fellow eyes."""
    pairs = zip(files, pictures.match(fellows), strict=True)
    known = [(str(file), str(fellow or "")) for file, fellow in pairs if file is not None]
    return {Path(eye): Path(patient).stem for eye, patient in patients_of(*zip(*known, strict=True)).items()}


def _grades(
    table: Table, columns: Columns, classes: Sequence[str], remarks: list[str]
) -> tuple[dict[str, int], list[str]]:
    """The grade of each cell of the column of grades, and the names of the grades from the lowest."""
    if columns["grade"] is None:
        if classes:
            raise UserError(f"classes={list(classes)} names grades, but no column holds any; add columns.grade=NAME")
        return {}, []
    found = dict.fromkeys(cell for cell in table.column(columns.one["grade"]) if not words.is_unknown(cell))
    values = [cell for cell in found if not words.is_negative(cell)]
    if negative := [cell for cell in found if words.is_negative(cell)]:
        remarks.append(f"grades below zero ({', '.join(negative[:4])}) count as not graded")
    numbers = {value: words.grade_number(value) for value in values}
    by_name = {words.plain(name): grade for grade, name in enumerate(classes)}
    if classes and all(words.plain(value) in by_name for value in values):
        return {value: by_name[words.plain(value)] for value in values}, list(classes)
    digits = sorted({number for number in numbers.values() if number is not None})
    if None not in numbers.values() and len(classes) in (0, len(digits)):
        if digits != list(range(len(digits))):
            remarks.append(f"grades {', '.join(map(str, digits))} are counted 0 to {len(digits) - 1}")
        names = list(classes) or [str(digit) for digit in digits]
        return {value: digits.index(number) for value, number in numbers.items() if number is not None}, names
    order = words.in_order(values)
    if classes or order is None:
        raise UserError(
            f"column '{columns['grade']}' of {table.file.name} holds {', '.join(values[:12])}; give the order of these "
            "grades, lowest first, as classes=[LOWEST,...,HIGHEST], or leave them out with columns.grade=null"
        )
    return {value: grade for grade, value in enumerate(order)}, [re.sub(r"\W+", "_", value) for value in order]


def _finding_names(columns: Columns, remarks: list[str]) -> dict[str, str]:
    """Column → the name of its finding, each different."""
    names: dict[str, str] = {}
    for column in columns.findings:
        found = [words.finding_name(column), words.plain(column)]
        found += [f"{found[1]}_{number}" for number in range(2, len(columns.findings) + 2)]
        names[column] = next(name for name in found if name not in names.values())
    if marks := sorted(columns.marks):
        some = ", ".join(marks[:4]) + ", …" * (len(marks) > 4)
        remarks.append(f"an empty cell counts as no in columns that never say no ({some})")
    return names


def _drop_repeated(groups: dict[Path, list[_Row]], remarks: list[str]) -> None:
    """Of rows that say the same of one photograph keep one; leave out a photograph whose rows differ."""
    repeated, different = 0, list[str]()
    for file, rows in list(groups.items()):
        first = rows[0]
        if any((row.about, row.grade, row.marked) != (first.about, first.grade, first.marked) for row in rows):
            different.append(f"{file.name} (lines {', '.join(row.line for row in rows[:4])})")
            del groups[file]
        else:
            repeated += len(rows) - 1
            groups[file] = rows[:1]
    if repeated:
        remarks.append(f"rows that repeat another one and count once: {repeated}")
    if different:
        remarks.append(f"left out, since their rows differ: {_some(different)}")


def _tables(
    groups: Mapping[Path, Sequence[_Row]],
    grade_of: Mapping[str, int],
    patients: Mapping[Path, str],
    folder: Path,
    remarks: list[str],
    without: Collection[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``images`` and ``readings`` of a manifest."""
    files = sorted(groups)
    stems = [file.stem for file in files]
    paths = [relative_path(file, folder) for file in files]
    names = stems if len({stem.lower() for stem in stems}) == len(stems) else unique_ids(paths)
    images: list[dict[str, object]] = []
    readings: list[tuple[str, str, str, str]] = []
    ungraded = []
    for file, name, path in zip(files, names, paths, strict=True):
        about: dict[str, object] = {"patient_id": patients.get(file, "")}
        for row in groups[file]:
            about |= {key: value for key, value in row.about.items() if value != "" or key not in about}
        grades = {grade_of[row.grade] for row in groups[file] if row.grade in grade_of}
        if len(grades) > 1:
            ungraded.append(file.name)
        images.append({"image_id": name, "path": path, **about, "grade": grades.pop() if len(grades) == 1 else None})
        seen: dict[str, Marked] = {}
        for row in groups[file]:
            for finding, regions in (row.marked or {}).items():
                seen.setdefault(row.reader, {}).setdefault(finding, set()).update(regions)
            if row.marked is not None:
                seen.setdefault(row.reader, {})
        for reader, marked in seen.items():
            readings += [(name, reader, finding, ";".join(sorted(where))) for finding, where in marked.items()]
            readings += [(name, reader, "", "")] * (not marked)
    if ungraded:
        remarks.append(f"left ungraded, since their rows have different grades: {_some(ungraded)}")
    _from_names(images, stems, remarks, without)
    return images_table(images), pd.DataFrame(readings, columns=list(READING_COLUMNS), dtype=str)


def _from_names(
    images: list[dict[str, object]], stems: Sequence[str], remarks: list[str], without: Collection[str]
) -> None:
    """Fill in patient and eye from file names such as ``12_left.jpg``, where the table says nothing of them."""
    found = {stem: each for stem in stems if (each := patient_and_eye(stem))}
    if len(found) < SIDED * len(stems) or len({eye for _, eye in found.values()}) < 2:
        return
    for at, role in ((1, "eye"), (0, "patient_id")):
        if any(image.get(role) for image in images) or role.removesuffix("_id") in without:
            continue
        stem, example = next(iter(found.items()))
        remarks.append(f"{role.removesuffix('_id')} is taken from the names of the files: {stem} → {example[at]}")
        for image, stem in zip(images, stems, strict=True):
            if stem in found:
                image[role] = found[stem][at]


def _say_missing(
    table: Table, image: str, files: Sequence[Path | None], pictures: Photographs, remarks: list[str]
) -> None:
    cells = table.column(image)
    missing = list(dict.fromkeys(cell for cell, file in zip(cells, files, strict=True) if file is None))
    twice = [cell for cell in missing if len(pictures.candidates(cell)) > 1]
    mangled = [cell for cell in missing if is_mangled(cell)]
    others = [cell for cell in missing if cell and cell not in {*twice, *mangled}]
    if others:
        remarks.append(f"rows without a photograph in {pictures.folder}: {_some(others)}")
    if mangled:
        remarks.append(f"rows whose number a spreadsheet shortened; export that column as text: {_some(mangled)}")
    if twice:
        either = _either(pictures.candidates(twice[0]))
        remarks.append(
            f"rows that name several photographs, such as {either}; choose a folder with images=FOLDER, or name files "
            f"in full: {_some(twice)}"
        )
    if rest := len(pictures.files) - len({file for file in files if file}):
        other = " (the table is of one eye; table=[RIGHT,LEFT] reads those of both)" if table.side else ""
        remarks.append(f"photographs without a row, left out: {rest}{other}")


def _say_strange(strange: _Strange, remarks: list[str]) -> None:
    if strange.empty:
        remarks.append(
            f"rows with some findings empty: {strange.empty}; they count as unread, since a reading is of all findings "
            "(columns.findings=[…] chooses fewer)"
        )
    if strange.cells:
        most = ", ".join(f"{cell} ({count})" for cell, count in strange.cells.most_common(6))
        remarks.append(f"not understood, taken as unknown: {most}")


def _either(files: Sequence[Path]) -> str:
    """Two files that have one name, or are called the same in one folder."""
    first, second = files[:2]
    if first.parent == second.parent:
        return f"{first.name} and {second.name} in {first.parent}"
    return f"{first.name} in {first.parent} and {second.name} in {second.parent}"


def _some(names: Sequence[str]) -> str:
    """ "3: a, b, c" or "20: a, b, c, …"."""
    return f"{len(names)}: {', '.join(names[:3])}" + ", …" * (len(names) > 3)


def _count(readings: pd.DataFrame) -> dict[str, tuple[int, int]]:
    read = readings["image_id"].nunique()
    present = readings[readings["finding"] != ""].groupby("finding")["image_id"].nunique().sort_values(ascending=False)
    return {str(finding): (int(count), read - int(count)) for finding, count in present.items()}


def _grade_counts(images: pd.DataFrame, names: Sequence[str]) -> dict[str, int]:
    return {name: int((images["grade"] == grade).sum()) for grade, name in enumerate(names)}


def _readers(readings: pd.DataFrame) -> int:
    counts = readings.groupby("image_id")["annotator_id"].nunique()
    return int(counts.median()) if len(counts) else 0
