"""The manifest: a list of photographs, their patients, and what is known of each.

A manifest is a folder of up to three tables (``images.csv``, ``readings.csv``, ``lesions.csv``). Every source
produces one, the annotation page exports one, and a user can write one with a spreadsheet. So everything in it is
checked, and errors name file and line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from fundusnet.data.delimiters import number_from, read_cells
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError

COORDINATES = ("disc_x", "disc_y", "fovea_x", "fovea_y")
IMAGE_COLUMNS = ("image_id", "path", "patient_id", "eye", "split", *COORDINATES, "grade")
# What a prepared set knows besides: where its points come from, and prepared pixels per original pixel.
ORIGIN_COLUMNS = ("disc_origin", "fovea_origin")
FRAME_COLUMNS = (*ORIGIN_COLUMNS, "scale")
# When the photograph was taken, where somebody knows it: an ISO date or a number, of which only the order counts.
VISIT = "visit"
READING_COLUMNS = ("image_id", "annotator_id", "finding", "regions")
# Of a reading that leaves findings open: their names, joined by ";". All others that it does not name are absent.
UNANSWERED = "unanswered"
LESION_COLUMNS = ("image_id", "finding", "path")
EYES = ("left", "right", "")
SPLITS = ("train", "val", "test")


def empty_table(columns: tuple[str, ...]) -> pd.DataFrame:
    """A table of text columns without rows."""
    return pd.DataFrame({name: pd.Series(dtype=str) for name in columns})


@dataclass(frozen=True)
class Manifest:
    """Tables of photographs, readings and lesion masks.

    Attributes:
        root: Folder that the ``path`` cells are relative to.
        images: One row per photograph (``IMAGE_COLUMNS``, and ``visit`` if the table has it); text unknown = "",
            numbers unknown = NaN; coordinates in the original frame (``fundusnet.data.crop``), in a prepared set in the
            prepared frame. A prepared set has ``FRAME_COLUMNS`` too: the origin of each point (``given``, ``localised``
            or another word of its source; "" = unknown point), and the scale of the frame.
        readings: One row per annotator and finding (``READING_COLUMNS``, and ``unanswered`` if the table has it);
            ``finding`` "" = a normal reading.
        lesions: One row per examined finding (``LESION_COLUMNS``); masks in the frame of the coordinates; ``path`` "" =
            examined and absent.
        classes: Names of the grades 0 … K-1, empty where nothing is graded.
        lesion_above: Grey level that lesions exceed in the mask files; above 0 only if a source's masks count experts.
    """

    root: Path
    images: pd.DataFrame
    readings: pd.DataFrame = field(default_factory=lambda: empty_table(READING_COLUMNS))
    lesions: pd.DataFrame = field(default_factory=lambda: empty_table(LESION_COLUMNS))
    classes: tuple[str, ...] = ()
    lesion_above: int = 0


def read_manifest(folder: Path | str, classes: tuple[str, ...] = ()) -> Manifest:
    """Read and check the manifest in ``folder``; whitespace around cells and empty rows are dropped.

    Raises:
        UserError: A table is missing or unreadable, or a column or cell is wrong; names file and line.
    """
    root = Path(folder)
    images = _read_table(
        root / "images.csv", IMAGE_COLUMNS, required=("image_id", "path"), optional=(VISIT, *FRAME_COLUMNS)
    )
    _check_images(images, root / "images.csv")
    for name in (*COORDINATES, "grade", *(each for each in ("scale",) if each in images)):
        images[name] = _parse_numbers(images[name], root / "images.csv", name)
    _check_grades(images["grade"], classes, root / "images.csv")

    readings, lesions = empty_table(READING_COLUMNS), empty_table(LESION_COLUMNS)
    known = set(images["image_id"])
    if (file := root / "readings.csv").exists():
        readings = _read_table(file, READING_COLUMNS, required=READING_COLUMNS, optional=(UNANSWERED,))
        _check_known(readings["image_id"], known, file)
        readings["regions"] = _clean_regions(readings["regions"], file)
    if (file := root / "lesions.csv").exists():
        lesions = _read_table(file, LESION_COLUMNS, required=LESION_COLUMNS)
        _check_known(lesions["image_id"], known, file)
        _check_paths(lesions["path"], file)
    images, readings, lesions = (table.reset_index(drop=True) for table in (images, readings, lesions))
    return Manifest(root, images, readings, lesions, tuple(classes))


def write_manifest(manifest: Manifest, folder: Path | str) -> None:
    """Write the tables to ``folder`` (created if missing); readings and lesions without rows are left out."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    columns = [*IMAGE_COLUMNS, *(name for name in (VISIT, *FRAME_COLUMNS) if name in manifest.images)]
    images = manifest.images[columns].copy()
    images["grade"] = images["grade"].astype("Int64")
    if "scale" in images:  # three decimals are not enough for it
        images["scale"] = images["scale"].map("{:.6g}".format)
    images.to_csv(target / "images.csv", index=False, float_format="%.3f")
    rows = (
        ("readings.csv", manifest.readings, reading_columns(manifest.readings)),
        ("lesions.csv", manifest.lesions, LESION_COLUMNS),
    )
    for name, table, table_columns in rows:
        (target / name).unlink(missing_ok=True)  # rows of an earlier manifest must not remain
        if len(table):
            table[list(table_columns)].to_csv(target / name, index=False)


def reading_columns(readings: pd.DataFrame) -> tuple[str, ...]:
    """``READING_COLUMNS``, and ``unanswered`` if the table has it."""
    return (*READING_COLUMNS, *((UNANSWERED,) if UNANSWERED in readings else ()))


