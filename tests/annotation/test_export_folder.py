"""An export replaces what an export of the same study wrote, and touches no other file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from studies import Page, answer, client_of, open_study

from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.data.listing import photographs
from fundusnet.data.manifest import read_manifest
from fundusnet.errors import UserError


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = open_study(tmp_path)
    Page(client_of(study)).put("a", answer())
    return study


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_exporting_again_brings_what_was_read_since(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "out")
    assert set(read_manifest(folder).readings["image_id"]) == {"a"}
    Page(client_of(study)).put("b", answer())
    (tmp_path / "photographs" / "d.png").unlink()
    export_study(study, folder)
    assert set(read_manifest(folder).readings["image_id"]) == {"a", "b"}
    assert sorted(file.name for file in (folder / "images").iterdir()) == ["a.png", "b.png", "c.png"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_an_empty_folder_is_used(study: Study, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_study(study, tmp_path / "empty")
    assert (tmp_path / "empty" / "readings.csv").exists()


def test_files_of_others_stay_in_an_export_that_is_replaced(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "out")
    others = {"thesis.docx": b"years", "raw/one/x.png": b"x", "images/mine.txt": b"y", ".hidden": b"z"}
    for name, content in others.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "nothing").mkdir()
    (folder / "link").symlink_to("thesis.docx")
    before = {name: (folder / name).stat() for name in others}
    export_study(study, folder)
    assert contents(folder).items() >= others.items()
    for name, status in before.items():
        assert ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns) == (
            status.st_ino,
            status.st_mtime_ns,
        )
    assert (folder / "nothing").is_dir()
    assert os.readlink(folder / "link") == "thesis.docx"  # noqa: PTH115 - what the link says, not where it leads
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_what_no_export_of_this_study_wrote_is_refused_and_left(study: Study, tmp_path: Path) -> None:
    other = export_study(open_study(tmp_path / "other"), tmp_path / "other's")
    mine = tmp_path / "mine"
    (mine / "raw").mkdir(parents=True)
    for name in ("study.json", "thesis.docx", "raw/x.png"):
        (mine / name).write_text("{}")
    (tmp_path / "file").write_text("x")
    for folder, words in (
        (other, "export of another study"),
        (mine, "not an earlier export"),
        (tmp_path / "file", "no folder"),
    ):
        before = contents(folder)
        with pytest.raises(UserError, match=words) as refused:
            export_study(study, folder)
        assert "\n" not in str(refused.value)
        assert contents(folder) == before


@pytest.mark.parametrize("marker", ["", "[]", "{}", '{"format": 2, "study": "x", "files": {}}', '{"study": 1}'])
def test_a_marker_that_no_export_wrote_is_refused(study: Study, tmp_path: Path, marker: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text(marker)
    with pytest.raises(UserError, match="not an earlier export"):
        export_study(study, tmp_path / "out")


def test_an_export_of_0_1_0_is_known_by_its_record(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "out")
    for name in ("export.json", "points.csv"):
        (folder / name).unlink()
    (folder / "thesis.docx").write_text("years")
    export_study(study, folder)
    assert (folder / "thesis.docx").read_text() == "years"
    record = json.loads((folder / "study.json").read_text())
    (folder / "export.json").unlink()
    (folder / "study.json").write_text(json.dumps(record | {"study": "another"}))
    with pytest.raises(UserError, match="export of another study"):
        export_study(study, folder)


def test_a_table_changed_by_hand_is_not_overwritten(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "out")
    (folder / "readings.csv").write_text("corrected")
    with pytest.raises(UserError, match=r"readings\.csv was changed since it was exported"):
        export_study(study, folder)
    assert (folder / "readings.csv").read_text() == "corrected"


def test_a_file_that_took_the_name_of_a_new_one_is_not_overwritten(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "out")
    marker = json.loads((folder / "export.json").read_text())
    del marker["files"]["images/c.png"]  # as if c had been added to the study since, and this file by the user
    (folder / "export.json").write_text(json.dumps(marker))
    before = contents(folder)
    with pytest.raises(UserError, match=r"images/c\.png was not written by the export"):
        export_study(study, folder)
    assert contents(folder) == before


def test_files_that_cannot_be_linked_are_not_lost(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_study(study, tmp_path / "out")
    (folder / "thesis.docx").write_text("years")

    def refused(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    before = contents(folder)
    with pytest.raises(UserError, match=r"thesis\.docx is not of the export and cannot be kept"):
        export_study(study, folder)
    assert contents(folder) == before


def test_a_link_to_an_export_stays_a_link(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "out")
    (tmp_path / "link").symlink_to(folder)
    Page(client_of(study)).put("b", answer())
    export_study(study, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert set(read_manifest(folder).readings["image_id"]) == {"a", "b"}


def test_neither_a_study_nor_an_export_below_the_photographs_is_photographs(study: Study, tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    export_study(study, root / "out")
    (root / "study").mkdir()
    (root / "study" / "study.sqlite").write_bytes(b"")
    (root / "study" / "screen").mkdir()
    (root / "study" / "screen" / "x.jpg").write_bytes((root / "a.png").read_bytes())
    study.photographs.geometry("a.png")
    (tmp_path / "screen").rename(root / "cache")  # of a study whose answers are in another database
    assert list((root / "cache").glob("*.jpg"))
    assert [file.name for file in photographs(root)] == ["a.png", "b.png", "c.png", "d.png"]
    (root / "out" / "export.json").unlink()  # as 0.1.0 left it
    assert [file.name for file in photographs(root)] == ["a.png", "b.png", "c.png", "d.png"]
