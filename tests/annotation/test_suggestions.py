"""Suggestions of networks: for which images, in which order, made in the background, and stored."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from studies import Page, answer, client_of, link_of, open_study

from fundusnet.annotation.manifest_import import import_readings
from fundusnet.annotation.overview import overview
from fundusnet.annotation.queues import queue
from fundusnet.annotation.record import read_record
from fundusnet.annotation.storage import BusyError
from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.annotation.suggester import Suggester
from fundusnet.annotation.suggestions import (
    Suggestion,
    is_suggested,
    keep_suggestion,
    networks_digest,
    note_shown,
    recorded_shown,
    shown_to,
    stored_uncertainties,
    uncertain_order,
    uncertainty,
)
from fundusnet.annotation.tables import suggestions
from fundusnet.prediction.preparation import InputSpec, PreparedPhotograph

NETWORKS = networks_digest(["a" * 64])


@dataclass
class Networks:
    """Stands in for trained networks: sees drusen in the macula of every eye, hemorrhages in none."""

    specs: tuple[InputSpec, ...] = (InputSpec(64, None),)
    thresholds: dict[str, float] = field(default_factory=lambda: {"drusen": 0.4, "hemorrhage": 0.5, "own": 0.5})
    opened: int = 0
    seen: list[PreparedPhotograph] = field(default_factory=list)
    wait: threading.Event = field(default_factory=threading.Event)

    def open(self) -> Any:
        self.opened += 1
        return self

    def result_of(self, picture: PreparedPhotograph) -> Any:
        assert self.wait.wait(10)
        self.seen.append(picture)
        given = picture.points != (None, None)
        points = SimpleNamespace(disc=(80.0, 50.0), fovea=(45.0, 52.0), origin="given" if given else "localised")
        return SimpleNamespace(
            probability={"drusen": 0.8, "hemorrhage": 0.1, "own": 0.9},
            predicted={"drusen": True, "hemorrhage": False, "own": True},
            regions={"drusen": ("macula", "temporal"), "hemorrhage": (), "own": ("macula",)},
            points=points,
        )


def suggester_of(study: Study, networks: Networks, name: str = NETWORKS) -> Suggester:
    return Suggester(study.storage, study.photographs, study.findings, name, networks.open)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_share_of_the_images_has_suggestions_and_a_larger_share_adds_to_it() -> None:
    images = [f"eye{number}" for number in range(4000)]
    half, most = ({image for image in images if is_suggested(image, 7, share)} for share in (0.5, 0.8))
    assert len(half) == pytest.approx(2000, abs=130) and len(most) == pytest.approx(3200, abs=100)  # 4 deviations
    assert half < most
    assert half != {image for image in images if is_suggested(image, 8, 0.5)}
    assert all(is_suggested(image, 7, 1.0) for image in images)
    assert not any(is_suggested(image, 7, 0.0) for image in images)


def test_an_image_at_the_operating_point_is_most_uncertain() -> None:
    assert uncertainty({"a": 0.2}, {"a": 0.2}) == 1.0
    assert uncertainty({"a": 0.2, "b": 0.2}, {"a": 0.2, "b": 0.5}) == pytest.approx((1 + 4 * 0.2 * 0.8) / 2)
    # The odds of 0.5 are four times those of 0.2, which is the odds of 0.8 against those of 0.5.
    assert uncertainty({"a": 0.5}, {"a": 0.2}) == pytest.approx(4 * 0.8 * 0.2)
    assert uncertainty({"a": 0.0}, {"a": 0.5}) == pytest.approx(0, abs=1e-4) == uncertainty({"a": 1.0}, {"a": 0.5})
    assert uncertainty({}, {}) == 0


def test_the_most_uncertain_image_of_every_patient_comes_first() -> None:
    values = {"a1": 0.9, "a2": 0.8, "a3": 0.7, "b1": 0.5, "b2": 0.1, "c1": 0.6, "x": 0.95}
    patients = {name: name[0] for name in values if name != "x"}
    order = uncertain_order(values, [*values, "later"], patients, seed=0)
    assert order == ["x", "a1", "c1", "b1", "a2", "b2", "a3", "later"]


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0, 1), max_size=12),
    st.sets(st.text("abcdef", min_size=1, max_size=3), max_size=12),
    st.integers(0, 5),
)
def test_every_image_has_one_place(values: dict[str, float], more: set[str], seed: int) -> None:
    images = [*values, *(more - values.keys())]
    patients = {image: image[0] for image in images}
    order = uncertain_order(values, images, patients, seed)
    assert sorted(order) == sorted(images)
    assert order == uncertain_order(values, list(reversed(images)), patients, seed)
    for image in values:  # no patient has a second image before every other one has a first
        earlier = [patients[other] for other in order[: order.index(image)] if other in values]
        if earlier.count(patients[image]) >= 1:
            assert {patients[other] for other in values} == {*earlier, patients[image]}


def test_suggestions_are_made_ahead_and_stored(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path, ["anna"]), Networks()
    networks.wait.set()
    maker = suggester_of(study, networks)
    maker.start(["c", "a"])
    until(lambda: len(networks.seen) == 2)
    until(lambda: maker.ask("a"))
    found = maker.ask("a")
    assert found == {
        "findings": {"drusen": ["macula", "temporal"]},  # what is predicted, of the findings of the study
        "probabilities": {"drusen": 0.8, "hemorrhage": 0.1},
        "disc": [80.0, 50.0],
        "fovea": [45.0, 52.0],
        "points": "localised",
    }
    with study.storage.read() as connection:
        known = stored_uncertainties(connection, NETWORKS)
    assert known == {"a": known["c"], "c": uncertainty({"drusen": 0.8, "hemorrhage": 0.1}, networks.thresholds)}
    maker.close()
    again, later = Networks(), suggester_of(study, networks)
    later = suggester_of(study, again)
    later.start(["c", "a"])
    assert later.ask("c") is not None
    later.close()
    assert again.opened == 0 and networks.opened == 1  # all are stored: the networks are not even opened


def test_who_asks_never_waits_and_is_next(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path, ["anna"]), Networks()
    maker = suggester_of(study, networks)
    maker.start(["a", "b", "c"])
    begun = time.monotonic()
    assert maker.ask("d") is None and maker.ask("c") is None
    assert time.monotonic() - begun < 5  # the networks are still waiting
    networks.wait.set()
    until(lambda: len(networks.seen) == 4)
    maker.close()
    with study.storage.read() as connection:
        order = list(connection.scalars(sa.select(suggestions.c.image_id).order_by(suggestions.c.made)))
    assert order.index("c") < order.index("b") and order.index("d") < order.index("b")


def test_other_networks_suggest_anew(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path, ["anna"]), Networks()
    networks.wait.set()
    first = suggester_of(study, networks)
    first.start(["a"])
    until(lambda: first.ask("a"))
    first.close()
    second = suggester_of(study, networks, networks_digest(["b" * 64]))
    assert second.networks != first.networks
    second.start([])
    assert second.ask("a") is None
    until(lambda: second.ask("a"))
    second.close()


def test_given_points_are_used_and_an_unreadable_photograph_is_tried_again(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path, ["anna"]), Networks()
    networks.wait.set()
    file = tmp_path / "photographs" / "b.png"
    whole = file.read_bytes()
    file.write_bytes(b"torn")
    with study.storage.write() as connection:
        connection.execute(sa.text("UPDATE images SET disc_x=80, disc_y=50, fovea_x=45, fovea_y=52 WHERE image_id='a'"))
    maker = suggester_of(study, networks)
    maker.start(["a", "b"])
    reasons: list[str] = []
    until(lambda: reasons or reasons.extend(filter(None, [maker.why_not("b")])))
    assert "not a picture" in reasons[0] and maker.why_not("b") == "" and maker.failed == ""
    found = maker.ask("a")
    assert found and found["points"] == "given" and networks.seen[0].points == ((80.0, 50.0), (45.0, 52.0))
    file.write_bytes(whole)
    until(lambda: maker.ask("b"))
    maker.close()


def test_a_fault_ends_the_suggestions_and_not_the_study(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = open_study(tmp_path, ["anna"])

    def broken() -> Any:
        raise RuntimeError("out of memory")

    maker = Suggester(study.storage, study.photographs, study.findings, NETWORKS, broken)
    maker.start(["a"])
    until(lambda: maker.failed)
    assert maker.failed == "out of memory" and "no more suggestions" in caplog.text
    assert maker.ask("a") is None
    maker.close()


def test_a_busy_database_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundusnet.annotation.suggester.PAUSE", 0.01)
    study, networks = open_study(tmp_path, ["anna"]), Networks()
    networks.wait.set()
    write, refused = study.storage.write, iter([True, True, False, False])

    def busy() -> Any:
        if next(refused):
            raise BusyError("the database is locked")
        return write()

    monkeypatch.setattr(study.storage, "write", busy)
    maker = suggester_of(study, networks)
    maker.start(["a"])
    until(lambda: maker.ask("a"))
    maker.close()
    assert maker.failed == ""


def test_it_is_stored_once_who_was_shown_a_suggestion(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben"])
    with study.storage.write() as connection:
        for reader in (1, 1, 2):
            note_shown(connection, reader, "a", NETWORKS)
        note_shown(connection, 1, "b", NETWORKS)
        assert shown_to(connection) == {("anna", "a"), ("ben", "a"), ("anna", "b")}
        assert len(recorded_shown(connection)) == 3


def test_the_page_gets_suggestions_for_its_share_of_the_images_only(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path, ["anna", "ben"], images="abcdefgh", readings=1), Networks()
    maker = Suggester(study.storage, study.photographs, study.findings, NETWORKS, networks.open, study.seed, 0.5)
    maker.start("abcdefgh")
    client = client_of(study, links=True, suggester=maker)
    anna = Page(client, link_of(study, "anna"))
    own = [entry["image_id"] for entry in anna.get("/api/queue").json()["images"]]
    with_, without = ([name for name in own if maker.has(name) == yes] for yes in (True, False))
    assert with_ and without
    address = "/api/images/{}/suggestion"
    assert anna.get(address.format(with_[0])).json() == {"state": "waiting"}
    assert anna.put(with_[0], {}, address).status_code == 404  # nothing was shown yet
    networks.wait.set()
    until(lambda: anna.get(address.format(with_[0])).json()["state"] == "ready")
    found = anna.get(address.format(with_[0])).json()
    assert found["findings"] == {"drusen": ["macula", "temporal"]} and found["networks"] == NETWORKS
    until(lambda: len(networks.seen) == 8)
    assert anna.get(address.format(without[0])).json() == {"state": "none"}
    assert anna.put(without[0], {}, address).status_code == 404
    assert anna.put(with_[0], {}, address).json() == {"networks": NETWORKS}
    others = next(name for name in "abcdefgh" if name not in own)
    assert anna.get(address.format(others)).status_code == 404
    maker.close()
    with study.storage.read() as connection:
        assert {image for _, image in shown_to(connection)} == {with_[0]}


def test_without_networks_nothing_is_suggested_and_answers_are_as_before(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    page = Page(client_of(study))
    name = page.get("/api/queue").json()["images"][0]["image_id"]
    assert page.get(f"/api/images/{name}/suggestion").json() == {"state": "none"}
    assert page.put(name, answer()).json()["version"] == 1


def test_a_suggestion_is_no_answer(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path), Networks()
    networks.wait.set()
    maker = suggester_of(study, networks)
    maker.start("abcd")
    until(lambda: len(networks.seen) == 4)
    page = Page(client_of(study, suggester=maker))
    until(lambda: page.get("/api/images/a/suggestion").json()["state"] == "ready")
    page.put("a", {}, "/api/images/{}/suggestion")
    maker.close()
    assert page.get("/api/images/a").json()["answer"]["findings"] == {}
    overview = page.get("/api/overview").json()
    assert [row["present"] for row in overview["agreement"]] == [0, 0, 0]


def test_uncertain_images_come_first_in_every_queue(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben"], images="abcdef", readings=2)
    values = {"d": 0.9, "b": 0.4, "f": 0.7}
    with study.storage.write() as connection:
        for name, value in values.items():
            keep_suggestion(connection, name, NETWORKS, Suggestion(uncertainty=value))
            keep_suggestion(connection, name, "others", Suggestion(uncertainty=1 - value))
    people = study.people()
    random = [[entry["image_id"] for entry in queue(study, person)] for person in people]
    study.uncertain = NETWORKS
    queues = [[entry["image_id"] for entry in queue(study, person)] for person in people]
    assert queues[0][:3] == queues[1][:3] == ["d", "f", "b"] and random[0] != random[1]
    assert sorted(queues[0]) == list("abcdef")


def read(page: Page, name: str, findings: dict[str, list[str]], *, shown: bool = False) -> None:
    if shown:
        assert page.put(name, {}, "/api/images/{}/suggestion").status_code == 200
    body = answer(findings=findings) if findings else answer(normal=True)
    assert page.put(name, body).status_code == 200


@pytest.fixture
def two_readers(tmp_path: Path) -> tuple[Study, list[Page]]:
    """Six images read by anna and ben: a, b and c with a suggestion of drusen, d and e without, f with one for anna."""
    study, networks = open_study(tmp_path, ["anna", "ben"], images="abcdef", readings=2), Networks()
    networks.wait.set()
    maker = suggester_of(study, networks)
    maker.start("abcf")
    until(lambda: all(maker.ask(name) for name in "abcf"))
    pages = [Page(client_of(study, links=True, suggester=maker), link_of(study, name)) for name in ("anna", "ben")]
    drusen = {"drusen": ["macula"]}
    for page, marked in zip(pages, ("abd", "ab"), strict=True):
        for name in "abcdef":
            suggested = name in "abc" or (name == "f" and page is pages[0])
            read(page, name, drusen if name in marked else {}, shown=suggested)
    maker.close()
    return study, pages


def test_agreement_with_and_without_suggestions_worked_by_hand(two_readers: tuple[Study, list[Page]]) -> None:
    study, _ = two_readers
    found = overview(study)["suggestions"]
    assert (found["with"], found["without"], found["mixed"]) == (3, 2, 1)
    drusen, hemorrhage, _ = found["findings"]
    # With: both mark a and b, nobody c. Without: anna alone marks d, nobody e: less than chance agreement.
    assert drusen["with"] == {"images": 3, "kappa_image": 1.0, "kappa_region": 1.0, "marked": pytest.approx(4 / 6)}
    assert drusen["without"]["kappa_image"] == pytest.approx((0.5 - 0.625) / (1 - 0.625))
    assert drusen["without"]["marked"] == 0.25
    assert (drusen["suggested"], drusen["confirmed"]) == (7, 4)  # three images twice, and f to anna
    assert (hemorrhage["suggested"], hemorrhage["confirmed"]) == (0, 0)


def test_without_suggestions_the_overview_has_none(tmp_path: Path) -> None:
    assert overview(open_study(tmp_path))["suggestions"] is None


def test_what_was_suggested_and_shown_is_exported_and_an_export_with_it_imported(
    two_readers: tuple[Study, list[Page]], tmp_path: Path
) -> None:
    study, _ = two_readers
    record = read_record(export_study(study, tmp_path / "export"))
    assert {each.image_id for each in record.suggestions} == set("abcf")
    assert record.suggestions[0].findings == {"drusen": ["macula", "temporal"]}
    assert {(each.annotator, each.image_id) for each in record.shown} == {
        *((name, image) for name in ("anna", "ben") for image in "abc"), ("anna", "f")
    }  # fmt: skip
    table = (tmp_path / "export" / "readings.csv").read_text()
    assert table.count("drusen") == 5  # what readers marked, and no suggestion
    (tmp_path / "again").mkdir()
    again = open_study(tmp_path / "again", ["anna", "ben"], images="abcdef", readings=2)
    assert import_readings(again, tmp_path / "export") == 12


def test_an_export_of_a_study_without_suggestions_is_as_before(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    folder = export_study(study, tmp_path / "export")
    assert set(json.loads((folder / "study.json").read_text())) == {
        "format", "study", "exported", "answers", "decisions"
    }  # fmt: skip
