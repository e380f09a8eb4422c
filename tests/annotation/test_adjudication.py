"""Undecided findings of three readers, decisions on them, and the overview of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from studies import Page, answer, client_of, link_of, open_study

from fundusnet.annotation.study import Study

DRUSEN, BLEEDING = {"drusen": ["macula"]}, {"hemorrhage": ["temporal"]}
NO_GROUP = {"group": "", "active": True}
# What anna, ben and cleo say of each image.
SAID: dict[str, list[dict[str, list[str]] | str]] = {
    "a": [DRUSEN, DRUSEN, {"drusen": ["temporal"], **BLEEDING}],
    "b": [{}, {}, {}],
    "c": [BLEEDING, {}, "blurred"],
    "d": [DRUSEN, {}],
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Three readers and an adjudicator; cleo has not read d yet."""
    study = open_study(tmp_path, ["anna", "ben", "cleo"], ["ada"])
    for place, name in enumerate(["anna", "ben", "cleo"]):
        page = Page(client_of(study, links=True), link_of(study, name))
        for image_id, said in SAID.items():
            if place >= len(said):
                continue
            what = said[place]
            if isinstance(what, str):
                body = answer(state="ungradable", ungradable=what, seconds=99, comment="cleo's")
            else:
                body = answer(findings=what, normal=not what, seconds=float(place + 1), comment=f"{name}'s")
            assert page.put(image_id, body).status_code == 200
    return study


@pytest.fixture
def ada(study: Study) -> Page:
    """The adjudicator's page."""
    return Page(client_of(study, links=True), link_of(study, "ada"))


def decide(page: Page, image_id: str, finding: str, version: int = 0, **changes: Any) -> Any:
    body = {"finding": finding, "present": False, "regions": [], "version": version} | changes
    return page.put(image_id, body, "/api/adjudication/{}")


def test_overview(ada: Page) -> None:
    found = ada.get("/api/overview").json()
    assert found["images"] == 4
    assert found["annotators"] == [
        NO_GROUP | {"name": "anna", "done": 4, "total": 4, "median_seconds": 1.0},
        NO_GROUP | {"name": "ben", "done": 4, "total": 4, "median_seconds": 2.0},
        NO_GROUP | {"name": "cleo", "done": 3, "total": 4, "median_seconds": 3.0},
    ]
    # d waits for cleo; drusen in a and nothing in b are agreed on.
    assert found["undecided"] == [
        {"image_id": "a", "finding": "hemorrhage", "present": 1, "readings": 3},
        {"image_id": "c", "finding": "hemorrhage", "present": 1, "readings": 2},
    ]
    assert found["ungradable"] == [{"image_id": "c", "reasons": ["blurred"], "comments": ["cleo's"], "readings": 3}]


def test_agreement_in_the_overview_by_hand(ada: Page) -> None:
    drusen, bleeding, defect = ada.get("/api/overview").json()["agreement"]
    # drusen yes/no: a (3, 0), b (0, 3), c (0, 2), d (1, 1): P = (1 + 1 + 1 + 0) / 4, yes 4 of 10.
    assert drusen["kappa_image"] == pytest.approx((0.75 - 0.52) / 0.48)
    assert (drusen["images"], drusen["present"]) == (4, 1)
    # hemorrhage: a (1, 2), b (0, 3), c (1, 1), d (0, 2): P = (1/3 + 1 + 0 + 1) / 4, yes 2 of 10.
    assert bleeding["kappa_image"] == pytest.approx((7 / 12 - 0.68) / 0.32)
    assert defect["kappa_image"] is None
    assert defect["reason"] == "all readings agree"
    assert "reason" not in drusen


def test_an_unread_study_has_no_agreement(tmp_path: Path) -> None:
    page = Page(client_of(open_study(tmp_path)))
    found = page.get("/api/overview").json()
    assert found["undecided"] == found["ungradable"] == []
    assert {row["reason"] for row in found["agreement"]} == {"no image has two readings yet"}
    assert found["annotators"] == [NO_GROUP | {"name": "me", "done": 0, "total": 4, "median_seconds": None}]


def test_a_single_reader_leaves_nothing_undecided(tmp_path: Path) -> None:
    page = Page(client_of(open_study(tmp_path)))
    page.put("a", answer())
    assert page.get("/api/adjudication").json() == []


def test_readings_are_shown_side_by_side_without_names(ada: Page) -> None:
    shown = ada.get("/api/adjudication/c").json()
    assert shown["undecided"] == ["hemorrhage"]
    assert [reading["annotator"] for reading in shown["readings"]] == ["A", "B", "C"]
    assert sorted(str(reading["ungradable"]) for reading in shown["readings"]) == ["None", "None", "blurred"]
    assert [r["findings"] for r in shown["readings"] if r["findings"]] == [BLEEDING]
    assert "anna" not in str({**shown, "readings": [{**r, "comment": ""} for r in shown["readings"]]})
    assert (shown["points"], shown["disc"]) == ("answer", [80.0, 50.0])
    assert shown == ada.get("/api/adjudication/c").json()
    assert ada.get("/api/images/c/photograph").status_code == 200
    assert ada.get("/api/adjudication/nothing").status_code == 404


def test_a_decision_is_kept_and_can_be_changed(ada: Page) -> None:
    assert decide(ada, "a", "hemorrhage", present=True, regions=["temporal", "macula"]).json() == {"version": 1}
    stored = {"present": True, "regions": ["macula", "temporal"], "version": 1}
    assert ada.get("/api/adjudication/a").json()["decisions"] == {"hemorrhage": stored}
    assert ada.get("/api/adjudication").json() == [
        {"image_id": "a", "finding": "hemorrhage", "question": "", "decision": stored},
        {"image_id": "c", "finding": "hemorrhage", "question": "", "decision": None},
    ]
    assert [row["image_id"] for row in ada.get("/api/overview").json()["undecided"]] == ["c"]
    stale = decide(ada, "a", "hemorrhage")
    assert stale.status_code == 409
    assert stale.json()["decision"] == stored
    assert decide(ada, "a", "hemorrhage", version=1, present=None).json() == {"version": 2}
    assert [row["image_id"] for row in ada.get("/api/overview").json()["undecided"]] == ["a", "c"]


def test_a_decision_sent_twice_is_stored_once(ada: Page) -> None:
    change = str(uuid4())
    assert decide(ada, "a", "hemorrhage", change=change).json() == {"version": 1}
    assert decide(ada, "a", "hemorrhage", change=change).json() == {"version": 1}


@pytest.mark.parametrize(("image_id", "finding"), [("a", "drusen"), ("b", "drusen"), ("d", "drusen"), ("a", "x")])
def test_agreed_or_unfinished_findings_cannot_be_decided(ada: Page, image_id: str, finding: str) -> None:
    assert decide(ada, image_id, finding).status_code == 422
    assert decide(ada, "nothing", "drusen").status_code == 404


def test_an_adjudicator_reads_nothing(ada: Page) -> None:
    assert ada.session["annotator"]["role"] == "adjudicator"
    assert ada.get("/api/queue").json() == {"images": []}
    assert ada.get("/api/images/a").status_code == 404
    assert ada.put("a", answer()).status_code == 404
