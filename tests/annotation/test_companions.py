"""The fellow eye and earlier visits of a patient are shown to whoever reads a photograph, and nothing else is."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from studies import Page, answer, client_of, link_of, open_study, write_photographs

from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.cli.main import main
from fundusnet.data.manifest import read_manifest

# patient, eye, visit
KNOWN = {
    "a": ("p", "right", "2018-05-01"),
    "b": ("p", "left", "2018-05-01"),
    "c": ("p", "right", "2016-01-31"),
    "d": ("p", "right", "2019-07-01"),
    "e": ("p", "left", "2016-01-31"),
    "f": ("q", "right", "2018-05-01"),
    "g": ("", "left", "2018-05-01"),
    "h": ("q", "left", ""),
    "i": ("p", "", "2015-01-01"),
    "j": ("p", "right", "2017-01-31"),
}


def known(folder: Path, table: dict[str, tuple[str, str, str]] = KNOWN) -> Path:
    root = write_photographs(folder / "photographs", list(table))
    rows = "".join(f"{name},{name}.png,{','.join(cells)}\n" for name, cells in table.items())
    (root / "images.csv").write_text("image_id,path,patient_id,eye,visit\n" + rows)
    return folder


def beside(folder: Path, image_id: str, *kinds: str) -> list[tuple[str, str]]:
    study = open_study(folder, source="csv", beside=kinds)
    page = Page(client_of(study))
    found = [(each["image_id"], each["kind"]) for each in page.get(f"/api/images/{image_id}").json()["beside"]]
    study.storage.close()
    return found


@pytest.mark.parametrize(
    ("image_id", "expected"),
    [
        ("a", [("b", "fellow"), ("j", "earlier"), ("c", "earlier")]),  # not d, which is later
        ("b", [("a", "fellow"), ("e", "earlier")]),
        ("c", [("e", "fellow")]),
        ("d", [("a", "earlier"), ("j", "earlier"), ("c", "earlier")]),
        ("f", [("h", "fellow")]),  # its visit is not known
        ("h", [("f", "fellow")]),
        ("g", []),
        ("i", []),
    ],
)
def test_what_is_shown_beside_a_photograph(tmp_path: Path, image_id: str, expected: list[tuple[str, str]]) -> None:
    assert beside(known(tmp_path), image_id, "fellow", "earlier") == expected


def test_only_what_the_study_allows(tmp_path: Path) -> None:
    known(tmp_path)
    assert beside(tmp_path, "a") == []
    assert beside(tmp_path, "a", "fellow") == [("b", "fellow")]
    assert beside(tmp_path, "a", "earlier") == [("j", "earlier"), ("c", "earlier")]


def test_numbered_visits_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    known(tmp_path, {name: ("p", "right", visit) for name, visit in zip("abc", ("9", "10", "2"), strict=True)})
    assert beside(tmp_path, "b", "earlier") == [("a", "earlier"), ("c", "earlier")]


def one_reads(study: Study, name: str, image_ids: str) -> Page:
    """The page of a reader, whose photographs are these only."""
    page = Page(client_of(study, links=True), link_of(study, name))
    assert sorted(entry["image_id"] for entry in page.get("/api/queue").json()["images"]) == list(image_ids)
    return page


def test_readers_see_the_photograph_but_no_answer(tmp_path: Path) -> None:
    """Of two readers with a photograph each, anna sees ben's photograph, and nothing of what ben says of it."""
    known(tmp_path, {"a": ("p", "right", ""), "b": ("p", "left", "")})
    study = open_study(tmp_path, ["anna", "ben"], source="csv", readings=1, beside=("fellow", "earlier"))
    own = {
        name: Page(client_of(study, links=True), link_of(study, name)).get("/api/queue").json()["images"]
        for name in ("anna", "ben")
    }
    (mine,), (theirs,) = ([entry["image_id"] for entry in own[name]] for name in ("anna", "ben"))
    anna, ben = one_reads(study, "anna", mine), one_reads(study, "ben", theirs)
    assert ben.put(theirs, answer(comment="secret")).status_code == 200
    assert [each["image_id"] for each in anna.get(f"/api/images/{mine}").json()["beside"]] == [theirs]
    assert anna.get(f"/api/images/{theirs}/photograph").status_code == 200
    assert anna.get(f"/api/images/{theirs}").status_code == 404
    assert anna.put(theirs, answer()).status_code == 404
    assert "secret" not in anna.get(f"/api/images/{mine}").text


