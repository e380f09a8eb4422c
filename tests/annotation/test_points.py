"""Only points that readers placed vote; guesses stay guesses, and readers who disagree are shown."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies import Page, answer, client_of, link_of, open_study

from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.annotation.tallies import disagreement
from fundusnet.data.manifest import read_manifest

READERS = ["anna", "ben", "cleo"]
GUESSED = {"disc_origin": "guessed", "fovea_origin": "guessed"}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(tmp_path, READERS, ["ada"])


def page(study: Study, name: str) -> Page:
    return Page(client_of(study, links=True), link_of(study, name))


def read(study: Study, image_id: str, *given: dict[str, Any]) -> None:
    for name, changes in zip(READERS, given, strict=False):
        assert page(study, name).put(image_id, answer(**changes)).status_code == 200


def points(study: Study, folder: Path, image_id: str) -> list[float]:
    images = read_manifest(export_study(study, folder)).images.set_index("image_id")
    return list(images.loc[image_id, ["disc_x", "disc_y", "fovea_x", "fovea_y"]])


def test_one_placed_point_outvotes_two_guesses(study: Study, tmp_path: Path) -> None:
    read(study, "a", GUESSED, GUESSED, {"disc": [88, 40], "fovea": [52, 44]})
    assert points(study, tmp_path / "out", "a") == [88, 40, 52, 44]


def test_each_point_has_its_own_vote(study: Study, tmp_path: Path) -> None:
    read(study, "a", {"disc": [88, 40], "fovea_origin": "guessed"}, {"disc": [90, 42], "fovea": [50, 44]}, GUESSED)
    assert points(study, tmp_path / "out", "a") == [89, 41, 50, 44]


@pytest.mark.parametrize("origin", ["guessed", "localised"])
def test_points_that_nobody_placed_are_not_measured(
    study: Study, tmp_path: Path, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    read(study, "a", *[{"disc_origin": origin, "fovea_origin": origin}] * 3)
    assert pd.isna(points(study, tmp_path / "out", "a")).all()
    assert "1 images have regions, but nobody placed disc and fovea" in caplog.text


def test_the_export_says_where_every_point_comes_from(study: Study, tmp_path: Path) -> None:
    read(study, "a", GUESSED, {"disc": [88.5, 40]}, {"disc": None, "fovea": None, "normal": True})
    table = pd.read_csv(export_study(study, tmp_path / "out") / "points.csv")
    assert table.to_numpy().tolist() == [
        ["a", "anna", 80.0, 50.0, "guessed", 45.0, 52.0, "guessed"],
        ["a", "ben", 88.5, 40.0, "placed", 45.0, 52.0, "placed"],
    ]


def test_a_page_of_0_1_0_is_told_by_where_its_points_are(study: Study) -> None:
    unsaid = {"disc_origin": None, "fovea_origin": None}
    anna = page(study, "anna")

    def stored(image_id: str) -> tuple[str, str]:
        found = anna.get(f"/api/images/{image_id}").json()["answer"]
        return found["disc_origin"], found["fovea_origin"]

    offered = anna.get("/api/images/a").json()
    body = answer(disc=offered["disc"], fovea=offered["fovea"], **unsaid)
    anna.put("a", body)
    assert stored("a") == ("guessed", "guessed")
    x, y = offered["disc"]
    anna.put("a", answer(version=1, disc=[x + 3, y], fovea=offered["fovea"], **unsaid))
    assert stored("a") == ("placed", "guessed")
    anna.put("a", answer(version=2, disc=[x + 3, y], fovea=offered["fovea"], comment="no", **unsaid))
    assert stored("a") == ("placed", "guessed")
    copied = anna.get("/api/images/c").json()  # guessed as on a
    anna.put("c", answer(disc=copied["disc"], fovea=copied["fovea"], **unsaid))
    assert stored("c") == ("guessed", "guessed")


def test_points_of_the_manifest_are_no_guess(tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    open_study(tmp_path / "drawn", images="a")
    (tmp_path / "drawn" / "photographs").rename(root)
    (root / "images.csv").write_text("image_id,path,disc_x,disc_y,fovea_x,fovea_y\na,a.png,81,51,46,53\n")
    study = open_study(tmp_path, READERS, source="csv")
    known = {"disc": [81, 51], "fovea": [46, 53], "disc_origin": None, "fovea_origin": None}
    read(study, "a", known, known)
    assert page(study, "anna").get("/api/images/a").json()["answer"]["disc_origin"] == "placed"
    assert points(study, tmp_path / "out", "a") == [81, 51, 46, 53]


@pytest.mark.sqlite
def test_answers_of_0_1_0_count_as_placed(study: Study, tmp_path: Path) -> None:
    read(study, "a", {"disc": [88, 40]})
    study.storage.close()
    with sqlite3.connect(tmp_path / "study.sqlite") as connection:
        connection.execute("UPDATE answers SET content = json_remove(content, '$.disc_origin', '$.fovea_origin')")
    assert points(open_study(tmp_path, READERS), tmp_path / "out", "a")[:2] == [88, 40]


def test_readers_whose_points_disagree_are_shown_to_the_adjudicator(study: Study) -> None:
    read(study, "a", {}, {}, {"disc": [45, 52], "fovea": [80, 50]})  # taken for the other eye
    read(study, "b", {}, {"disc": [80, 62]})
    read(study, "c", {}, {"disc": [83, 52]})
    read(study, "d", {}, {"disc": [10, 90], **GUESSED})  # not the reader's
    ada = page(study, "ada")
    found = ada.get("/api/overview").json()
    assert found["points"] == [{"image_id": "a", "points": "mirrored"}, {"image_id": "b", "points": "apart"}]
    assert found["counts"]["points"] == 2
    assert ada.get("/api/adjudication/a").json()["points_disagree"] == "mirrored"
    readings = ada.get("/api/adjudication/d").json()["readings"]
    assert sorted((each["disc_origin"], each["disc"]) for each in readings) == [
        ("guessed", [10, 90]),
        ("placed", [80, 50]),
    ]


def test_apart_is_measured_in_distances_from_disc_to_fovea() -> None:
    def reading(disc: tuple[float, float], scale: float = 1) -> dict[str, Any]:
        return {"disc": [disc[0] * scale, disc[1] * scale], "fovea": [0, 0]}

    assert disagreement([reading((100, 0)), reading((124, 0))]) == ""
    assert disagreement([reading((100, 0)), reading((126, 0))]) == "apart"
    assert disagreement([reading((100, 0), 9), reading((124, 0), 9)]) == ""
    assert disagreement([reading((100, 0)), reading((-100, 0))]) == "mirrored"
    assert disagreement([reading((100, 0))]) == ""
