"""An administrator manages people, links and the export on the page; nobody else can."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from studies import Page, answer, client_of, link_of, open_study, write_photographs

from fundusnet.annotation.people import PAGE
from fundusnet.annotation.plan import Group
from fundusnet.annotation.study import Study
from fundusnet.cli.main import main


def managed(folder: Path, readers: Any = ("anna", "ben"), **more: Any) -> Study:
    study = open_study(folder, readers, ["ada"], **more)
    study.enrol([], administrators=["max"])
    return study


def page_of(study: Study, name: str) -> Page:
    return Page(client_of(study, links=True), link_of(study, name))


def post(page: Page, address: str, body: Any = None, method: str = "POST") -> Any:
    headers = {"X-CSRF-Token": page.session["csrf"]}
    return page.client.request(method, address, json=body or {}, headers=headers)


def person(page: Page, name: str) -> dict[str, Any]:
    return next(each for each in page.get("/api/people").json()["people"] if each["name"] == name)


def test_administrators_alone_leave_the_others_as_they_were(tmp_path: Path) -> None:
    study = managed(tmp_path)
    assert {(each.name, each.role) for each in study.people()} == {
        ("anna", "annotator"), ("ben", "annotator"), ("ada", "adjudicator"), ("max", "administrator"),
    }  # fmt: skip
    study.enrol(["anna", "cleo"], ["ada"])
    assert [each.name for each in study.people() if each.role == "administrator"] == ["max"], "they stay"
    study.enrol([], administrators=["eva"])
    assert [each.name for each in study.people() if each.role == "administrator"] == ["eva"]


@pytest.mark.parametrize("name", ["anna", "ada"])
def test_nobody_else_manages(tmp_path: Path, name: str) -> None:
    study = managed(tmp_path)
    page = page_of(study, name)
    assert "people" not in page.session["pages"]
    for address in ("/api/people", "/api/people/1/answers", "/api/export"):
        assert page.get(address).status_code == 403
    assert post(page, "/api/people", {"name": "zoe", "role": "annotator"}).status_code == 403
    assert post(page, "/api/people/1/link").status_code == 403
    assert post(page, "/api/people/1/sign-out").status_code == 403
    assert post(page, "/api/people/2", {"active": False}, "PUT").status_code == 403
    assert [each.name for each in study.people()] == ["anna", "ben", "ada", "max"]


def test_changes_need_the_token_of_the_session(tmp_path: Path) -> None:
    page = page_of(managed(tmp_path), "max")
    assert page.client.post("/api/people", json={"name": "zoe", "role": "annotator"}).status_code == 403
    assert page.client.put("/api/people/1", json={"active": False}).status_code == 403
    assert page.client.post("/api/people/1/link", json={}).status_code == 403


def test_an_administrator_sees_what_adjudicators_see(tmp_path: Path) -> None:
    page = page_of(managed(tmp_path), "max")
    assert page.session["pages"] == ["overview", "adjudicate", "people"]
    assert page.get("/api/overview").status_code == 200
    assert page.get("/api/adjudication/a").status_code == 200
    assert page.get("/api/images/a/photograph").status_code == 200


def test_people_come_and_go(tmp_path: Path) -> None:
    groups = {"one": Group(), "two": Group()}
    study = managed(tmp_path, {"one": ["anna"], "two": ["ben"]}, groups=groups, readings=1)
    page = page_of(study, "max")
    assert page.get("/api/people").json()["groups"] == ["one", "two"]
    link = post(page, "/api/people", {"name": "zoe", "role": "annotator", "group": "two"}).json()["link"]
    zoe = Page(client_of(study, links=True), link.rpartition("/")[2])
    assert zoe.session["annotator"]["name"] == "zoe"
    assert person(page, "zoe") == {
        "id": person(page, "zoe")["id"], "name": "zoe", "role": "annotator", "group": "two", "active": True,
        "done": 0, "total": 2, "devices": 1, "link": False,
    }  # fmt: skip
    assert person(page, "ben")["total"] == 2
    theirs = zoe.get("/api/queue").json()["images"][0]["image_id"]
    assert zoe.put(theirs, answer()).status_code == 200
    address = f"/api/people/{person(page, 'zoe')['id']}"
    assert post(page, address, {"active": False}, "PUT").status_code == 200
    assert zoe.get("/api/images/a").status_code == 401
    assert person(page, "zoe")["total"] == person(page, "zoe")["done"] == 1
    assert person(page, "ben")["total"] == 3
    assert "does not take part" in post(page, f"{address}/link").json()["error"]
    assert post(page, address, {"active": True}, "PUT").status_code == 200
    assert person(page, "zoe")["total"] == 2
    assert post(page, f"{address}/sign-out").status_code == 200
    assert zoe.get("/api/session").json()["code"] == "revoked"
    assert person(page, "zoe")["devices"] == 0
    token = post(page, f"{address}/link").json()["link"].rpartition("/")[2]
    assert person(page, "zoe")["link"]
    assert Page(client_of(study, links=True), token).session["annotator"]["name"] == "zoe"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"name": "anna", "role": "annotator", "group": "one"}, "anna takes part already"),
        ({"name": " ", "role": "annotator", "group": "one"}, "is not a valid name"),
        ({"name": "zoe", "role": "king"}, "'king' is no role"),
        ({"name": "zoe", "role": "annotator"}, "choose one of the groups one, two for zoe"),
        ({"name": "zoe", "role": "annotator", "group": "three"}, "choose one of the groups one, two for zoe"),
    ],
)
def test_a_wrong_person_is_one_line(tmp_path: Path, body: dict[str, str], line: str) -> None:
    groups = {"one": Group(), "two": Group()}
    study = managed(tmp_path, {"one": ["anna"], "two": ["ben"]}, groups=groups)
    refused = post(page_of(study, "max"), "/api/people", body)
    assert refused.status_code == 422
    assert line in refused.json()["error"]
    assert len(study.people()) == 4


def test_an_administrator_cannot_lock_the_door_from_outside(tmp_path: Path) -> None:
    page = page_of(managed(tmp_path), "max")
    refused = post(page, f"/api/people/{person(page, 'max')['id']}", {"active": False}, "PUT")
    assert refused.status_code == 422
    assert "cannot take yourself out" in refused.json()["error"]
    assert post(page, "/api/people/99/link").status_code == 404


def test_the_answers_of_a_reader(tmp_path: Path) -> None:
    study = managed(tmp_path)
    anna = page_of(study, "anna")
    anna.put("a", answer(comment="first"))
    anna.put("b", answer(state="ungradable", ungradable="blurred"))
    anna.put("a", answer(1, findings={"hemorrhage": ["macula"]}))
    page = page_of(study, "max")
    address = f"/api/people/{person(page, 'anna')['id']}/answers"
    found = page.get(address).json()
    assert found["count"] == 2
    first, second = found["answers"]
    assert (first["image_id"], first["findings"], first["comment"]) == ("a", {"hemorrhage": ["macula"]}, "")
    assert (second["image_id"], second["ungradable"], second["state"]) == ("b", "blurred", "ungradable")
    assert page.get(f"{address}?offset=1").json()["answers"] == [second]
    assert PAGE >= 100


def test_the_tables_of_an_export_are_downloaded(tmp_path: Path) -> None:
    study = managed(tmp_path)
    page_of(study, "anna").put("a", answer())
    reply = page_of(study, "max").get("/api/export")
    assert reply.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(reply.content)) as packed:
        assert set(packed.namelist()) == {"images.csv", "readings.csv", "points.csv", "study.json"}
        images = list(csv.DictReader(io.StringIO(packed.read("images.csv").decode())))
        readings = list(csv.DictReader(io.StringIO(packed.read("readings.csv").decode())))
    assert {row["path"] for row in images} == {"a.png", "b.png", "c.png", "d.png"}
    assert [(row["image_id"], row["annotator_id"], row["finding"]) for row in readings] == [("a", "anna", "drusen")]


def test_without_links_the_only_reader_sees_the_answers_and_the_export(tmp_path: Path) -> None:
    page = Page(client_of(open_study(tmp_path)))
    assert page.session["pages"] == ["overview", "adjudicate", "people"]
    page.put("a", answer())
    (me,) = page.get("/api/people").json()["people"]
    assert page.get(f"/api/people/{me['id']}/answers").json()["count"] == 1
    assert page.get("/api/export").status_code == 200
    assert post(page, "/api/people", {"name": "zoe", "role": "annotator"}).status_code == 404


def test_a_study_starts_with_an_administrator_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: [each.close() for each in sockets])
    words = ["annotate", "data.root=photographs", "port=0", "folder=study", "administrators=[max]"]
    assert main(words) == 0
    assert "\nmax: http" in capsys.readouterr().out
    assert main([*words[:-1], "annotators=[anna]"]) == 0
    assert "\nanna: http" in capsys.readouterr().out