def test_who_reads_nothing_of_a_patient_sees_nothing_of_them(tmp_path: Path) -> None:
    """Each of six readers has one photograph, and sees this one and its fellow only."""
    pairs = {"a": "b", "b": "a", "c": "d", "d": "c", "e": "f", "f": "e"}
    known(tmp_path, {name: (min(name, pairs[name]), ("right", "left")[name > pairs[name]], "") for name in pairs})
    names = ("anna", "ben", "cleo", "dora", "emil", "fay")
    study = open_study(tmp_path, names, source="csv", readings=1, beside=("fellow", "earlier"))
    for name in names:
        page = Page(client_of(study, links=True), link_of(study, name))
        (mine,) = (entry["image_id"] for entry in page.get("/api/queue").json()["images"])
        seen = {each for each in pairs if page.get(f"/api/images/{each}/photograph").status_code == 200}
        assert seen == {mine, pairs[mine]}


def test_without_the_setting_the_photograph_is_not_sent(tmp_path: Path) -> None:
    known(tmp_path, {"a": ("p", "right", ""), "b": ("p", "left", "")})
    study = open_study(tmp_path, ["anna", "ben"], source="csv", readings=1)
    page = Page(client_of(study, links=True), link_of(study, "anna"))
    (mine,) = (entry["image_id"] for entry in page.get("/api/queue").json()["images"])
    assert page.get(f"/api/images/{'b' if mine == 'a' else 'a'}/photograph").status_code == 404


def test_photographs_of_other_patients_stay_out_of_reach(tmp_path: Path) -> None:
    table = {"a": ("p", "right", ""), "b": ("q", "left", ""), "c": ("", "left", ""), "d": ("", "right", "")}
    study = open_study(known(tmp_path, table), ["anna", "ben"], source="csv", readings=1, beside=("fellow", "earlier"))
    page = Page(client_of(study, links=True), link_of(study, "anna"))
    mine = {entry["image_id"] for entry in page.get("/api/queue").json()["images"]}
    for image_id in table:
        expected = 200 if image_id in mine else 404
        assert page.get(f"/api/images/{image_id}/photograph").status_code == expected


def test_an_export_keeps_the_visits(tmp_path: Path) -> None:
    study = open_study(known(tmp_path), source="csv")
    table = read_manifest(export_study(study, tmp_path / "export")).images
    assert dict(zip(table["image_id"], table["visit"], strict=True)) == {name: row[2] for name, row in KNOWN.items()}
    second = open_study(tmp_path / "plain")
    assert "visit" not in read_manifest(export_study(second, tmp_path / "without")).images


def test_an_earlier_study_shows_nothing_beside_until_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: [each.close() for each in sockets])
    words = ["annotate", "data.root=photographs", "port=0", "folder=study", "data=csv"]

    def remembered(change: Any = None) -> Any:
        with sqlite3.connect(tmp_path / "study" / "study.sqlite") as connection:
            (stored,) = connection.execute("SELECT value FROM settings WHERE name = 'settings'").fetchone()
            settings = json.loads(stored)
            if change:
                change(settings)
                query = "UPDATE settings SET value = ? WHERE name = 'settings'"
                connection.execute(query, (json.dumps(settings),))
            return settings

    assert main(words) == 0
    assert remembered(lambda settings: settings.pop("beside")) is not None
    assert main(words) == 0
    assert remembered()["beside"] == []
    assert main([*words, "beside=[fellow]"]) == 0
    assert main(words) == 0
    assert remembered()["beside"] == ["fellow"]
    assert main([*words, "beside=[later]"]) == 2
    assert "beside=" in capsys.readouterr().err
