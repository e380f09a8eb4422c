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

import numpy as np
import pandas as pd
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
from fundusnet.annotation.suggestion_effect import _seconds
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
ADDRESS = "/api/images/{}/suggestion"


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
    write, refused = study.storage.write, iter([False, True, True, False, False])  # the first at the start

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
        for image in "ab":
            keep_suggestion(connection, image, NETWORKS, Suggestion())
        for reader in (1, 1, 2):
            assert note_shown(connection, reader, "a", NETWORKS)
        assert note_shown(connection, 1, "b", NETWORKS)
        assert not note_shown(connection, 1, "c", NETWORKS), "nothing was suggested for it"
        assert shown_to(connection) == dict.fromkeys([("anna", "a"), ("ben", "a"), ("anna", "b")], NETWORKS)
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
    assert anna.get(ADDRESS.format(with_[0])).json() == {"state": "waiting"}
    assert shown(anna, with_[0]) == 404  # nothing was shown yet
    networks.wait.set()
    until(lambda: anna.get(ADDRESS.format(with_[0])).json()["state"] == "ready")
    found = anna.get(ADDRESS.format(with_[0])).json()
    assert found["findings"] == {"drusen": ["macula", "temporal"]} and found["networks"] == NETWORKS
    until(lambda: len(networks.seen) == 8)
    assert anna.get(ADDRESS.format(without[0])).json() == {"state": "none"}
    assert shown(anna, without[0]) == 404
    assert shown(anna, with_[0], "f" * 16) == 404
    assert shown(anna, with_[0]) == 200
    others = next(name for name in "abcdefgh" if name not in own)
    assert anna.get(ADDRESS.format(others)).status_code == 404
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
    assert shown(page, "a") == 200
    maker.close()
    assert page.get("/api/images/a").json()["answer"]["findings"] == {}
    overview = page.get("/api/overview").json()
    assert [row["present"] for row in overview["agreement"]] == [0, 0, 0]


def test_a_reading_rests_on_one_suggestion_or_none(tmp_path: Path) -> None:
    """Whoever was shown one keeps it when other networks come; whoever finished an image without gets none."""
    study, networks = open_study(tmp_path, ["anna", "ben"], images="ab", readings=2), Networks()
    networks.wait.set()
    links = [link_of(study, name) for name in ("anna", "ben")]
    first, second = (suggester_of(study, networks, networks_digest([letter * 64])) for letter in "ab")
    pages = [Page(client_of(study, links=True, suggester=first), link) for link in links]
    for maker in (first, second):
        maker.start("ab")
        until(lambda maker=maker: maker.ask("a") and maker.ask("b"))
    read(pages[1], "b", {})
    assert pages[1].get(ADDRESS.format("b")).json() == {"state": "none"}
    assert shown(pages[0], "a") == 200
    read(pages[0], "a", {}, {"drusen": "refused"})
    assert first.offer(1, "a")["networks"] == NETWORKS == second.offer(1, "a")["networks"], "also when it is finished"
    assert second.offer(2, "a")["networks"] == second.networks
    assert second.offer(2, "b") == {"state": "none"}
    for maker in (first, second):
        maker.close()


def test_an_image_read_before_the_networks_looked_at_it_counts_for_neither_side(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path, ["anna"], images="abcdefgh", readings=1), Networks()
    maker = Suggester(study.storage, study.photographs, study.findings, NETWORKS, networks.open, study.seed, 0.5)
    maker.start("abcdefgh")
    anna = Page(client_of(study, links=True, suggester=maker), link_of(study, "anna"))
    with_, without = ([name for name in "abcdefgh" if maker.has(name) == yes] for yes in (True, False))
    assert len(with_) > 1
    read(anna, with_[0], {})  # the networks are slower
    networks.wait.set()
    until(lambda: len(networks.seen) == 8)
    for name in with_[1:]:
        assert shown(anna, name) == 200
        read(anna, name, {}, {"drusen": "refused"})
    for name in without:
        read(anna, name, {})
    images = overview(study)["suggestions"]["images"]
    assert images == {"with": len(with_) - 1, "without": len(without), "mixed": 0, "before": 1}

    # Opened again, the first is still a reading without.
    body = answer(version=1, findings={}, normal=True, state="todo")
    assert anna.put(with_[0], body).status_code == 200
    assert anna.get(ADDRESS.format(with_[0])).json() == {"state": "none"}
    maker.close()

    # A smaller share takes no suggestion from those who had it.
    less = Suggester(study.storage, study.photographs, study.findings, NETWORKS, networks.open, study.seed, 0.0)
    less.start("")
    anna = Page(client_of(study, links=True, suggester=less), link_of(study, "anna"))
    assert anna.get(ADDRESS.format(with_[1])).json()["state"] == "ready"
    assert shown(anna, with_[1]) == 200
    assert anna.get(ADDRESS.format(with_[0])).json() == {"state": "none"}
    assert shown(anna, with_[0]) == 404
    less.close()


