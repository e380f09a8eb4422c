"""Which photographs the rows of a table are about, and by which columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fundusnet.data.intake import words
from fundusnet.data.intake.photographs import Photographs, is_mangled, patient_and_eye
from fundusnet.data.intake.shapes import (
    EYE,
    EYE_OF_FILE,
    PHOTOGRAPH,
    has_columns_of_eyes,
    one_row_a_photograph,
    one_row_an_eye,
)
from fundusnet.data.intake.table import Table
from fundusnet.data.sources import listing
from fundusnet.errors import UserError

_IMAGE = re.compile(r"image|photo|picture|file|path|fundus|img|bild|scan|eye_id|datei|aufnahme|foto|fichier|archivo")
PATIENT = re.compile(
    r"(?:patient(?:en|e)?|subject|participant|person|proband(?:en)?|case|pat|pt|fall|paciente|paziente)"
    r"(?:_?(?:id|no|nr|num|number|nummer|code|key|kennung|identifier|name))?|pid|mrn|uhid|hn|record_id|nhs_(?:no|number)"
    r"|(?:medical_record|hospital|chart)_(?:no|nr|number|id)|(?:(?:no|n_o|num|numero|nro|n)_)?(?:de_)?historia(?:_clinica)?|nhc"
)
IDS = ("id", "no", "nr")  # of the patient where a row is
_EYE = re.compile(r"eye|laterality|side|auge|seite|od_os|ojo|lado|lateralidad")
SAMPLE = 2000  # rows that are tried for the column of photographs


def choose_sheet(tables: Sequence[Table], pictures: Photographs) -> tuple[Table, dict[str, int]]:
    """The sheet that names most photographs, or patients of them, and how many each of its columns names."""
    counted = [(table, _counts(table, pictures)) for table in tables]
    return max(
        counted,
        key=lambda each: (max(each[1].values()), len(tables) > 1 and _patient_column(each[0], pictures, {})[1]),
    )


def rows_of_photographs(
    table: Table, counts: Mapping[str, int], pictures: Photographs, named: Mapping[str, Sequence[str]]
) -> tuple[Table, dict[str, str], set[str]]:
    """The table with a row for each photograph, the roles that this settles, and the columns of both eyes.

    Photographs are named by a column, by one for either eye, or by columns of patient and eye.

    Args:
        table: As it was read.
        counts: Column → how many photographs it names.
        pictures: The photographs.
        named: Role → columns that the user gave.

    Returns:
        The table; role → column; the columns that say nothing of either eye, where rows are of both.

    Raises:
        UserError: No photograph is named, or two columns are not those of either eye.
    """
    images = named.get("image") or _images(table, counts, _patient_column(table, pictures, named)[1])
    if len(images) > 1:
        _check_sides(images)
        table = one_row_an_eye(table, images)
        shared = {name for name in table.columns if name not in table.origins}
        return table, {"image": words.side_in(images[0])[1], "eye": EYE}, shared
    if images:
        return table, {"image": images[0]}, set()
    return _by_patient(table, pictures, named)


def eye_column(table: Table, names: Sequence[str]) -> str | None:
    """The column of ``names`` whose cells are eyes, nearly all of them; always the same only if its name says so."""
    for name in names:
        cells = [cell for cell in table.column(name) if not words.is_unknown(cell)]
        differs = len(set(cells)) > 1 or _EYE.search(words.plain(name))
        if cells and differs and sum(bool(words.eye_of(cell)) for cell in cells) >= 0.95 * len(cells):
            return name
    return None


def _by_patient(
    table: Table, pictures: Photographs, named: Mapping[str, Sequence[str]]
) -> tuple[Table, dict[str, str], set[str]]:
    """A table of patients with a row for each photograph; returns the same as ``rows_of_photographs``."""
    patient, _ = _patient_column(table, pictures, named)
    if patient is None:
        raise _no_photograph(table, pictures)
    others = [name for name in table.columns if name != patient]
    eye = next(iter(named.get("eye", ())), None) or eye_column(table, others)
    shared: set[str] = set()
    side = ""
    if eye is None and has_columns_of_eyes(table):
        table = one_row_an_eye(table)
        shared, eye = {name for name in table.columns if name not in table.origins}, EYE
    elif eye is None and not (side := table.side):
        example = next(file for file in pictures.files if patient_and_eye(file.stem))
        raise UserError(
            f"column '{patient}' of {table.file.name} names the patients of photographs such as {example.name}, and no "
            "column says which eye a row is of; add one, such as eye with OD or OS"
        )
    table = one_row_a_photograph(table, pictures, patient, eye, side)
    return table, {"image": PHOTOGRAPH, "patient": patient, "eye": eye or EYE_OF_FILE}, shared


def _patient_column(table: Table, pictures: Photographs, named: Mapping[str, Sequence[str]]) -> tuple[str | None, int]:
    """The column whose cells name patients in the names of photographs, None without; and how many it names."""
    counts = {
        name: sum(map(pictures.is_patient, set(table.column(name))))
        for name in named.get("patient") or table.columns
        if named.get("patient") or PATIENT.fullmatch(words.plain(name)) or words.plain(name) in IDS
    }
    best = max(counts, key=lambda name: counts[name], default=None)
    return (best, counts[best]) if best is not None and counts[best] else (None, 0)


def _images(table: Table, counts: Mapping[str, int], patients: int) -> list[str]:
    """The column whose cells name most photographs, or two of them for left and right.

    None if no cell does, or fewer than there are patients of photographs: an age may be the name of a file, 61.jpg.
    """
    best = max(table.columns, key=lambda name: (counts[name], bool(_IMAGE.search(words.plain(name)))))
    if counts[best] <= (patients if patients > 1 and not _IMAGE.search(words.plain(best)) else 0):
        return []
    side, rest = words.side_in(best)
    if side:
        for name in table.columns:
            if counts[name] and words.side_in(name)[1] == rest and words.side_in(name)[0] not in ("", side):
                return sorted((best, name), key=table.columns.index)
    return [best]


def _counts(table: Table, pictures: Photographs) -> dict[str, int]:
    """How many photographs the cells of each column name, in a sample of a long table."""
    step = max(1, len(table.rows) // SAMPLE)
    counts: dict[str, int] = {}
    for rows in (table.rows[::step], table.rows) if step > 1 else (table.rows,):
        counts = {
            name: len({file for row in rows for file in pictures.candidates(row[at])})
            for at, name in enumerate(table.columns)
        }
        if any(counts.values()):
            break
    return counts


def _check_sides(images: Sequence[str]) -> None:
    sides = {words.side_in(name)[0] for name in images}
    rests = {words.side_in(name)[1] for name in images}
    if len(images) != 2 or sides != {"left", "right"} or len(rests) != 1:
        raise UserError(
            f"columns.image={list(images)}: two columns are one for either eye and named alike, such as left_image and "
            "right_image; give one column"
        )


def _no_photograph(table: Table, pictures: Photographs) -> UserError:
    if not pictures.files:
        return UserError(f"images={pictures.folder}: no photograph in it, found {listing(pictures.folder)}")
    cells = {name: next(filter(None, table.column(name)), "") for name in table.columns}
    likely = [name for name in cells if _IMAGE.search(words.plain(name))] or list(table.columns)[:3]
    examples = ", ".join(f"{name} '{cells[name]}'" for name in likely[:3])
    mangled = next((name for name in table.columns if any(map(is_mangled, table.column(name)))), None)
    if mangled:
        return UserError(
            f"table={table.file}: column '{mangled}' holds numbers that a spreadsheet shortened, such as "
            f"{next(filter(is_mangled, table.column(mangled)))}; export the table again with that column as text"
        )
    return UserError(
        f"no column of {table.file} names a photograph in {pictures.folder}: it has {examples}, and the folder "
        f"{pictures.files[0].name}; choose the folder with images=FOLDER, or the column with columns.image=NAME"
    )
