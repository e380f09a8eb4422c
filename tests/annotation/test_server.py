"""The page's requests, answered by the real application over a real database file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
import sqlalchemy as sa
from studies import Page, answer, client_of, link_of, open_study

from fundusnet.annotation.tables import answers
from fundusnet.data.regions import REGIONS


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """One person alone, before four images."""
    return Page(client_of(open_study(tmp_path)))


def test_without_names_one_person_reads_everything(page: Page) -> None:
    assert page.session["annotator"]["name"] == "me"
    queue = page.get("/api/queue").json()["images"]
    assert sorted(entry["image_id"] for entry in queue) == ["a", "b", "c", "d"]
    assert {entry["state"] for entry in queue} == {"todo"}


def test_the_session_describes_findings_and_regions(page: Page) -> None:
    assert [(f["name"], f["label"]) for f in page.session["findings"]] == [
        ("drusen", "Drusen"),
        ("hemorrhage", "Hemorrhage"),
        ("rnfl_defect", "RNFL defect"),
    ]
    assert {region["id"]: region["name"] for region in page.session["regions"]} == REGIONS
    assert page.session["progress"] == {"done": 0, "total": 4}


def test_an_answer_is_kept_once_and_not_overwritten_by_another_tab(page: Page) -> None:
    first = answer(findings={"drusen": ["macula"]})
    assert page.put("a", first).json() == {"version": 1, "progress": {"done": 1, "total": 4}}
    assert page.put("a", first).json()["version"] == 1
    other = page.put("a", answer(version=0, normal=True))
    assert other.status_code == 409
    assert other.json()["answer"]["findings"] == {"drusen": ["macula"]}
    assert other.json()["answer"]["version"] == 1
    # "Keep mine": the same answer, made from what is stored now.
    assert page.put("a", answer(version=1, normal=True)).json()["version"] == 2
    # The first tab's request, sent again after all this because its reply was lost, is still known.
    assert page.put("a", first).json()["version"] == 1
    stored = page.get("/api/images/a").json()["answer"]
    assert (stored["version"], stored["normal"], stored["findings"]) == (2, True, {})


def test_an_answer_comes_back_as_it_was_sent(page: Page) -> None:
    body = answer(findings={"rnfl_defect": ["temporal", "disc_superior"]}, comment="é", seconds=12.25, disc=[80.5, 50])
    page.put("c", body)
    stored = page.get("/api/images/c").json()
    assert stored["answer"] == {
        "version": 1,
        "findings": {"rnfl_defect": ["disc_superior", "temporal"]},
        "normal": False,
        "ungradable": None,
        "comment": "é",
        "disc": [80.5, 50.0],
        "fovea": [45.0, 52.0],
        "disc_origin": "placed",
        "fovea_origin": "placed",
        "state": "done",
        "seconds": 12.25,
    }
    assert (stored["points"], stored["disc"], stored["fovea"]) == ("answer", [80.5, 50.0], [45.0, 52.0])


def test_every_version_is_kept(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    page = Page(client_of(study))
    for version, regions in enumerate((["macula"], ["macula", "temporal"], ["temporal"])):
        page.put("a", answer(version=version, findings={"drusen": regions}))
    with study.storage.read() as connection:
        rows = connection.execute(sa.select(answers.c.version, answers.c.content).order_by(answers.c.version)).all()
    assert [(row.version, row.content["findings"]["drusen"]) for row in rows] == [
        (1, ["macula"]),
        (2, ["macula", "temporal"]),
        (3, ["temporal"]),
    ]


def test_progress_counts_what_is_answered(page: Page) -> None:
    page.put("a", answer())
    page.put("b", answer(state="ungradable", ungradable="blurred"))
    page.put("c", answer(state="skipped"))
    assert page.put("d", answer(state="todo")).json()["progress"] == {"done": 2, "total": 4}
    states = {entry["image_id"]: entry["state"] for entry in page.get("/api/queue").json()["images"]}
    assert states == {"a": "done", "b": "ungradable", "c": "skipped", "d": "todo"}


def test_an_invalid_answer_is_refused_in_one_line_and_nothing_is_kept(page: Page) -> None:
    for body, words in (
        (answer(findings={"drusn": ["macula"]}), "unknown finding 'drusn'"),
        (answer(disc=[500, 5]), "outside the photograph of 120x100"),
        (answer(version="1"), "version: Input should be a valid integer"),
        ({}, "version: Field required"),
    ):
        refused = page.put("a", body)
        assert refused.status_code == 422
        assert words in refused.json()["error"]
        assert "\n" not in refused.json()["error"]
    assert page.get("/api/images/a").json()["answer"]["version"] == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"disc": NaN}', b"1" * 30])
def test_a_body_that_is_not_an_answer_is_refused(page: Page, content: bytes) -> None:
    headers = {"X-CSRF-Token": page.session["csrf"], "Content-Type": "application/json"}
    refused = page.client.put("/api/images/a/answer", content=content, headers=headers)
    assert refused.status_code == 422
    assert set(refused.json()) == {"error", "code"}


def test_a_change_belongs_to_one_image(page: Page) -> None:
    body = answer()
    page.put("a", body)
    refused = page.put("b", body)
    assert refused.status_code == 422
    assert "another image" in refused.json()["error"]


@pytest.mark.parametrize("image_id", ["nothing", "..", "a.png", "%2e%2e", "a%2f..%2fb", "a%00", "é", "x" * 5000])
def test_an_image_that_is_not_there_is_not_found(page: Page, image_id: str) -> None:
    for address in (f"/api/images/{image_id}", f"/api/images/{image_id}/photograph"):
        assert page.get(address).status_code in (404, 405)
    assert page.put(image_id, answer()).status_code in (404, 405)


def test_odd_ids_work(tmp_path: Path) -> None:
    names = ["a b", "50%", "é#1", "q?x=1", "semi;colon", "NA"]
    page = Page(client_of(open_study(tmp_path, images=names)))
    assert {entry["image_id"] for entry in page.get("/api/queue").json()["images"]} == set(names)
    for name in names:
        assert page.get(f"/api/images/{quoted(name)}").json()["image_id"] == name
        assert page.put(quoted(name), answer()).json()["version"] == 1


def test_the_manifests_points_come_first_then_the_last_position_mirrored(tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    open_study(tmp_path / "drawn", images="abcde")
    (tmp_path / "drawn" / "photographs").rename(root)
    rows = ["image_id,path,disc_x,disc_y,fovea_x,fovea_y", "a,a.png,81,51,46,53", "c,c.png,82,,,"]
    (root / "images.csv").write_text("\n".join([*rows, *(f"{name},{name}.png,,,," for name in "bde")]))
    page = Page(client_of(open_study(tmp_path, source="csv")))
    first = page.get("/api/images/a").json()
    assert (first["points"], first["disc"], first["fovea"]) == ("manifest", [81, 51], [46, 53])
    guess = page.get("/api/images/b").json()
    assert guess["points"] == "guess"
    assert guess["eye_guess"] == "left"
    assert guess["disc"][0] < guess["fovea"][0]

    page.put("c", answer(disc=[80, 45], fovea=[50, 50]))  # a right eye, in a field of 92 pixels around (60, 50)
    left, right = page.get("/api/images/b").json(), page.get("/api/images/e").json()
    assert left["points"] == right["points"] == "guess"
    assert (left["disc"], left["fovea"]) == (near(40, 45), near(70, 50))
    assert (right["disc"], right["fovea"]) == (near(80, 45), near(50, 50))
    page.put("b", answer(disc=[38, 44], fovea=[68, 51]))  # the left eye, moved a little: now the last
    assert page.get("/api/images/d").json()["disc"] == near(38, 44)
    assert page.get("/api/images/e").json()["disc"] == near(82, 44)


def near(x: float, y: float) -> Any:
    """Equal but for what finding the lit field rounds."""
    return pytest.approx([x, y], abs=1.5)


def test_a_manifests_point_outside_the_picture_is_ignored(tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    open_study(tmp_path / "drawn", images="a")
    (tmp_path / "drawn" / "photographs").rename(root)
    (root / "images.csv").write_text("image_id,path,disc_x,disc_y,fovea_x,fovea_y\na,a.png,221,50,46,53\n")
    shown = Page(client_of(open_study(tmp_path, source="csv"))).get("/api/images/a").json()
    assert shown["points"] == "guess"
    assert 0 <= shown["disc"][0] <= shown["width"]


def test_photographs_at_screen_and_full_size(tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    root.mkdir()
    large = np.full((1500, 3000, 3), 90, np.uint8)
    large[:, :1500] = 160
    cv2.imwrite(str(root / "large.png"), large)
    page = Page(client_of(open_study(tmp_path)))
    described = page.get("/api/images/large").json()
    assert (described["width"], described["height"]) == (3000, 1500)
    for size, shape in (("screen", (800, 1600, 3)), ("full", (1500, 3000, 3))):
        sent = page.get(f"/api/images/large/photograph?size={size}")
        assert sent.headers["content-type"] == "image/jpeg"
        assert cv2.imdecode(np.frombuffer(sent.content, np.uint8), cv2.IMREAD_COLOR).shape == shape
        again = page.get(f"/api/images/large/photograph?size={size}", headers={"If-None-Match": sent.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert page.get("/api/images/large/photograph?size=huge").status_code == 422


def test_an_unreadable_photograph_can_be_marked_ungradable(tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    root.mkdir()
    (root / "broken.jpg").write_bytes(b"no picture")
    page = Page(client_of(open_study(tmp_path)))
    for address in ("/api/images/broken", "/api/images/broken/photograph"):
        refused = page.get(address)
        assert refused.status_code == 422
        assert "not a picture" in refused.json()["error"]
    body = answer(state="ungradable", ungradable="damaged file", disc=None, fovea=None)
    assert page.put("broken", body).json()["progress"] == {"done": 1, "total": 1}


def test_annotators_are_blind_to_each_other(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben", "cleo"], ["ada"])
    anna, ben = (Page(client_of(study, links=True), link_of(study, name)) for name in ("anna", "ben"))
    anna.put("a", answer(comment="seen by anna"))
    assert ben.get("/api/images/a").json()["answer"]["version"] == 0
    for address in ("/api/overview", "/api/adjudication", "/api/adjudication/a"):
        assert ben.get(address).status_code == 403
    everything = [ben.get(f"/api/images/{name}").text for name in "abcd"]
    assert not any("anna" in text for text in [ben.get("/api/queue").text, ben.get("/api/session").text, *everything])
    change: dict[str, Any] = {"finding": "drusen", "present": False, "regions": [], "version": 0}
    assert ben.put("a", change, "/api/adjudication/{}").status_code == 403


def test_only_assigned_images_can_be_read(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben", "cleo", "dora"], readings=1, images="abcdefgh")
    anna = Page(client_of(study, links=True), link_of(study, "anna"))
    own = {entry["image_id"] for entry in anna.get("/api/queue").json()["images"]}
    assert len(own) == 2
    other = next(name for name in "abcdefgh" if name not in own)
    assert anna.get(f"/api/images/{other}").status_code == 404
    assert anna.get(f"/api/images/{other}/photograph").status_code == 404
    assert anna.put(other, answer()).status_code == 404


def test_two_annotators_may_use_the_same_change(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben"])
    body = answer()
    for name in ("anna", "ben"):
        assert Page(client_of(study, links=True), link_of(study, name)).put("a", body).json()["version"] == 1


def test_pages_and_their_parts_are_served(page: Page) -> None:
    assert "<" in page.get("/").text
    assert page.get("/").headers["content-type"].startswith("text/html")
    assert page.get("/static/../server.py").status_code == 404
    assert page.get("/static/%2e%2e/server.py").status_code == 404
    assert page.get("/docs").status_code == page.get("/openapi.json").status_code == 404


def quoted(name: str) -> str:
    """What ``encodeURIComponent`` makes of an id."""
    return quote(name, safe="")