def test_an_answer_says_which_suggestion_it_had_even_if_the_page_could_not(tmp_path: Path) -> None:
    study, networks = open_study(tmp_path, ["anna"], readings=1), Networks()
    networks.wait.set()
    maker = suggester_of(study, networks)
    maker.start("ab")
    until(lambda: maker.ask("a") and maker.ask("b"))
    maker.close()
    anna = Page(client_of(study, links=True, suggester=maker), link_of(study, "anna"))
    read(anna, "a", {}, {"drusen": "refused"})
    assert anna.get("/api/images/a").json()["answer"]["suggestion"]["verdicts"] == {"drusen": "refused"}
    read(anna, "b", {})
    assert "suggestion" not in anna.get("/api/images/b").json()["answer"]
    unknown = {"networks": "e" * 16, "verdicts": {"drusen": "confirmed"}}  # of a database that was replaced
    assert anna.put("c", answer(suggestion=unknown)).status_code == 200
    with study.storage.read() as connection:
        assert shown_to(connection) == {("anna", "a"): NETWORKS}
    for wrong in ({"verdicts": {"drusn": "refused"}}, {"verdicts": {"drusen": "yes"}}, {"networks": "x"}):
        assert anna.put("d", answer(suggestion={"networks": NETWORKS, "verdicts": {}} | wrong)).status_code == 422


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


def shown(page: Page, name: str, networks: str = NETWORKS) -> int:
    return int(page.put(name, {"networks": networks}, ADDRESS).status_code)


def read(page: Page, name: str, findings: dict[str, list[str]], verdicts: dict[str, str] | None = None) -> None:
    """Finish an image; with ``verdicts``, even none, that of somebody who was shown a suggestion."""
    more: dict[str, Any] = {} if verdicts is None else {"suggestion": {"networks": NETWORKS, "verdicts": verdicts}}
    body = answer(findings=findings, **more) if findings else answer(normal=True, **more)
    assert page.put(name, body).status_code == 200


@pytest.fixture
def two_readers(tmp_path: Path) -> tuple[Study, list[Page]]:
    """Seven images read by anna and ben: a, b and c with a suggestion of drusen in macula and temporal, d and e
    without, f with one for anna, and g before there were any."""
    # By this seed half of the images are to have suggestions, d and e not among them.
    study, networks = open_study(tmp_path, ["anna", "ben"], images="abcdefg", readings=2, seed=62), Networks()
    networks.wait.set()
    maker = Suggester(study.storage, study.photographs, study.findings, NETWORKS, networks.open, study.seed, 0.5)
    pages = [Page(client_of(study, links=True, suggester=maker), link_of(study, name)) for name in ("anna", "ben")]
    for page in pages:
        read(page, "g", {"drusen": ["macula"]})
    maker.start("abcf")
    until(lambda: all(maker.ask(name) for name in "abcf"))
    drusen, own = {"drusen": ["macula", "temporal"]}, {"drusen": ["macula"]}
    yes, no = {"drusen": "confirmed"}, {"drusen": "refused"}
    anna = {"a": (drusen, yes), "b": (own, yes), "c": ({}, no), "d": (own, None), "e": ({}, None), "f": ({}, yes)}
    ben = {"a": (own, None), "b": (own, {}), "c": ({}, {}), "d": ({}, None), "e": ({}, None), "f": ({}, None)}
    for page, answers in zip(pages, (anna, ben), strict=True):
        for name, (findings, verdicts) in answers.items():
            if name in "abc" or (name == "f" and page is pages[0]):
                assert shown(page, name) == 200
            read(page, name, findings, verdicts)
    maker.close()
    return study, pages


