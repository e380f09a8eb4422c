"""Tables as public sets write them: spellings, notes above the header, marks, and errors of wrong cells."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path

import pytest
from layouts import sheet, text, touch

from fundusnet.data.sources.tables import by_stem, find_table, picture_of, read_table, with_picture
from fundusnet.errors import UserError


def test_header_is_found_below_notes_by_letters_and_digits(tmp_path: Path) -> None:
    file = text(
        tmp_path / "t.csv",
        "\ufeffNote: graded in 2019\r\n ID-code , Retinopathy grade ,,\r\n a , 2 ,,\r\n,,,\r\nb,\r\n",
    )
    rows = read_table(file, ("id_code", "retinopathygrade"), ("age",))
    assert [(row.line, row["id_code"], row["retinopathygrade"], row["age"]) for row in rows] == [
        (3, "a", "2", ""),
        (5, "b", "", ""),
    ]


def test_either_spelling_of_a_column_goes_by_the_first(tmp_path: Path) -> None:
    file = text(tmp_path / "t.csv", "id_code;x\n7;8\n")
    assert read_table(file, ("image_id|id_code",), delimiter=";")[0]["image_id"] == "7"


def test_excel_cells_become_the_text_that_is_seen(tmp_path: Path) -> None:
    file = sheet(tmp_path / "t.xlsx", [[None, "Value"], ["#002", 2.0], ["#003", 2.5], [None, None], ["#004", " x "]])
    rows = read_table(file, ("Value",))
    assert [(row.first, row["Value"]) for row in rows] == [("#002", "2"), ("#003", "2.5"), ("#004", "x")]


def test_missing_columns_and_files_are_named_with_what_is_there(tmp_path: Path) -> None:
    file = text(tmp_path / "t.csv", "name,grade\n")
    with pytest.raises(UserError, match=r"t.csv: no column 'image_id or id', found name, grade"):
        read_table(file, ("grade", "image_id|id"))
    with pytest.raises(UserError, match=r"u.csv is missing, found in .*: t.csv"):
        read_table(tmp_path / "deep/u.csv", ("grade",))
    with pytest.raises(UserError, match=r"no table v.csv or w\*.csv in it, found t.csv"):
        find_table(tmp_path, "v.csv", "w*.csv")
    text(tmp_path / "no.xlsx", "not a zip")
    with pytest.raises(UserError, match=r"no.xlsx cannot be read as an Excel file"):
        read_table(tmp_path / "no.xlsx", ("grade",))


def test_without_openpyxl_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sheet(tmp_path / "t.xlsx", [["a"], [1]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"t.xlsx is an Excel file: pip install 'fundusnet\[sets\]'"):
        read_table(file, ("a",))


def test_wrong_cells_are_named_by_line(tmp_path: Path) -> None:
    row, empty, infinite = read_table(text(tmp_path / "t.csv", "a\n x2 \n-\ninf\n"), ("a",))
    with pytest.raises(UserError, match=r"t.csv, line 2: a 'x2' is not a number"):
        row.number("a")
    with pytest.raises(UserError, match=r"line 3: a '-' is not one of 0, 1"):
        empty.code("a", {"0": 0, "1": 1})
    with pytest.raises(UserError, match=r"line 4: a 'inf' is not a finite number"):
        infinite.number("a")
    assert math.isnan(read_table(text(tmp_path / "u.csv", "a,b\n,1\n"), ("a",))[0].number("a"))


def test_codes_are_read_as_the_spreadsheet_wrote_them(tmp_path: Path) -> None:
    rows = read_table(text(tmp_path / "t.csv", "a\n2\n2.0\n"), ("a",))
    assert [row.code("a", {"2": 1}) for row in rows] == [1, 1]


def test_the_table_nearest_to_the_root_is_taken_and_hidden_ones_never(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/train.csv", "c/train.csv", "._train.csv", "~$train.csv")
    assert find_table(tmp_path, "train.csv") == tmp_path / "c/train.csv"


def test_pictures_are_found_whatever_the_suffix_and_case(tmp_path: Path) -> None:
    touch(tmp_path, "x/A.1.JPG", "x/b.png", "x/._b.png", "x/b.txt")
    pictures = by_stem(tmp_path)
    assert sorted(pictures) == ["a.1", "b"]
    for name in ("A.1", "a.1.jpg", "images/A.1.png", "images\\A.1.JPG"):
        assert picture_of(name, pictures) == tmp_path / "x/A.1.JPG", name
    assert picture_of("c", pictures) is None


def test_rows_without_a_picture_are_counted_and_doubled_rows_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.png")
    rows = read_table(text(tmp_path / "t.csv", "id\na\nb\nc\n"), ("id",))
    with caplog.at_level(logging.WARNING):
        pairs = with_picture(rows, "id", by_stem(tmp_path), tmp_path)
    assert [(row["id"], file.name) for row, file in pairs] == [("a", "a.png")]
    assert "t.csv: 2 of 3 rows left out" in caplog.text
    with pytest.raises(UserError, match=r"none of its 2 photographs such as 'b' is in .*, found a.png, t.csv"):
        with_picture(rows[1:], "id", by_stem(tmp_path), tmp_path)
    doubled = read_table(text(tmp_path / "u.csv", "id\na\nA.png\n"), ("id",))
    with pytest.raises(UserError, match=r"u.csv, line 3: A.png is on line 2 already"):
        with_picture(doubled, "id", by_stem(tmp_path), tmp_path)
