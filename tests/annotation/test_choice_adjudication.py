"""Questions that readers answer differently: listed where the study says so, decided, exported, and labels of a set."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np
import pandas as pd
import pytest
from running import Server
from studies import Page, answer, client_of, link_of, open_study, write_photographs

from fundusnet.annotation.manifest_import import import_readings
from fundusnet.annotation.questions import as_questions
from fundusnet.annotation.storage import setting
from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.cli.main import main
from fundusnet.data.consensus import consensus
from fundusnet.data.labels import finding_labels
from fundusnet.data.manifest import read_manifest
from fundusnet.data.prepare import prepare
from fundusnet.data.relabel import with_findings
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

GRADES = ["none", "mild", "moderate", "severe"]
ASKED: dict[str, Any] = {
    "grade": {"choices": GRADES, "adjudicate": True},
    "tessellated": {"choices": ["absent", "present"], "optional": True, "adjudicate": True},
    "colour": {"choices": ["light", "dark"], "ordered": False, "optional": True},
    "severity": {"of": "finding", "choices": ["mild", "severe"], "adjudicate": True},
}
READERS = ("anna", "ben", "cleo")
# What anna, ben and cleo say of each image: grade, tessellated ("p", "a" or "": not answered), severity of drusen ("":
# no drusen). Cleo has not read d.
SAID: dict[str, list[tuple[str, str, str]]] = {
    "a": [("mild", "p", "mild"), ("mild", "p", "severe"), ("severe", "a", "")],
    "b": [("none", "a", ""), ("none", "a", ""), ("none", "a", "")],
    "c": [("mild", "p", ""), ("moderate", "a", ""), ("moderate", "", "")],
    "d": [("mild", "p", ""), ("severe", "a", "")],
    "e": [("mild", "", ""), ("mild", "", "severe"), ("mild", "", "")],
}
CASES = [("a", "", "grade"), ("a", "", "tessellated"), ("a", "drusen", "severity"), ("c", "", "grade"),
         ("c", "", "tessellated")]  # fmt: skip


def said(grade: str, tessellated: str, severity: str) -> dict[str, Any]:
    choices: dict[str, Any] = {"": {"grade": grade, "colour": "light"}}
    if tessellated:
        choices[""]["tessellated"] = {"p": "present", "a": "absent"}[tessellated]
    if severity:
        choices["drusen"] = {"severity": severity}
    findings = {"drusen": ["macula"]} if severity else {}
    return {"choices": choices, "findings": findings, "normal": not findings}


def open_asking(folder: Path, asked: Mapping[str, Any] = ASKED, **more: Any) -> Study:
    return open_study(folder, READERS, ["ada", "max"], images="abcde", questions=as_questions(asked), **more)


def page_of(study: Study, name: str) -> Page:
    return Page(client_of(study, links=True), link_of(study, name))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = open_asking(tmp_path)
    for place, name in enumerate(READERS):
        page = page_of(study, name)
        for image_id, rows in SAID.items():
            if place < len(rows):
                assert page.put(image_id, answer(**said(*rows[place]))).status_code == 200
    return study


@pytest.fixture
def ada(study: Study) -> Page:
    return page_of(study, "ada")


def decide(page: Page, image_id: str, question: str, choice: str | None, version: int = 0, **changes: Any) -> Any:
    body = {"finding": "", "question": question, "choice": choice, "version": version} | changes
    return page.put(image_id, body, "/api/adjudication/{}/choice")


def listed(page: Page) -> list[tuple[str, str, str]]:
    return [(one["image_id"], one["finding"], one["question"]) for one in page.get("/api/adjudication").json()
            if one["question"]]  # fmt: skip


def test_what_readers_answered_differently_is_to_be_decided(ada: Page) -> None:
    # e has drusen of one reader of three, which is undecided as a finding; d waits for cleo; colour is not adjudicated.
    assert listed(ada) == CASES
    everything = [(one["image_id"], one["question"]) for one in ada.get("/api/adjudication").json()]
    assert everything[-1] == ("e", "")
    shown = ada.get("/api/adjudication/a").json()
    assert [(one["finding"], one["question"]) for one in shown["disputed"]] == [key[1:] for key in CASES[:3]]
    found = ada.get("/api/overview").json()
    assert found["counts"]["disputed"] == 5
    assert found["disputed"][0] == {
        "image_id": "a",
        "finding": "",
        "question": "grade",
        "given": {"mild": 2, "severe": 1},
    }


def test_a_study_that_says_nothing_has_no_such_cases(tmp_path: Path) -> None:
    asked = {
        name: {key: each for key, each in options.items() if key != "adjudicate"} for name, options in ASKED.items()
    }
    study = open_asking(tmp_path, asked)
    for place, name in enumerate(READERS):
        page_of(study, name).put("a", answer(**said(*SAID["a"][place])))
    ada = page_of(study, "ada")
    assert listed(ada) == []
    assert ada.get("/api/overview").json()["counts"]["disputed"] == 0
    assert decide(ada, "a", "grade", "mild").status_code == 422
    later = page_of(open_asking(tmp_path), "ada")  # the study is told so later
    assert listed(later) == CASES[:3]


def test_a_decision_is_kept_and_can_be_changed(ada: Page) -> None:
    assert decide(ada, "a", "grade", "moderate").json() == {"version": 1}
    stored = {"choice": "moderate", "version": 1}
    assert ada.get("/api/adjudication/a").json()["disputed"][0]["decision"] == stored
    found = ada.get("/api/overview").json()
    assert found["counts"]["disputed"] == len(found["disputed"]) == 4
    assert listed(ada) == CASES, "what is decided can still be changed"
    stale = decide(ada, "a", "grade", "mild")
    assert (stale.status_code, stale.json()["decision"]) == (409, stored)
    assert decide(ada, "a", "grade", None, 1).json() == {"version": 2}
    assert ada.get("/api/overview").json()["counts"]["disputed"] == 5
    assert decide(ada, "a", "severity", "mild", finding="drusen").json() == {"version": 1}
    assert ada.get("/api/overview").json()["counts"]["disputed"] == 4


def test_a_decision_stays_when_readers_come_to_agree(study: Study, ada: Page) -> None:
    decide(ada, "c", "grade", "severe")
    page_of(study, "anna").put("c", answer(1, **said("moderate", "p", "")))
    assert ("c", "", "grade") in listed(ada)
    assert ada.get("/api/overview").json()["counts"]["disputed"] == 4
    assert decide(ada, "c", "grade", None, 1).status_code == 200
    assert ("c", "", "grade") not in listed(ada)


def test_how_severe_is_not_asked_of_a_finding_that_is_absent(study: Study, ada: Page, tmp_path: Path) -> None:
    study.present = 3
    body = {"finding": "drusen", "present": False, "regions": [], "version": 0}
    assert ada.put("a", body, "/api/adjudication/{}").status_code == 200
    assert ("a", "drusen", "severity") not in listed(ada)
    assert ada.get("/api/overview").json()["counts"]["disputed"] == 4
    table = pd.read_csv(export_study(study, tmp_path / "export") / "choices_consensus.csv")
    severe = table[table["question"] == "severity"]
    assert severe[["image_id", "finding", "choice"]].to_numpy().tolist() == [["e", "drusen", "severe"]]


def test_a_decision_sent_twice_is_stored_once_and_of_many_at_once_one_holds(ada: Page) -> None:
    change = str(uuid4())
    assert decide(ada, "a", "grade", "mild", change=change).json() == {"version": 1}
    assert decide(ada, "a", "grade", "mild", change=change).json() == {"version": 1}
    start = threading.Barrier(6)

    def send(_: int) -> int:
        start.wait()
        return int(decide(ada, "c", "grade", "mild").status_code)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(send, range(6))) == [200] + [409] * 5


@pytest.mark.parametrize(
    ("image_id", "changes", "status"),
    [
        ("b", {}, 422),  # they agree
        ("d", {}, 422),  # somebody has still to read it
        ("a", {"question": "colour", "choice": "dark"}, 422),
        ("a", {"question": "nothing"}, 422),
        ("a", {"choice": "awful"}, 422),
        ("a", {"finding": "drusen"}, 422),
        ("a", {"finding": "hemorrhage", "question": "severity"}, 422),
        ("a", {"finding": "x", "question": "severity"}, 422),
        ("a", {"choice": 1}, 422),
        ("a", {"more": 1}, 422),
        ("nothing", {}, 404),
    ],
)
def test_what_cannot_be_decided_is_refused(ada: Page, image_id: str, changes: dict[str, Any], status: int) -> None:
    body = {"finding": "", "question": "grade", "choice": "mild", "version": 0} | changes
    assert ada.put(image_id, body, "/api/adjudication/{}/choice").status_code == status
    assert ada.get("/api/overview").json()["counts"]["disputed"] == 5


def test_readers_cannot_decide(study: Study) -> None:
    assert decide(page_of(study, "anna"), "a", "grade", "mild").status_code == 403


def test_an_export_has_decisions_first_and_an_import_takes_them_back(study: Study, ada: Page, tmp_path: Path) -> None:
    decide(ada, "a", "grade", "moderate")
    decide(ada, "a", "severity", "mild", finding="drusen")
    decide(ada, "c", "grade", "none")
    decide(ada, "c", "grade", None, 1)
    folder = export_study(study, tmp_path / "export")
    choices = pd.read_csv(folder / "choices.csv", keep_default_na=False)
    ours = choices[choices["annotator_id"] == "adjudicated"].drop(columns="annotator_id")
    assert ours.to_numpy().tolist() == [["a", "grade", "", "moderate", 2], ["a", "severity", "drusen", "mild", 0]]
    assert len(choices[(choices["image_id"] == "a") & (choices["question"] == "grade")]) == 4, "readers' answers stay"
    table = pd.read_csv(folder / "choices_consensus.csv", keep_default_na=False, dtype=str).set_index(
        ["image_id", "question", "finding"]
    )
    assert table.loc[("a", "grade", "")].tolist() == ["moderate", "2", "3", "adjudicated"]
    assert table.loc[("a", "severity", "drusen")].tolist() == ["mild", "0", "2", "adjudicated"]
    assert table.loc[("c", "grade", "")].tolist() == ["moderate", "2", "3", "readers"]
    assert table.loc[("c", "tessellated", "")].tolist() == ["", "", "2", "readers"], "one of two, and two are needed"
    assert table.loc[("a", "colour", "")].tolist() == ["light", "0", "3", "readers"]
    grades = read_manifest(folder, tuple(GRADES)).images.set_index("image_id")["grade"]
    assert grades.dropna().to_dict() == {"a": 2, "b": 0, "c": 2, "d": 2, "e": 1}
    other = open_asking(tmp_path / "other")
    import_readings(other, folder)
    import_readings(other, folder)
    again = export_study(other, tmp_path / "again")
    for name in ("choices.csv", "choices_consensus.csv", "readings.csv", "images.csv"):
        assert (again / name).read_text() == (folder / name).read_text()
    with pytest.raises(UserError, match="give questions= as in that study"):
        import_readings(open_asking(tmp_path / "third", {"grade": ASKED["grade"]}), folder)


@pytest.mark.sqlite
@pytest.mark.parametrize("decided", [None, "present", "absent"])
def test_answers_become_labels(study: Study, ada: Page, tmp_path: Path, decided: str | None) -> None:
    """From the page to what training reads: present, absent, undecided, and unknown where nobody answered."""
    if decided:
        for image_id in "ac":
            assert decide(ada, image_id, "tessellated", decided).status_code == 200
    folder = export_study(study, tmp_path / "export")
    prepared = prepare(load_source("csv", folder, {"classes": GRADES}), tmp_path / "prepared", size=64)
    images = prepared.manifest.images
    assert dict(zip(images["image_id"], images["grade"], strict=True)) == {"a": 1, "b": 0, "c": 2, "d": 2, "e": 1}
    names = ["tessellated", "drusen"]
    found = finding_labels(prepared, names)
    # a: two of three, c: one of two who answered, d: one so far, e: nobody.
    expected = {"a": 1, "b": 0, "c": np.nan, "d": np.nan, "e": np.nan}
    if decided:
        expected |= dict.fromkeys("ac", int(decided == "present"))
    assert dict(zip(images["image_id"], found.label[:, 0], strict=True)) == pytest.approx(expected, nan_ok=True)
    assert found.label[:, 1].tolist() == pytest.approx([1, 0, 0, 0, np.nan], nan_ok=True), "marks are as before"
    rows = {image_id: row for row, image_id in enumerate(images["image_id"])}
    assert found.regions[rows["a"]][0] is None, "it has no place"
    assert not found.cue(rows["a"])[0].any()
    assert (folder / "readings_blind.csv").exists() == bool(decided)
    renamed = finding_labels(with_findings(prepared, ["fundus"], {"fundus": "tessellated"}), ["fundus"])
    assert renamed.label[:, 0].tolist() == pytest.approx(found.label[:, 0].tolist(), nan_ok=True)
    spelt = pd.read_csv(folder / "readings.csv", dtype=str, keep_default_na=False)
    assert set(spelt.loc[spelt["image_id"] == "e", "unanswered"]) == {"tessellated"}
    if decided:
        named = spelt[(spelt["finding"] == "tessellated") & (spelt["image_id"].isin(["a", "c"]))]["annotator_id"]
        assert set(named) == ({f"adjudicated-{number}" for number in (1, 2, 3)} if decided == "present" else set())


@pytest.mark.sqlite
def test_without_open_answers_the_readings_table_is_as_before(tmp_path: Path) -> None:
    study = open_asking(tmp_path, {"tessellated": {"choices": ["absent", "present"]}})
    page_of(study, "anna").put("a", answer(normal=True, choices={"": {"tessellated": "present"}}))
    page_of(study, "ben").put("a", answer(normal=True, choices={"": {"tessellated": "absent"}}))
    text = (export_study(study, tmp_path / "export") / "readings.csv").read_text()
    assert text == "image_id,annotator_id,finding,regions\na,anna,tessellated,\na,ben,,\n"


@pytest.mark.sqlite
def test_the_answers_of_a_reader_whose_only_mark_is_overruled_are_kept(tmp_path: Path) -> None:
    asked = {"tessellated": {"choices": ["absent", "present"], "optional": True}}
    study = open_asking(tmp_path, asked)
    for name in READERS:
        findings = {"hemorrhage": ["macula"]} if name == "anna" else {}
        for image_id in "ab":
            answered = {"": {"tessellated": "absent"}} if name == "anna" and image_id == "a" else {}
            body = answer(findings=findings, normal=not findings, choices=answered)
            assert page_of(study, name).put(image_id, body).status_code == 200
    page_of(study, "anna").put("c", answer(normal=True, choices={"": {"tessellated": "present"}}))
    for image_id in "ab":
        body = {"finding": "hemorrhage", "present": False, "regions": [], "version": 0}
        assert page_of(study, "ada").put(image_id, body, "/api/adjudication/{}").status_code == 200
    table = consensus(read_manifest(export_study(study, tmp_path / "export")).readings, present=1)
    found = {(image_id, finding): label for image_id, finding, label in table.drop(columns="regions").to_numpy()}
    assert found == {("a", "tessellated"): "absent", ("c", "tessellated"): "present"}


@pytest.mark.sqlite
def test_a_decision_holds_when_nobody_answers_any_more(study: Study, ada: Page, tmp_path: Path) -> None:
    assert decide(ada, "c", "tessellated", "absent").status_code == 200
    for name in ("anna", "ben"):  # both take their answers back
        page_of(study, name).put("c", answer(1, **said("moderate", "", "")))
    table = consensus(read_manifest(export_study(study, tmp_path / "export")).readings, findings=["tessellated"])
    found = table[(table["image_id"] == "c") & (table["finding"] == "tessellated")]
    assert found["label"].tolist() == ["absent"]


def test_a_finding_that_all_leave_open_is_unknown() -> None:
    rows = [("a", "anna", "x", "", "y"), ("a", "ben", "", "", "x;y"), ("b", "anna", "", "", "y")]
    rows += [("b", "ben", "", "", "")]
    table = pd.DataFrame(rows, columns=["image_id", "annotator_id", "finding", "regions", "unanswered"])
    found = consensus(table, present=1, findings=["x", "y"]).drop(columns="regions").to_numpy().tolist()
    assert found == [["a", "x", "present"], ["b", "x", "absent"], ["b", "y", "absent"]]


@pytest.mark.sqlite
def test_a_decision_that_a_killed_server_acknowledged_is_kept(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photographs")
    asked = "questions={grade:{choices:[none,mild,severe],adjudicate:true}}"
    server = Server("data.root=photographs", "folder=study", "annotators=[anna,ben]", "adjudicators=[ada]", asked,
                    "finding.names=[]", folder=tmp_path)  # fmt: skip
    people = {name: httpx2.Client(base_url=server.address, timeout=20) for name in server.links}
    tokens = {}
    for name, client in people.items():
        assert client.get(server.links[name]).status_code in (303, 200, 404)
        tokens[name] = {"X-CSRF-Token": client.get("/api/session").json()["csrf"]}
    for name, grade in (("anna", "none"), ("ben", "severe")):
        for image_id in "abcd":
            body = answer(findings={}, normal=False, disc=None, fovea=None, choices={"": {"grade": grade}})
            sent = people[name].put(f"/api/images/{image_id}/answer", json=body, headers=tokens[name])
            assert sent.status_code == 200, sent.text
    versions: dict[str, int] = dict.fromkeys("abcd", 0)
    kept: dict[str, str] = {}
    clicks = threading.Semaphore(0)

    def click() -> None:
        for number in range(10_000):
            image_id, choice = "abcd"[number % 4], ("none", "mild", "severe")[number % 3]
            body = {"finding": "", "question": "grade", "choice": choice, "version": versions[image_id]}
            body["change"] = str(uuid4())
            try:
                sent = people["ada"].put(f"/api/adjudication/{image_id}/choice", json=body, headers=tokens["ada"])
            except httpx2.TransportError:
                return
            assert sent.status_code == 200, sent.text
            versions[image_id], kept[image_id] = sent.json()["version"], choice
            clicks.release()

    thread = threading.Thread(target=click)
    thread.start()
    for _ in range(20):
        assert clicks.acquire(timeout=60)
    server.kill()
    thread.join()
    server.start(server.port)
    try:
        cases = people["ada"].get("/api/adjudication").json()
    finally:
        assert server.stop() == 0
    stored = {case["image_id"]: case["decision"] for case in cases}
    for image_id, version in versions.items():  # the one that was on its way may have arrived
        assert stored[image_id]["version"] in (version, version + 1)
        assert stored[image_id]["version"] > version or stored[image_id]["choice"] == kept[image_id]


@pytest.mark.sqlite
def test_a_study_may_adjudicate_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: [each.close() for each in sockets])
    words = ["annotate", "data.root=photographs", "port=0", "folder=study", "annotators=[anna,ben,cleo]"]
    assert main([*words, "questions={grade:{choices:[none,mild]}}"]) == 0
    study = open_study(tmp_path / "study", READERS, questions=as_questions({"grade": {"choices": ["none", "mild"]}}))
    page_of(study, "anna").put("a", answer(normal=True, choices={"": {"grade": "mild"}}))
    assert main([*words, "questions={grade:{choices:[none,mild],adjudicate:true}}"]) == 0
    capsys.readouterr()
    assert main([*words, "questions={grade:{choices:[none,mild],adjudicate:maybe}}"]) == 2
    assert "questions.grade.adjudicate=maybe is not true or false" in capsys.readouterr().err
    assert main([*words]) == 0
    with study.storage.read() as connection:
        assert json.loads(setting(connection, "settings") or "")["questions"]["grade"]["adjudicate"] is True