def test_agreement_with_and_without_suggestions_worked_by_hand(two_readers: tuple[Study, list[Page]]) -> None:
    study, _ = two_readers
    found = overview(study)["suggestions"]
    assert found["images"] == {"with": 3, "without": 2, "mixed": 1, "before": 1}
    drusen, hemorrhage, _ = found["findings"]
    # With: both mark a and b, nobody c. Without: anna alone marks d, nobody e: less than chance agreement.
    assert (drusen["with"]["images"], drusen["with"]["readings"]) == (3, 6)
    assert (drusen["with"]["kappa_image"], drusen["with"]["marked"]) == (1.0, pytest.approx(4 / 6))
    assert drusen["with"]["kappa_region"] < 1  # of a, anna alone marks temporal
    assert drusen["without"]["kappa_image"] == pytest.approx((0.5 - 0.625) / (1 - 0.625))
    assert drusen["without"]["marked"] == 0.25
    low, high = drusen["without"]["marked_interval"]
    assert low == 0 < 0.25 < high <= 0.5  # no sample of d and e has more marks than d alone
    assert drusen["suggested"] == 7  # three images twice, and f to anna
    assert drusen["outcomes"] == {"confirmed": 1, "changed": 1, "removed": 1, "refused": 2, "marked": 2, "open": 0}
    assert hemorrhage["suggested"] == 0 == sum(hemorrhage["outcomes"].values())
    assert found["seconds"]["with"] == {"readings": 6, "median": 1.5, "interval": None}  # six say too little


def test_the_interval_of_a_median_holds_the_true_one_in_most_samples() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(300):
        answers = [SimpleNamespace(seconds=float(value)) for value in random.exponential(10, 40)]
        low, high = _seconds([answers])["interval"]  # type: ignore[list-item]
        held += low <= 10 * np.log(2) <= high
    assert 0.93 < held / 300 < 0.995


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
    assert table.count("drusen") == 7  # what readers marked, and no suggestion
    outcomes = pd.read_csv(tmp_path / "export" / "suggestions.csv", dtype=str, keep_default_na=False)
    assert [tuple(row) for row in outcomes.drop(columns="networks").itertuples(index=False)] == [
        ("a", "anna", "drusen", "0.8", "macula;temporal", "confirmed", "macula;temporal", "confirmed"),
        ("a", "ben", "drusen", "0.8", "macula;temporal", "", "macula", "marked"),
        ("b", "anna", "drusen", "0.8", "macula;temporal", "confirmed", "macula", "changed"),
        ("b", "ben", "drusen", "0.8", "macula;temporal", "", "macula", "marked"),
        ("c", "anna", "drusen", "0.8", "macula;temporal", "refused", "", "refused"),
        ("c", "ben", "drusen", "0.8", "macula;temporal", "", "", "refused"),  # who says normal refuses it
        ("f", "anna", "drusen", "0.8", "macula;temporal", "confirmed", "", "removed"),
    ]
    (tmp_path / "again").mkdir()
    again = open_study(tmp_path / "again", ["anna", "ben"], images="abcdefg", readings=2)
    assert import_readings(again, tmp_path / "export") == 14
    assert overview(again)["suggestions"] == overview(study)["suggestions"]
    copy = read_record(export_study(again, tmp_path / "copy"))
    assert (copy.suggestions, copy.shown) == (record.suggestions, record.shown)


def test_an_export_of_a_study_without_suggestions_is_as_before(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    folder = export_study(study, tmp_path / "export")
    assert set(json.loads((folder / "study.json").read_text())) == {
        "format", "study", "exported", "answers", "decisions"
    }  # fmt: skip
