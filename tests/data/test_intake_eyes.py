"""Both eyes of a patient, and when they were photographed, where tables say it in other ways than a column of ids."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest

from fundusnet.data.fellow_eyes import patients_of
from fundusnet.data.intake.columns import Columns, understand_columns
from fundusnet.data.intake.joining import read_tables
from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.intake.reading import Understood, read_rows
from fundusnet.data.intake.visits import visits_of
from fundusnet.errors import UserError


def read(root: Path, *files: Path, **columns: object) -> tuple[Understood, Columns]:
    pictures = Photographs(root)
    table, found = understand_columns(read_tables(files, pictures), pictures, columns)
    return read_rows(table, found, pictures), found


def photographs(root: Path, *names: str) -> None:
    for name in names:
        (root / name).touch()


def written(root: Path, name: str, text: str) -> Path:
    file = root / name
    file.write_text(text)
    return file


def of(understood: Understood, column: str) -> dict[str, str]:
    images = understood.manifest.images
    return dict(zip(images["image_id"], images[column], strict=True))


@pytest.mark.parametrize(
    ("cells", "dates"),
    [
        (["20240131", "20230228", ""], ["2024-01-31", "2023-02-28"]),  # DICOM's StudyDate
        (["20240131102200", "20240131 102200.5"], ["2024-01-31", "2024-01-31"]),
        (["2024-01-31 00:00:00", "2024-02-01T09:30:00Z"], ["2024-01-31", "2024-02-01"]),  # a spreadsheet's cells
        (["1.2.2024", "01.02.24 9:05", "31.12.98"], ["2024-02-01", "2024-02-01", "1998-12-31"]),
        (["03/04/2024", "31/03/2024"], ["2024-04-03", "2024-03-31"]),
        (["03/04/2024", "03/31/2024"], ["2024-03-04", "2024-03-31"]),
        (["31-Jan-2024", "5. März 2020", "Oct 3, 2019"], ["2024-01-31", "2020-03-05", "2019-10-03"]),
        (["Visit 2", "visit 10", "baseline"], ["2", "10", "0"]),
        (["1", "2.0"], ["1", "2"]),
    ],
)
def test_when_a_photograph_was_taken(cells: list[str], dates: list[str]) -> None:
    visits = visits_of(cells)
    assert visits is not None and [visits[cell] for cell in cells if cell] == dates


@pytest.mark.parametrize(
    "cells",
    [
        ["03/04/2024", "05/06/2024"],  # April or March?
        ["13/04/2024", "04/13/2024"],  # both
        ["20241301", "30.02.2024"],  # no such days
        ["2 weeks", "2 months"],
        ["left", "right"],
        [""],
    ],
)
def test_what_says_no_date(cells: list[str]) -> None:
    assert visits_of(cells) is None


def test_a_slip_among_many_dates_is_left_out() -> None:
    days = [f"2024-01-{day:02d}" for day in range(1, 31)]
    assert visits_of([*days, "soon"]) == {day: day for day in days}


def test_the_visit_is_the_day_of_the_photograph_and_no_other(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    head = "Image;Date of birth;Report date;StudyDate;Scar"
    file = written(
        tmp_path, "t.csv", f"{head}\na;1950-01-01;2024-03-01;20240131;1\nb;1950-01-01;2024-03-01;20230131;0\n"
    )
    understood, columns = read(tmp_path, file)
    assert columns["visit"] == "StudyDate" and of(understood, "visit") == {"a": "2024-01-31", "b": "2023-01-31"}
    none, columns = read(tmp_path, file, visit=False)
    assert columns["visit"] is None and "visit" not in none.manifest.images


@pytest.mark.parametrize("head", ["Harte Exsudate", "Exudate", "Update"])
def test_a_finding_that_ends_with_date_is_no_visit(tmp_path: Path, head: str) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    understood, columns = read(tmp_path, written(tmp_path, "t.csv", f"Bild;{head};Blutungen\na;1;ja\nb;0;nein\n"))
    assert columns["visit"] is None and "visit" not in understood.manifest.images
    assert columns.findings == (head, "Blutungen")


def test_visits_are_numbered_by_name_only(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    _, columns = read(tmp_path, written(tmp_path, "t.csv", "image,patient,Visit,scar\na,p,1,1\nb,p,2,0\n"))
    assert columns["visit"] == "Visit"


def test_dates_that_may_be_read_in_two_ways_are_left_out_and_said(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    understood, _ = read(tmp_path, written(tmp_path, "t.csv", "image,date,scar\na,03/04/2024,1\nb,05/06/2024,0\n"))
    assert "visit" not in understood.manifest.images
    assert any("whether day or month is first in 'date', such as 03/04/2024" in each for each in understood.remarks)


@pytest.mark.parametrize("suffix", ["", ".JPG"])
def test_fellow_eyes_are_one_patient(tmp_path: Path, suffix: str) -> None:
    """As JustRAIGS names them: it is enough that one of the two names the other."""
    photographs(tmp_path, "T1.JPG", "T2.JPG", "T3.JPG", "T4.JPG")
    rows = [("T1", ""), ("T2", f"T1{suffix}"), ("T3", "T9"), ("T4", "")]
    text = "".join(f"{eye}{suffix};{fellow};{n % 2}\n" for n, (eye, fellow) in enumerate(rows))
    file = written(tmp_path, "t.csv", f"Eye ID;Fellow Eye ID;Scar\n{text}")
    understood, columns = read(tmp_path, file)
    assert columns["fellow"] == "Fellow Eye ID"
    assert of(understood, "patient_id") == {"T1": "T1", "T2": "T1", "T3": "T3", "T4": "T4"}
    named = written(tmp_path, "n.csv", "Patient;Eye ID;Fellow Eye ID;Scar\np;T1;T2;0\nq;T2;T1;1\n")
    assert of(read(tmp_path, named)[0], "patient_id") == {"T1": "p", "T2": "q"}  # the table's own word counts


def test_eyes_that_refer_to_each_other_in_a_chain_are_one_patient() -> None:
    eyes, fellows = ["a", "b", "c", "d"], ["", "c", "a", "gone"]
    assert patients_of(eyes, fellows) == {"a": "a", "b": "a", "c": "a", "d": "d"}


RIGHT, LEFT = "ID,Scar\n1,1\n2,0\n", "ID,Scar\n1,0\n2,1\n"


def test_a_table_for_either_eye(tmp_path: Path) -> None:
    """As PAPILA has them: without its other table an eye is left out, and that is said."""
    photographs(tmp_path, "1_OD.jpg", "1_OS.jpg", "2_OD.jpg", "2_OS.jpg")
    od, os = written(tmp_path, "data_od.csv", RIGHT), written(tmp_path, "data_os.csv", LEFT)
    one, _ = read(tmp_path, od)
    assert set(of(one, "eye").values()) == {"right"}
    assert any("left out: 2 (the table is of one eye; table=[RIGHT,LEFT]" in remark for remark in one.remarks)
    both, _ = read(tmp_path, od, os)
    assert of(both, "eye") == {"1_OD": "right", "1_OS": "left", "2_OD": "right", "2_OS": "left"}
    assert of(both, "patient_id") == {"1_OD": "1", "1_OS": "1", "2_OD": "2", "2_OS": "2"}
    seen = both.manifest.readings
    assert sorted(seen.loc[seen["finding"] == "scar", "image_id"]) == ["1_OD", "2_OS"]
    with pytest.raises(UserError, match=r"same columns: data_od.csv has ID, Scar; other.csv has ID, Age; give one"):
        read(tmp_path, od, written(tmp_path, "other.csv", "ID,Age\n1,2\n"))


def test_a_sheet_for_either_eye(tmp_path: Path) -> None:
    photographs(tmp_path, "1_OD.jpg", "1_OS.jpg", "2_OD.jpg", "2_OS.jpg")
    book = openpyxl.Workbook()
    for name, text in (("OD", RIGHT), ("OS", LEFT), ("notes", "who,when\nme,now\n")):
        sheet = book.create_sheet(name)
        for line in text.split():
            sheet.append([int(cell) if cell.isdigit() else cell for cell in line.split(",")])
    book.save(tmp_path / "labels.xlsx")
    understood, _ = read(tmp_path, tmp_path / "labels.xlsx")
    assert of(understood, "eye") == {"1_OD": "right", "1_OS": "left", "2_OD": "right", "2_OS": "left"}


def test_tables_of_two_years_are_read_as_one(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    old = written(tmp_path, "2023.csv", "image,scar\na,1\nb,0\n")
    new = written(tmp_path, "2024.csv", "image,scar\nb,1\nc,0\n")
    understood, _ = read(tmp_path, old, new)
    assert set(of(understood, "path")) == {"a", "c"}
    assert "left out, since their rows differ: 1: b.jpg (lines 2023.csv 3, 2024.csv 2)" in understood.remarks


def test_a_spanish_table(tmp_path: Path) -> None:
    photographs(tmp_path, "1.jpg", "2.jpg")
    head = "Nº Historia Clínica;Fecha de nacimiento;Fecha estudio;Imagen OD;Imagen OI;Grado RD OD;Grado RD OI"
    understood, columns = read(
        tmp_path,
        written(
            tmp_path, "t.csv", f"{head};Edema OD;Edema OI\n77;01/02/1950;31/01/2024;1;2;0 - sin RD;1 - leve;no;sí\n"
        ),
    )
    assert columns["patient"] == "Nº Historia Clínica" and columns["visit"] == "Fecha estudio"
    assert of(understood, "eye") == {"1": "right", "2": "left"} and understood.grades == {"0": 1, "1": 1}
    assert understood.findings == {"edema": (1, 1)} and of(understood, "visit")["2"] == "2024-01-31"
