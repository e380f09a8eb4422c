"""Tables such as people have, read as a manifest: odd columns, separators, encodings, and what spreadsheets do."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundusnet.data.intake import words
from fundusnet.data.intake.columns import Columns, understand_columns
from fundusnet.data.intake.joining import read_tables
from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.intake.reading import Understood, read_rows
from fundusnet.errors import UserError


def photographs(root: Path, *names: str) -> Path:
    """Files of these names; reading a table opens none of them."""
    for name in names:
        file = root / "photographs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root / "photographs"


def understood(
    root: Path,
    text: str | bytes,
    columns: Mapping[str, object] | None = None,
    classes: Sequence[str] = (),
    name: str = "labels.csv",
) -> tuple[Understood, Columns]:
    file = root / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    pictures = Photographs(root / "photographs")
    table, found = understand_columns(read_tables([file], pictures), pictures, columns)
    return read_rows(table, found, pictures, classes), found


def cells(read: Understood, *names: str) -> dict[str, tuple[object, ...]]:
    images = read.manifest.images
    return {str(row.image_id): tuple(getattr(row, name) for name in names) for row in images.itertuples()}


def marked(read: Understood) -> dict[str, set[str]]:
    """Image → its findings; images that were not read are not there."""
    readings = read.manifest.readings
    return {str(name): set(rows["finding"]) - {""} for name, rows in readings.groupby("image_id")}


def test_a_wide_table_with_columns_of_its_own(tmp_path: Path) -> None:
    photographs(tmp_path, "IMG_01.jpg", "IMG_02.jpg", "IMG_03.jpg", "IMG_04.jpg")
    read, columns = understood(
        tmp_path,
        "File Name;MRN;Laterality;Age;Haemorrhages;Hard exudates;Gradable;DR severity\n"
        "IMG_01.jpg;7001;OD;61;yes;no;yes;2 - moderate\n"
        "IMG_02.jpg;7001;OS;61;no;no;yes;0 - none\n"
        "IMG_03.jpg;7002;OD;58;no;yes;yes;1 - mild\n",
    )
    assert columns.one == {"image": "File Name", "patient": "MRN", "eye": "Laterality", "grade": "DR severity"}
    assert columns.unused == ("Age", "Gradable")
    assert cells(read, "patient_id", "eye", "grade") == {
        "IMG_01": ("7001", "right", 2),
        "IMG_02": ("7001", "left", 0),
        "IMG_03": ("7002", "right", 1),
    }
    assert marked(read) == {"IMG_01": {"hemorrhage"}, "IMG_02": set(), "IMG_03": {"hard_exudate"}}
    assert read.findings == {"hemorrhage": (1, 2), "hard_exudate": (1, 2)} and read.readers == 1
    assert "photographs without a row, left out: 1" in read.remarks


def test_a_row_for_each_label(tmp_path: Path) -> None:
    photographs(tmp_path, "a.png", "b.png", "c.png")
    read, columns = understood(
        tmp_path,
        "image,reader,lesion,quadrant\na,anna,drusen,macula\na,ben,drusen,Superior-temporal|equator\na,ben,drusen,temporal\n"
        "a,anna,Haemorrhage,supero temporal\nb,anna,normal,\nc,anna,Drusen;cotton wool spots,macula; disc superior\n",
    )
    assert columns.one == {"image": "image", "finding": "lesion", "annotator": "reader", "regions": "quadrant"}
    rows = set(read.manifest.readings.itertuples(index=False, name=None))
    assert rows == {
        ("a", "anna", "drusen", "macula"),
        ("a", "anna", "hemorrhage", "superotemporal"),
        ("a", "ben", "drusen", "superotemporal;temporal"),
        ("b", "anna", "", ""),
        ("c", "anna", "drusen", "disc_superior;macula"),
        ("c", "anna", "cotton_wool_patch", "disc_superior;macula"),
    }
    assert any("region 'equator' (1)" in remark for remark in read.remarks)


def test_a_label_that_is_denied_was_looked_for(tmp_path: Path) -> None:
    photographs(tmp_path, "a.png", "b.png")
    read, _ = understood(tmp_path, "photo,finding,present\na,drusen,1\na,scar,0\nb,drusen,0\nb,scar,0\n")
    assert marked(read) == {"a": {"drusen"}, "b": set()}


def test_a_row_for_both_eyes_of_a_patient(tmp_path: Path) -> None:
    photographs(tmp_path, "1l.jpg", "1r.jpg", "2l.jpg")
    read, columns = understood(
        tmp_path,
        "ID,Sex,Left-Image,Right-Image,Left-Diagnosis,Right-Diagnosis,Diabetes\n"
        "1,F,1l.jpg,1r.jpg,glaucoma,normal fundus,1\n2,M,2l.jpg,,scar,,0\n",
    )
    assert cells(read, "patient_id", "eye") == {"1l": ("1", "left"), "1r": ("1", "right"), "2l": ("2", "left")}
    assert marked(read) == {"1l": {"glaucoma"}, "1r": set(), "2l": {"scar"}}
    assert "Diabetes" in columns.unused  # of the patient: it says nothing of either eye


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiters_and_encodings(tmp_path: Path, delimiter: str, encoding: str) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    text = "Study of 2023: über 60\n\nphoto;eye;fovea x;finding\na;rechts;10,5;normal\nb;links;9;Rötung\n"
    rows = text if delimiter == ";" else text.replace("10,5", "10.5").replace(";", delimiter)
    read, _ = understood(tmp_path, rows.encode(encoding))
    assert cells(read, "eye", "fovea_x") == {"a": ("right", 10.5), "b": ("left", 9.0)}
    assert "rotung" in read.findings


def test_a_quote_that_is_not_closed_is_no_reason_to_lose_rows(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{number}.jpg" for number in range(1, 5)))
    text = 'photo,grade,note\n1,0,\n2,1,"5"" disc, pale"\n3,0,"6" disc\n4,1,\n'
    with pytest.raises(UserError, match=r"labels.csv .*from line 4 on are not clear.*; write a quote .* twice"):
        understood(tmp_path, text)
    read, _ = understood(tmp_path, text.replace('"6"', '6"'))
    assert list(cells(read, "grade")) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "text",
    [
        "photo;grade (0, 1 or 2)\n1;0\n2;1\n3;2\n",
        "Labels, by two readers, of 2020\nphoto;grade\n1;0\n2;1\n3;2\n",
        "photo;grade;eyes, lids, lashes\n1;0;a,b\n2;1;c,d,e,f\n3;2;g\n",
        'photo, grade, "note; or, where there is none; nothing; or a dash"\n1, 0, "a, b"\n2, 1, -\n3, 2, "x;y"\n',
    ],
)
def test_the_delimiter_is_that_of_most_rows(tmp_path: Path, text: str) -> None:
    photographs(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    read, _ = understood(tmp_path, text)
    assert cells(read, "grade") == {"1": (0,), "2": (1,), "3": (2,)}


def test_photographs_are_found_by_what_is_left_of_their_names(tmp_path: Path) -> None:
    folder = photographs(tmp_path, "site A/007.JPG", "site A/12.jpg", "site B/x.y.tif", "scan_3.png", "IM.0012.dcm")
    found = Photographs(folder)
    names = [r"D:\study\Site A\007.jpg", "7", "12.0", "x.y", "/home/x/SCAN_3.jpeg", "IM.0012", "13", "", "2.01704E+16"]
    files = [None if file is None else file.name for file in found.match(names)]
    assert files == ["007.JPG", "007.JPG", "12.jpg", "x.y.tif", "scan_3.png", "IM.0012.dcm", None, None, None]


def test_masks_of_the_same_names_are_not_taken_for_photographs(tmp_path: Path) -> None:
    folder = photographs(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg", "masks/1.png", "masks/2.png")
    found = [file and file.parent.name for file in Photographs(folder).match(["1", "2", "3"])]
    assert found == ["images", "images", "images"]
    # With as many masks as photographs nothing tells them apart, except a folder in the cell.
    photographs(tmp_path, "masks/3.png")
    again = Photographs(folder)
    assert again.match(["1", "2", "3"]) == [None, None, None]
    assert [file and file.parent.name for file in again.match(["masks/1", "images/2"])] == ["masks", "images"]
    with pytest.raises(UserError, match=r"1.jpg in .*images and 1.png in .*masks; choose a folder with images=FOLDER"):
        understood(tmp_path, "id,label\n1,0\n2,1\n3,0\n")


def test_files_of_one_folder_that_a_cell_may_mean(tmp_path: Path) -> None:
    """The one of exactly this name, though names are compared without the case of letters and the suffix."""
    folder = photographs(tmp_path, "x/a.jpg", "x/A.jpg", "x/b.jpg", "x/b.png", "x/C.jpg", "masks/c.jpg")
    names = ["a.jpg", "A.jpg", "x/A", "A.tif", "b.png", "b", "c"]
    found = Photographs(folder).match(names)
    assert [file and file.name for file in found] == ["a.jpg", "A.jpg", "A.jpg", "A.jpg", "b.png", None, "C.jpg"]
    read, _ = understood(tmp_path, "photo,scar\na.jpg,1\nb,0\nA.jpg,0\n")
    assert marked(read) == {"x_a": {"scar"}, "x_A": set()}
    assert any(re.match(r"rows that name several photographs, such as b.jpg and b.png in .*: 1: b", line)
               for line in read.remarks)  # fmt: skip


def test_a_table_whose_rows_all_contradict_each_other_is_refused(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(UserError, match=r"rows differ: 2: a.jpg .*with columns.annotator=NAME .*one row for each"):
        understood(tmp_path, "file,scar\na,1\na,0\nb,0\nb,1\n")


def test_a_column_of_numbers_is_not_taken_for_the_photographs(tmp_path: Path) -> None:
    """RFMiD: photographs 1.png to 9.png, and columns of 0 and 1 whose cells are such names too."""
    photographs(tmp_path, *(f"{number}.png" for number in range(1, 10)))
    rows = "".join(f"{number % 2},{number},{number % 3 % 2},{number // 9}\n" for number in range(1, 10))
    read, columns = understood(tmp_path, f"DR,ID,MH,PT\n{rows}")  # PT: parafoveal telangiectasia, not the patient
    assert columns.one == {"image": "ID"} and columns.findings == ("DR", "MH", "PT")
    assert read.findings == {"dr": (5, 4), "mh": (3, 6), "pt": (1, 8)}


def test_a_table_without_a_header(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    read, columns = understood(tmp_path, "a.jpg,1\nb.jpg,0\n")
    assert columns["image"] == "column 1" and read.findings == {"column_2": (1, 1)}


def test_an_empty_cell_is_no_only_where_the_column_never_says_no(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"p{number}.jpg" for number in range(20)))
    rows = [(f"p{number}", "x" if number < 3 else "", str(number % 2)) for number in range(20)]
    rows[5] = ("p5", "", "")
    rows[6] = ("p6", "", "unknown")
    read, columns = understood(tmp_path, "photo,scar,drusen\n" + "".join(",".join(row) + "\n" for row in rows))
    assert columns.marks == {"scar"}
    assert marked(read)["p0"] == {"scar"} and marked(read)["p1"] == {"scar", "drusen"} and marked(read)["p4"] == set()
    assert not {"p5", "p6"} & set(marked(read)) and {"p5", "p6"} <= set(read.manifest.images["image_id"])
    assert any(remark.startswith("rows with some findings empty: 2") for remark in read.remarks)


def test_repeated_rows_count_once_and_contradictions_are_left_out(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    read, _ = understood(tmp_path, "file,scar\na.jpg,1\nA.JPG,yes\nb.jpg,0\nb.jpg,1\nc.jpg,0\n")
    assert marked(read) == {"a": {"scar"}, "c": set()}
    assert "rows that repeat another one and count once: 1" in read.remarks
    assert "left out, since their rows differ: 1: b.jpg (lines 4, 5)" in read.remarks


@pytest.mark.parametrize(
    ("values", "classes", "names", "grades"),
    [
        (["0", "2", "1"], [], ["0", "1", "2"], [0, 2, 1]),
        (["1.0", "3,0", "2"], [], ["1", "2", "3"], [0, 2, 1]),
        (["Glaucoma", "healthy", "Suspect"], [], ["healthy", "Suspect", "Glaucoma"], [2, 0, 1]),
        (["R0", "R2", "R1"], ["none", "mild", "severe"], ["none", "mild", "severe"], [0, 2, 1]),
        (["C", "A", "B"], ["a", "b", "c"], ["a", "b", "c"], [2, 0, 1]),
    ],
)
def test_grades(tmp_path: Path, values: list[str], classes: list[str], names: list[str], grades: list[int]) -> None:
    photographs(tmp_path, *(f"p{number}.jpg" for number in range(4)))
    rows = "".join(f'p{number},"{value}"\n' for number, value in enumerate([*values, "n/a"]))
    read, _ = understood(tmp_path, f"photo,grade\n{rows}", {"grade": "grade"}, classes)
    assert list(read.manifest.classes) == names and list(read.grades.values()) == [1, 1, 1]
    assert read.manifest.images["grade"].tolist()[:3] == grades and pd.isna(read.manifest.images["grade"].iloc[3])


@pytest.mark.parametrize("missing", ["-1", "\u22121", "-9.0"])
@pytest.mark.parametrize("classes", [(), ("0", "1")])
def test_a_grade_below_zero_is_no_grade(tmp_path: Path, missing: str, classes: tuple[str, ...]) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    read, columns = understood(tmp_path, f"image,grade\na,0\nb,1\nc,{missing}\n", classes=classes)
    assert columns["grade"] == "grade" and read.grades == {"0": 1, "1": 1}
    assert pd.isna(cells(read, "grade")["c"][0])
    assert f"grades below zero ({missing}) count as not graded" in read.remarks


def test_findings_in_other_scripts_keep_their_names(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"p{number}.jpg" for number in range(4)))
    rows = "".join(f"p{number};{number % 2};{int(number > 1)};{int(number < 1)}\n" for number in range(4))
    read, _ = understood(tmp_path, f"image;Друзы (0/1);出血(0/1);출혈 (0/1)\n{rows}")
    assert marked(read)["p3"] == {"друзы_0_1", "出血_0_1"} and marked(read)["p0"] == {"출혈_0_1"}


def test_grades_in_words_of_unknown_order_are_asked_for(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(UserError, match=r"'type' of labels.csv holds red, blue; give the order .* classes=\[LOWEST"):
        understood(tmp_path, "photo,type\na,red\nb,blue\n", {"grade": "type"})


def test_patient_and_eye_from_the_names_of_the_files(tmp_path: Path) -> None:
    photographs(tmp_path, "12_left.jpg", "12_right.jpg", "13_left.jpg")
    text = "photo,scar\n12_left,1\n12_right,0\n13_left,0\n"
    read, _ = understood(tmp_path, text)
    assert cells(read, "patient_id", "eye") == {
        "12_left": ("12", "left"),
        "12_right": ("12", "right"),
        "13_left": ("13", "left"),
    }
    refused, _ = understood(tmp_path, text, {"patient": False})
    assert set(refused.manifest.images["patient_id"]) == {""} and refused.manifest.images["eye"].iloc[0] == "left"
    # Names that merely end like an eye say nothing.
    photographs(tmp_path / "other", "method.jpg", "period.jpg")
    other, _ = understood(tmp_path / "other", "photo,scar\nmethod,1\nperiod,0\n")
    assert set(other.manifest.images["eye"]) == {""}


def test_numbers_that_a_spreadsheet_shortened_are_named(tmp_path: Path) -> None:
    photographs(tmp_path, "20170413102628830.jpg", "20170413111955404.jpg")
    with pytest.raises(UserError, match=r"'id' holds numbers that a spreadsheet shortened, such as 2.01704E\+16"):
        understood(tmp_path, "id,label\n2.01704E+16,0\n2.01704E+16,1\n")


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("photo,scar\nx,1\ny,0\n", {}, r"no column of .* names a photograph in .*: it has photo 'x'"),
        (
            "photo,scar\na,1\n",
            {"patient": "Scar"},
            r"columns.patient: labels.csv has no column 'Scar'; did you mean 's",
        ),
        ("photo,scar\na,1\n", {"image": ["photo", "scar"]}, r"two columns are one for either eye and named alike"),
        ("notes\nwithout a table\n", {}, r"holds no table"),
    ],
)
def test_what_cannot_be_understood(tmp_path: Path, text: str, columns: dict[str, object], message: str) -> None:
    photographs(tmp_path, "a.jpg")
    with pytest.raises(UserError, match=message):
        understood(tmp_path, text, columns)


def test_a_workbook(tmp_path: Path) -> None:
    photographs(tmp_path, "0012.jpg", "0013.jpg")
    table = pd.DataFrame({"Image No": [12, 13, None], "Scar": [True, False, None], "Patient ID": [5.0, 6.0, None]})
    table.to_excel(tmp_path / "labels.xlsx", index=False)
    content = (tmp_path / "labels.xlsx").read_bytes()
    read, _ = understood(tmp_path, content, name="labels.xlsx")
    assert marked(read) == {"0012": {"scar"}, "0013": set()}
    assert cells(read, "patient_id") == {"0012": ("5",), "0013": ("6",)}
    with pytest.raises(UserError, match=r"save the table as CSV or \.xlsx"):
        understood(tmp_path, content, name="labels.xls")


@given(st.text(max_size=20))
def test_words_take_any_cell(cell: str) -> None:
    assert words.eye_of(cell) in ("", "left", "right") and words.yes_or_no(cell) in (True, False, None)
    name = words.finding_name(cell)
    assert name == words.plain(name) or words.plain(name) == ""
    assert words.grade_number(cell) in (None, *range(10))


def test_abbreviations_of_eyes() -> None:
    for cell in ("R", "OD", "o.d.", "right eye (OD)", "Right", "rechts"):
        assert words.eye_of(cell) == "right", cell
    assert (
        words.eye_of("OS") == "left" and words.eye_of("OU") == words.eye_of("both") == words.eye_of("left/right") == ""
    )


def test_a_table_of_patients_and_eyes(tmp_path: Path) -> None:
    """No column names a photograph; patient and eye together do."""
    photographs(tmp_path, "7001_OD.jpg", "7001_OS_1.jpg", "7001_OS_2.jpg", "masks/7001_OD.png", "7002-R.jpg", "8.jpg")
    read, columns = understood(tmp_path, "MRN,Eye,Age,Scar\n7001,OD,61,1\n7001,OS,61,0\n7002,OD,8,1\n7003,OS,5,1\n")
    assert columns["patient"] == "MRN" and columns["eye"] == "Eye"
    assert cells(read, "patient_id", "eye") == {
        "7001_OD": ("7001", "right"),
        "7001_OS_1": ("7001", "left"),
        "7001_OS_2": ("7001", "left"),
        "7002-R": ("7002", "right"),
    }
    assert marked(read) == {"7001_OD": {"scar"}, "7001_OS_1": set(), "7001_OS_2": set(), "7002-R": {"scar"}}
    assert any(remark.endswith(": 1: 7003 left") for remark in read.remarks)
    # A column for either eye says the same.
    wide, _ = understood(tmp_path, "MRN,Scar OD,Scar OS,Sex\n7001,1,0,f\n7002,1,,m\n")
    assert cells(wide, "patient_id", "eye") == cells(read, "patient_id", "eye") and marked(wide) == marked(read)
    one, _ = understood(tmp_path, "MRN,Eye,Scar\n7001,OD,1\n7002,OD,0\n")
    assert marked(one) == {"7001_OD": {"scar"}, "7002-R": set()}
    # The name of the file may say which eye a table is of; otherwise nothing does.
    right, _ = understood(tmp_path, "MRN,Scar\n7001,1\n7002,0\n", name="right_eyes.csv")
    assert marked(right) == {"7001_OD": {"scar"}, "7002-R": set()}
    with pytest.raises(
        UserError, match=r"'MRN' of labels.csv names the patients of .* 7001_OD.jpg, and no column says"
    ):
        understood(tmp_path, "MRN,Scar\n7001,1\n7002,1\n")


def test_numbers_of_patients_in_names_of_files(tmp_path: Path) -> None:
    photographs(tmp_path, "RET002OD.jpg", "RET002OS.jpg", "RET010OD.jpg", "A_3_L.jpg", "B_3_L.jpg")
    read, _ = understood(tmp_path, "ID,eye,scar\n#002,OD,1\n#002,OS,0\n10,OD,0\n3,OS,1\n")
    assert marked(read) == {"RET002OD": {"scar"}, "RET002OS": set(), "RET010OD": set()}  # 3 may be A_3 or B_3


def test_the_header_of_papila(tmp_path: Path) -> None:
    """Two rows of names, and a third with the name of the first column alone."""
    photographs(tmp_path, "RET002OD.jpg", "RET004OD.jpg", "RET005OD.jpg")
    read, columns = understood(
        tmp_path,
        ",Age,Diagnosis,IOP,,VF_MD\n,Age,Diagnosis,Pneumatic,Perkins,VF_MD\nID,,,,,\n"
        "#002,47,2,21,,-0.07\n#004,58,1,,19,-3.26\n#005,89,0,13,14,-15\n",
        name="patient_data_od.csv",
    )
    assert columns["patient"] == "ID" and columns["grade"] == "Diagnosis"
    assert columns.unused == ("Age", "IOP Pneumatic", "Perkins", "VF_MD")
    assert cells(read, "patient_id", "grade") == {
        "RET002OD": ("#002", 2),
        "RET004OD": ("#004", 1),
        "RET005OD": ("#005", 0),
    }


def test_a_row_of_data_below_a_column_without_a_name_is_not_taken_for_a_header(tmp_path: Path) -> None:
    photographs(tmp_path, "b.jpg")
    read, columns = understood(tmp_path, ",image,label\nx,a.jpg,scar\ny,b.jpg,drusen\n")
    assert columns["image"] == "image" and marked(read) == {"b": {"drusen"}}


def test_columns_of_readers(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    text = "photo,Drusen (Reader 1),Drusen (Reader 2),Scar (Reader 1),Scar (Reader 2)\na,1,1,0,1\nb,0,0,1,0\nc,1,,0,\n"
    read, columns = understood(tmp_path, text)
    assert columns.findings == ("drusen", "scar") and read.readers == 2
    assert set(read.manifest.readings.itertuples(index=False, name=None)) == {
        ("a", "reader_1", "drusen", ""),
        ("a", "reader_2", "drusen", ""),
        ("a", "reader_2", "scar", ""),
        ("b", "reader_1", "scar", ""),
        ("b", "reader_2", "", ""),
        ("c", "reader_1", "drusen", ""),
    }
    # What they agreed on takes precedence over what each said.
    agreed, columns = understood(tmp_path, "photo,drusen,drusen_reader1,drusen_reader2\na,1,1,0\nb,0,0,0\nc,1,1,1\n")
    assert columns.findings == ("drusen",) and agreed.findings == {"drusen": (2, 1)}


def test_grades_of_readers_count_where_they_agree(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    read, _ = understood(tmp_path, "photo,grader1,grader2\na,0,1\nb,2,2\nc,1,\n")
    assert read.manifest.images["grade"].fillna(-1).tolist() == [-1, 2, 1]
    assert any(remark.startswith("left ungraded") and "a.jpg" in remark for remark in read.remarks)


def test_grades_in_columns_called_r1_and_r2_are_not_taken_for_readers(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    _, columns = understood(tmp_path, "photo,R1,R2\na,0,1\nb,1,0\n")
    assert columns.findings == ("R1", "R2") and "annotator" not in columns.one


def test_how_much_there_is_of_a_finding(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    text = "photo,scar,drusen,MA_count\na,none,severe,12\nb,mild,none,0\nc,moderate,few,3\n"
    guessed, columns = understood(tmp_path, text)
    assert columns.findings == ("scar", "drusen") and columns.unused == ("MA_count",)
    assert marked(guessed) == {"a": {"drusen"}, "b": {"scar"}, "c": {"scar", "drusen"}}
    counted, _ = understood(tmp_path, text, {"findings": ["MA_count"]})
    assert marked(counted) == {"a": {"ma_count"}, "b": set(), "c": {"ma_count"}}


def test_a_german_table(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{number}.jpg" for number in range(1, 5)))
    read, columns = understood(
        tmp_path,
        "\ufeffBilddatei;Patientennummer;Auge;Befund;Untersucher;DRP-Stadium\n1.jpg;7;RA;o. B.;ab;keine\n"
        "2.jpg;7;LA;Blutung + Drusen;ab;mäßig\n3.jpg;8;RA;unauffällig;ab;leicht\n4.jpg;9;LA;Blutung;ab;schwer\n",
    )
    assert columns.one == {
        "image": "Bilddatei",
        "patient": "Patientennummer",
        "eye": "Auge",
        "grade": "DRP-Stadium",
        "finding": "Befund",
        "annotator": "Untersucher",
    }
    assert cells(read, "patient_id", "eye", "grade") == {
        "1": ("7", "right", 0),
        "2": ("7", "left", 2),
        "3": ("8", "right", 1),
        "4": ("9", "left", 3),
    }
    assert marked(read) == {"1": set(), "2": {"blutung", "drusen"}, "3": set(), "4": {"blutung"}}


@pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_as_one_sign_or_two(tmp_path: Path, table: Literal["NFC", "NFD"], disk: Literal["NFC", "NFD"]) -> None:
    photographs(tmp_path, unicodedata.normalize(disk, "Müller/Größe 1.JPG"))
    text = unicodedata.normalize(table, "photo,scar\nmüller\\größe  1,1\n")
    assert len(understood(tmp_path, text)[0].manifest.images) == 1


def test_a_list_separated_by_spaces(tmp_path: Path) -> None:
    """DDR: train.txt has a file and a grade on each line."""
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    read, _ = understood(tmp_path, "a.jpg 0\nb.jpg 3\n\nc.jpg 1\n", name="train.txt")
    assert cells(read, "grade") == {"a": (0,), "b": (2,), "c": (1,)}


def test_the_sheet_that_names_photographs_is_read(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    with pd.ExcelWriter(tmp_path / "book.xlsx") as book:
        pd.DataFrame({"Patient": [1, 2], "Age": [50, 60]}).to_excel(book, sheet_name="Patients", index=False)
        pd.DataFrame({"File": ["a", "b"], "Scar": ["yes", "no"]}).to_excel(book, sheet_name="Labels", index=False)
    pictures = Photographs(tmp_path / "photographs")
    table, columns = understand_columns(read_tables([tmp_path / "book.xlsx"], pictures), pictures)
    assert table.sheet == "Labels" and columns.one == {"image": "File"} and columns.findings == ("Scar",)


def test_a_workbook_without_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path, "a.jpg")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        UserError, match=r"labels.xlsx is an Excel file: pip install 'fundusnet\[sets\]' brings"
    ) as error:
        understood(tmp_path, b"PK", name="labels.xlsx")
    assert "\n" not in str(error.value)


def test_what_looks_like_grades_in_an_unknown_order_is_said(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    text = "photo,Stage\na,red\nb,amber\nc,green\n"
    read, columns = understood(tmp_path, text)
    assert columns.unordered == "Stage" and read.grades == {}
    assert any(
        "may hold grades, red, amber, green; to use it say columns.grade='Stage'" in each for each in read.remarks
    )
    ordered, _ = understood(tmp_path, text, {"grade": "Stage"}, ["green", "amber", "red"])
    assert ordered.grades == {"green": 1, "amber": 1, "red": 1}