def images_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """The images table from one dict per photograph; missing cells are unknown."""
    known = (VISIT,) if any(row.get(VISIT) for row in rows) else ()
    table = pd.DataFrame(rows).reindex(columns=[*IMAGE_COLUMNS, *known])
    for name in ("image_id", "path", "patient_id", "eye", "split", *known):
        table[name] = table[name].astype(object).fillna("").astype(str)
    for name in (*COORDINATES, "grade"):
        table[name] = table[name].astype(float)
    return table


def _read_table(
    file: Path, columns: tuple[str, ...], required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pd.DataFrame:
    """The cells of ``columns``, and of those ``optional`` ones that the file has, as text."""
    if not file.is_file():
        raise UserError(
            f"{file} is missing: a manifest is a folder with images.csv (columns {', '.join(IMAGE_COLUMNS)})"
        )
    rows, lines = [], []
    found = read_cells(file)
    header = next(found, (0, []))[1]
    _check_header(header, required, file)
    for line, cells in found:
        if any(cells[len(header) :]):
            raise UserError(
                f"{file}, line {line}: {len(cells)} cells under {len(header)} columns; "
                "put a cell that holds a comma in double quotes"
            )
        if any(cells):  # spreadsheets export empty rows below the table
            rows.append(dict(zip(header, cells, strict=False)))
            lines.append(line)
    kept = [*columns, *(name for name in optional if name in header)]
    table = pd.DataFrame(rows, index=lines, columns=kept, dtype=str)
    return table.fillna("")


def _check_header(header: list[str], required: tuple[str, ...], file: Path) -> None:
    for name in required:
        if name not in header:
            raise UserError(f"{file}: column '{name}' is missing; it has {', '.join(filter(None, header)) or 'none'}")
        if header.count(name) > 1:
            raise UserError(f"{file}: column '{name}' occurs twice; remove one")


def _numbered_cells(column: pd.Series) -> list[tuple[int, str]]:
    """Cells with their line in the file (the header is line 1): the index, while a table is checked."""
    return [(int(line), str(cell)) for line, cell in zip(column.index, column, strict=True)]


def _check_images(images: pd.DataFrame, file: Path) -> None:
    seen: dict[str, int] = {}
    for line, image_id in _numbered_cells(images["image_id"]):
        if not image_id:
            raise UserError(f"{file}, line {line}: image_id is empty; every photograph needs its own")
        if "/" in image_id or "\\" in image_id or image_id.startswith("."):
            raise UserError(f"{file}, line {line}: image_id '{image_id}' must not hold a slash or begin with a dot")
        if image_id in seen:
            raise UserError(f"{file}, line {line}: image_id '{image_id}' is on line {seen[image_id]} already")
        seen[image_id] = line
    for line, path in _numbered_cells(images["path"]):
        if not path:
            raise UserError(f"{file}, line {line}: path is empty; give the photograph's file relative to {file.parent}")
    _check_paths(images["path"], file)
    for name, allowed in (("eye", EYES), ("split", (*SPLITS, ""))):
        for line, cell in _numbered_cells(images[name]):
            if cell not in allowed:
                words = ", ".join(word for word in allowed if word)
                raise UserError(f"{file}, line {line}: {name} '{cell}' is not one of {words} (empty = unknown)")


def _check_paths(column: pd.Series, file: Path) -> None:
    for line, cell in _numbered_cells(column):
        # Both conventions, wherever it is read: a table made on Windows may be used on Linux and the reverse.
        windows, posix = PureWindowsPath(cell), PurePosixPath(cell)
        if windows.anchor or posix.is_absolute() or ".." in windows.parts or ".." in posix.parts:
            raise UserError(
                f"{file}, line {line}: path '{cell}' is outside the folder; paths are relative to {file.parent}"
            )


def _clean_regions(column: pd.Series, file: Path) -> pd.Series:
    """Region names joined by ``;``, without whitespace and empty names between them."""
    joined = []
    for line, cell in _numbered_cells(column):
        names = [part.strip() for part in cell.split(";") if part.strip()]
        for name in names:
            if name not in REGIONS.values():
                known = ", ".join(REGIONS.values())
                raise UserError(f"{file}, line {line}: unknown region '{name}'; use {known}")
        joined.append(";".join(names))
    return pd.Series(joined, index=column.index, dtype=str)


def _check_known(column: pd.Series, known: set[str], file: Path) -> None:
    for line, image_id in _numbered_cells(column):
        if image_id not in known:
            raise UserError(f"{file}, line {line}: image_id '{image_id}' is not in images.csv; add it or remove this")


def _check_grades(grades: pd.Series, classes: tuple[str, ...], file: Path) -> None:
    for line, grade in grades.items():
        if np.isnan(grade):
            continue
        if grade < 0 or grade != int(grade) or (classes and grade >= len(classes)):
            top = f"0 to {len(classes) - 1} ({', '.join(classes)})" if classes else "0, 1, 2 …"
            raise UserError(f"{file}, line {line}: grade {grade:g} is not one of {top}")


def _parse_numbers(column: pd.Series, file: Path, name: str) -> pd.Series:
    values = []
    for line, cell in _numbered_cells(column):
        try:
            value = number_from(cell) if cell else float("nan")
        except ValueError:
            raise UserError(f"{file}, line {line}: {name} '{cell}' is not a number") from None
        if cell and not np.isfinite(value):
            raise UserError(f"{file}, line {line}: {name} '{cell}' is not a finite number; leave it empty if unknown")
        values.append(value)
    return pd.Series(values, index=column.index, dtype=float)
