"""A study remembers how it was started; what differs is refused, or changed where that was asked for."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from pathlib import Path

import pytest
from studies import Page, answer, client_of, write_photographs

from fundusnet.annotation.answers import Answer
from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.saving import save_answer
from fundusnet.annotation.storage import Storage
from fundusnet.annotation.study import Study
from fundusnet.annotation.tallies import progress_of
from fundusnet.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs, where commands start; nothing is served."""
    write_photographs(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: [each.close() for each in sockets])
    return tmp_path


def start(*words: str) -> int:
    return main(["annotate", "data.root=photographs", "port=0", *words])


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert start(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return str(line)


def assigned(folder: Path) -> int:
    with sqlite3.connect(folder / "study.sqlite") as connection:
        return int(connection.execute("SELECT count(*) FROM assignments WHERE shown").fetchone()[0])


def opened(folder: Path) -> Study:
    photographs = Photographs(Path("photographs"), folder / "screen")
    return Study(Storage(f"sqlite:///{folder.resolve()}/study.sqlite"), photographs, ["drusen"])


def read_one(folder: Path) -> None:
    """An answer of whoever reads a, as the page saves it."""
    study = opened(folder)
    person = next(each for each in study.people() if study.can_see(each, "a"))
    save_answer(study, person, "a", Answer.model_validate(answer()))
    study.storage.close()


def test_a_restart_without_options_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["folder=study", "annotators=[anna,ben,cleo]", "readings_per_image=2", "finding.names=[drusen]", "seed=3"]
    assert start(*words) == 0
    assert assigned(here / "study") == 8
    read_one(here / "study")
    assert start("folder=study") == 0
    assert assigned(here / "study") == 8
    assert "2 readings of each photograph" in capsys.readouterr().out
    assert start("folder=study", "annotators=[anna,ben,cleo,dora]") == 0
    assert assigned(here / "study") == 8
    with sqlite3.connect(here / "study" / "study.sqlite") as connection:
        (stored,) = connection.execute("SELECT value FROM settings WHERE name = 'settings'").fetchone()
    assert json.loads(stored)["findings"] == ["drusen"]


def test_what_is_given_changes_what_can_be_changed(here: Path) -> None:
    assert start("folder=study", "annotators=[anna,ben,cleo]", "readings_per_image=2") == 0
    assert start("folder=study", "readings_per_image=3") == 0
    assert assigned(here / "study") == 12
    assert start("folder=study") == 0
    assert assigned(here / "study") == 12


def test_findings_may_change_until_somebody_reads(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("folder=study", "finding=drusen") == 0
    assert start("folder=study", "finding.names=[drusen,hemorrhage]") == 0
    read_one(here / "study")
    assert "this study marks drusen, hemorrhage, and readings exist" in refused(
        capsys, "folder=study", "finding=drusen"
    )
    assert start("folder=study", "finding.names=[hemorrhage,drusen]") == 0  # other keys only
    for words in (["export=out"], ["links=[anna]"]):
        assert "readings exist" in refused(capsys, "folder=study", "finding=drusen", *words)


def test_source_and_seed_stay(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "photographs" / "images.csv").write_text("image_id,path\none,a.png\ntwo,b.png\n")
    assert start("folder=study", "data=csv", "seed=3") == 0
    assert "seed=3" in refused(capsys, "folder=study", "seed=4")
    assert "data=csv" in refused(capsys, "folder=study", "data=folder")
    assert start("folder=study") == 0  # the source of before
    assert assigned(here / "study") == 2


def test_the_folder_depends_on_the_photographs_only(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start() == 0
    printed = re.search(r"^study in (/\S+):", capsys.readouterr().out, re.M)
    assert printed is not None
    folder = Path(printed[1])
    assert (folder / "study.sqlite").is_file()
    assert folder.is_relative_to(here / "home")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert main(["annotate", f"data.root={here}/photographs", "port=0"]) == 0
    assert f"study in {folder}:" in capsys.readouterr().out
    assert [entry.name for entry in (here / "elsewhere").iterdir()] == []


def test_a_study_where_0_1_0_kept_it_is_found_from_everywhere(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = json.dumps(["folder", str((here / "photographs").resolve())])
    old = here / "data" / "annotation" / f"folder-{hashlib.sha256(named.encode()).hexdigest()[:8]}"
    assert start(f"folder={old}") == 0
    capsys.readouterr()
    assert start() == 0
    assert f"study in {old}:" in capsys.readouterr().out
    monkeypatch.chdir(here / "photographs")
    assert main(["annotate", f"data.root={here}/photographs", "port=0"]) == 0
    assert f"study in {old}:" in capsys.readouterr().out


@pytest.mark.parametrize("readers", ["anna,ben,cleo", "anna,ben"])
def test_a_study_of_0_1_0_remembers_by_what_was_assigned(here: Path, readers: str) -> None:
    assert start("folder=study", f"annotators=[{readers}]", "readings_per_image=2") == 0
    with sqlite3.connect(here / "study" / "study.sqlite") as connection:
        connection.execute("DELETE FROM settings WHERE name = 'settings'")
    assert start("folder=study") == 0
    assert assigned(here / "study") == 8


def test_findings_that_readers_of_0_1_0_marked_are_not_dropped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("folder=study") == 0
    read_one(here / "study")
    with sqlite3.connect(here / "study" / "study.sqlite") as connection:
        connection.execute("DELETE FROM settings WHERE name = 'settings'")
    assert "readers of this study marked drusen" in refused(capsys, "folder=study", "finding=hemorrhage")


def test_people_join_and_leave_without_a_restart(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["folder=study", "annotators=[anna,ben,cleo]", "adjudicators=[ada]", "readings_per_image=2"]
    assert start(*words) == 0
    served = opened(here / "study")  # as the server has it open
    capsys.readouterr()
    assert start("folder=study", "join=[dora]", "leave=[ben]") == 0
    assert re.match(r"dora: http://127\.0\.0\.1:\d+/join/\S+\n", capsys.readouterr().out)
    people = {person.name: person for person in served.people()}
    assert list(people) == ["anna", "cleo", "ada", "dora"]
    with served.storage.read() as connection:
        assert {progress_of(connection, people[name])["total"] for name in ("anna", "cleo", "dora")} <= {2, 3}
    assert assigned(here / "study") == 8
    assert "zoe does not take part" in refused(capsys, "folder=study", "leave=[zoe]")
    assert "'ada' is given twice" in refused(capsys, "folder=study", "join=[ada]")


def test_a_study_below_the_photographs_is_not_photographs(here: Path) -> None:
    for _ in range(2):
        assert start("folder=photographs/study") == 0
        page = Page(client_of(opened(here / "photographs" / "study")))
        assert len(page.get("/api/queue").json()["images"]) == 4
        for entry in page.get("/api/queue").json()["images"]:
            assert page.get(f"/api/images/{entry['image_id']}/photograph").status_code == 200


def test_groups_are_remembered_and_people_join_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = zip("abcd", ["train", "train", "val", "test"], strict=True)
    rows = "".join(f"{name},{name}.png,{split}\n" for name, split in splits)
    (here / "photographs" / "images.csv").write_text("image_id,path,split\n" + rows)
    words = ["folder=study", "annotators={general:[anna,ben],special:[cleo]}", "reread_ungradable=1"]
    groups = "groups={general:{splits:[train,val],readings_per_image:2},special:{splits:[test]}}"
    assert start("data=csv", *words, groups) == 0
    assert assigned(here / "study") == 2 * 3 + 1
    assert "by the groups general, special" in capsys.readouterr().out
    assert start("folder=study") == 0
    assert assigned(here / "study") == 2 * 3 + 1
    study = opened(here / "study")
    assert start("folder=study", "join={special:[dora]}") == 0
    assert [person.name for person in study.people()] == ["anna", "ben", "cleo", "dora"]
    assert assigned(here / "study") == 2 * 3 + 2
    assert "this study has the groups general, special" in refused(capsys, "folder=study", "join=[emil]")
    assert "groups.special has no option split" in refused(capsys, "folder=study", "groups={special:{split:[test]}}")
    assert "anna is in none of the groups special" in refused(
        capsys, "folder=study", "groups={special:{splits:[test]}}"
    )
    assert start("folder=study") == 0, "what was refused is not remembered"
    assert assigned(here / "study") == 2 * 3 + 2
    assert start("folder=study", "groups={general:{splits:[train]},special:{splits:[test]}}") == 0
    assert assigned(here / "study") == 2 * 2 + 2


def test_groups_named_by_their_people_read_everything(here: Path) -> None:
    assert start("folder=study", "annotators={one:[anna],two:[ben,cleo]}", "readings_per_image=1") == 0
    assert assigned(here / "study") == 8
    assert start("folder=study") == 0
    assert assigned(here / "study") == 8
