"""What a reader sees of suggestions and does with them; what is kept of it; and that the others see nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Reader, new_reader
from suggesting import NETWORKS, ServedStudy, served_study
from test_page_texts import check, german

from fundusnet.annotation.readings import load_readings
from fundusnet.annotation.suggestion_outcomes import shown_suggestions_of
from fundusnet.annotation.suggestions import Suggestion, shown_to

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
NAMES = [f"reader{number:02d}" for number in range(20)]
PROBABILITIES = {"drusen": 0.93, "hemorrhage": 0.71, "rnfl_defect": 0.02}
TWO = Suggestion({"drusen": ["macula", "temporal"], "hemorrhage": ["macula"]}, PROBABILITIES)
NOTHING = Suggestion({}, dict.fromkeys(PROBABILITIES, 0.01))


@pytest.fixture(scope="module")
def served(eyes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedStudy]:
    """For all photographs the same is stored, but readers get it for a share of them."""
    suggestions = {f"eye{number:05d}": TWO for number in range(8)}
    with served_study(tmp_path_factory.mktemp("suggesting"), eyes, suggestions, NAMES) as study:
        yield study


@pytest.fixture
def name(unread: Iterator[str]) -> str:
    """A reader who has seen nothing yet."""
    return next(unread)


@pytest.fixture(scope="module")
def unread() -> Iterator[str]:
    return iter(NAMES)


@pytest.fixture
def reader(browser: Browser, served: ServedStudy, name: str) -> Iterator[Reader]:
    """At a photograph with a suggestion."""
    reader = new_reader(browser, served).open(served.link(name))  # type: ignore[arg-type]
    reader.open(image_id=image(served, True))
    reader.find("#suggested").wait_for()
    yield reader
    reader.tab.context.close()
    assert reader.problems == []


def image(served: ServedStudy, suggested: bool, place: int = 0) -> str:
    return [name for name in sorted(served.study.image_ids()) if served.suggester.has(name) == suggested][place]


def dashed(reader: Reader) -> list[tuple[str, str]]:
    """(colour, region) of the outlines of what is only suggested."""
    found: list[list[str]] = reader.tab.eval_on_selector_all(
        ".overlay .suggestion",
        "all => all.map(one => [one.style.getPropertyValue('--finding'), one.dataset.region])",
    )
    return sorted((colour, region) for colour, region in found)


def fates(reader: Reader) -> dict[str, str]:
    """Suggested finding → what the list says became of it."""
    found: list[list[str]] = reader.tab.eval_on_selector_all(
        "#findings .suggested", "all => all.map(one => [one.firstChild.dataset.finding, one.dataset.fate])"
    )
    return dict(found)


def stored(reader: Reader) -> dict[str, Any]:
    reader.wait_status("saved")
    return dict(reader.stored(reader.image_id))


def test_a_suggestion_is_drawn_apart_and_is_no_mark(reader: Reader, served: ServedStudy, name: str) -> None:
    assert fates(reader) == {"drusen": "open", "hemorrhage": "open"}
    assert reader.find("#findings .likely:visible").all_inner_texts() == ["93%", "71%"]
    own = "all => all.map(one => one.style.getPropertyValue('--finding'))"
    drusen, hemorrhage, _ = reader.tab.eval_on_selector_all("#findings .finding", own)
    assert dashed(reader) == sorted([(drusen, "macula"), (drusen, "temporal"), (hemorrhage, "macula")])
    style = "all => all.map(one => getComputedStyle(one)).map(style => [style.strokeDasharray, style.fill])"
    for dash, fill in reader.tab.eval_on_selector_all(".overlay .suggestion", style):
        assert dash != "none" and fill == "none"
    assert sorted(reader.find(".overlay .pip.open").all_text_contents()) == ["1", "1", "2"]
    assert reader.lit() == set() and reader.find(".finding.marked").count() == 0
    assert stored(reader)["version"] == 0, "nothing is answered for the reader"
    reader.tab.wait_for_timeout(100)
    with served.study.storage.read() as connection:
        assert (name, reader.image_id) in shown_to(connection)


def test_one_key_confirms_and_one_refuses(reader: Reader) -> None:
    reader.press("Shift+c")
    assert fates(reader) == {"drusen": "confirmed", "hemorrhage": "open"}
    assert [region for _, region in dashed(reader)] == ["macula"], "the next one is at hand"
    reader.press("Shift+x")
    assert fates(reader) == {"drusen": "confirmed", "hemorrhage": "refused"}
    assert dashed(reader) == []
    answer = stored(reader)
    assert {name: sorted(regions) for name, regions in answer["findings"].items()} == {"drusen": ["macula", "temporal"]}
    assert answer["suggestion"] == {
        "networks": NETWORKS, "verdicts": {"drusen": "confirmed", "hemorrhage": "refused"}
    }  # fmt: skip
    reader.press("Shift+c")
    assert fates(reader)["hemorrhage"] == "confirmed", "the chosen one, on second thoughts"
    reader.press("Shift+x")
    reader.press("1", "Shift+x")
    assert stored(reader)["findings"] == {}, "a finding that was confirmed can be refused"
    reader.press("Shift+x")
    reader.find(".toast", text="no suggestion left").wait_for()


def test_all_at_once_leaves_what_is_decided(reader: Reader) -> None:
    reader.press("2", "Shift+x", "Shift+g")
    assert fates(reader) == {"drusen": "confirmed", "hemorrhage": "refused"}
    reader.press("Control+z", "Control+z")
    assert fates(reader) == {"drusen": "open", "hemorrhage": "open"}
    reader.press("Shift+n")
    assert fates(reader) == {"drusen": "refused", "hemorrhage": "refused"}
    assert stored(reader)["findings"] == {}
    reader.press("Control+z", "Shift+g")
    assert sorted(stored(reader)["findings"]) == ["drusen", "hemorrhage"]


def test_undo_takes_back_the_verdict_with_the_marks_but_not_that_it_was_shown(reader: Reader) -> None:
    reader.press("Shift+c")
    assert stored(reader)["suggestion"]["verdicts"] == {"drusen": "confirmed"}
    reader.press("Control+z")
    assert stored(reader)["suggestion"] == {"networks": NETWORKS, "verdicts": {}}
    assert fates(reader)["drusen"] == "open"
    assert reader.find("#undo").is_disabled(), "to be shown a suggestion is no step of the reader's"
    reader.press("Control+y")
    assert fates(reader)["drusen"] == "confirmed"


def test_own_marks_stay_and_are_told_from_confirmed_ones(reader: Reader, served: ServedStudy, name: str) -> None:
    reader.press("1", "w", "s")
    assert fates(reader)["drusen"] == "marked"
    assert "temporal" in [region for _, region in dashed(reader)], "what is left of it is still to be seen"
    assert "verdicts" in stored(reader)["suggestion"] and stored(reader)["suggestion"]["verdicts"] == {}
    reader.press("Shift+c")
    assert set(stored(reader)["findings"]["drusen"]) == {"disc_superior", "macula", "temporal"}
    reader.press("2", "Backspace", "Shift+x", "Enter")
    reader.wait_status("saved")
    with served.study.storage.read() as connection:
        found = shown_suggestions_of(connection, load_readings(connection))
    (shown,) = [each for each in found if each.answer.annotator == name]
    assert shown.outcomes == {"drusen": "changed", "hemorrhage": "refused"}


def test_normal_refuses_all_and_open_ones_are_asked_about_once(reader: Reader) -> None:
    first = reader.image_id
    reader.press("n")
    assert fates(reader) == {"drusen": "refused", "hemorrhage": "refused"}
    reader.press("n", "3", "s", "Enter")
    reader.find(".toast", text="Some suggestions are open").wait_for()
    assert reader.image_id == first
    reader.press("Enter")
    reader.wait_other(first)
    reader.wait_status("saved")
    answer = reader.stored(first)
    assert answer["state"] == "done" and list(answer["findings"]) == ["rnfl_defect"]
    assert answer["suggestion"]["verdicts"] == {}


def test_nothing_on_a_photograph_without_suggestion_tells_of_one(
    browser: Browser, served: ServedStudy, eyes: Path, tmp_path: Path, name: str
) -> None:
    """The page is the same, to the letter, as in a study that has no networks."""
    without = image(served, False)
    seen = []
    with served_study(tmp_path, eyes, {}, [name], share=0.0) as plain:
        for study in (served, plain):
            reader = new_reader(browser, study).open(study.link(name))  # type: ignore[arg-type]
            reader.open(image_id=without)
            reader.press("1", "s")
            reader.wait_status("saved")
            reader.press("Shift+c", "Shift+x", "Shift+g", "Shift+n", "?")
            answer = reader.stored(without)
            assert "suggestion" not in answer and list(answer["findings"]) == ["drusen"]
            assert "uggest" not in reader.find("#sheet").inner_text()
            reader.press("Escape")
            assert "uggest" not in reader.find(".work").inner_text()
            seen.append(reader.tab.evaluate("document.querySelector('.work').outerHTML"))
            reader.tab.context.close()
    assert seen[0] == seen[1]
    with served.study.storage.read() as connection:
        assert (name, without) not in shown_to(connection)


def test_an_answer_kept_while_the_server_is_away_says_what_became_of_the_suggestion(
    browser: Browser, served: ServedStudy, name: str
) -> None:
    reader = new_reader(browser, served).open(served.link(name))  # type: ignore[arg-type]
    refuse = lambda route: route.abort() if route.request.method == "PUT" else route.continue_()  # noqa: E731
    reader.tab.context.route("**/suggestion", refuse)
    image_id = image(served, True)
    reader.open(image_id=image_id)
    reader.find("#suggested").wait_for()
    with served.study.storage.read() as connection:
        assert (name, image_id) not in shown_to(connection)
    reader.tab.context.set_offline(True)
    reader.press("Shift+c", "Shift+x")
    reader.wait_status("unreachable")
    assert fates(reader) == {"drusen": "confirmed", "hemorrhage": "refused"}
    # Another page of the same browser finds the answer and sends it.
    other = Reader(reader.tab.context.new_page(), reader.address)
    reader.tab.close()
    reader.tab.context.set_offline(False)
    other.open(image_id=image_id)
    assert stored(other)["suggestion"]["verdicts"] == {"drusen": "confirmed", "hemorrhage": "refused"}
    other.find("#findings .suggested").first.wait_for()
    assert fates(other) == {"drusen": "confirmed", "hemorrhage": "refused"}
    with served.study.storage.read() as connection:
        assert (name, image_id) in shown_to(connection)
    other.tab.context.close()


def test_two_windows_that_decide_differently_are_asked_which_holds(reader: Reader) -> None:
    image_id = reader.image_id
    other = Reader(reader.tab.context.new_page(), reader.address).open(image_id=image_id)
    other.find("#suggested").wait_for()
    reader.press("2", "Shift+x")
    reader.wait_status("saved")
    other.press("1", "Shift+x")
    other.find("#conflict").wait_for()
    assert "suggestions refused: Drusen" in other.find("#conflict .mine").inner_text()
    assert "suggestions refused: Hemorrhage" in other.find("#conflict .theirs").inner_text()
    other.find('#conflict [value="theirs"]').click()
    assert stored(other)["suggestion"]["verdicts"] == {"hemorrhage": "refused"}
    assert fates(other) == {"drusen": "open", "hemorrhage": "refused"}
    reader.tab.bring_to_front()
    assert other.problems == []


def test_each_photograph_keeps_its_verdicts_while_others_are_looked_at(reader: Reader, served: ServedStudy) -> None:
    first, second, without = reader.image_id, image(served, True, 1), image(served, False)
    reader.press("Shift+c")
    reader.open(image_id=second)
    reader.find("#suggested").wait_for()
    assert fates(reader) == {"drusen": "open", "hemorrhage": "open"}
    reader.open(image_id=without)
    assert reader.find("#suggested").is_hidden() and fates(reader) == {} and dashed(reader) == []
    reader.open(image_id=first)
    assert fates(reader) == {"drusen": "confirmed", "hemorrhage": "open"}
    reader.tab.reload()
    reader.wait_ready(first)
    reader.find("#suggested").wait_for()
    assert fates(reader) == {"drusen": "confirmed", "hemorrhage": "open"}


@pytest.mark.parametrize("width", [820, 390])
def test_fingers_confirm_and_refuse(browser: Browser, served: ServedStudy, name: str, width: int) -> None:
    size = {"width": width, "height": 1180 if width == 820 else 844}
    reader = new_reader(browser, served, viewport=size, has_touch=True, is_mobile=True).open(served.link(name))  # type: ignore[arg-type]
    reader.open(image_id=image(served, True))
    reader.find("#suggested").wait_for()
    buttons = reader.find("#suggested button, #findings .decisions button:visible").all()
    assert len(buttons) == 6
    for button in buttons:
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box and min(box["width"], box["height"]) >= 40 and 0 <= box["x"] <= width - box["width"]
    reader.find('li:has([data-finding="hemorrhage"]) [data-verdict="refused"]').tap()
    reader.find("#confirm-all").tap()
    assert fates(reader) == {"drusen": "confirmed", "hemorrhage": "refused"}
    assert reader.find("#confirm-all").is_hidden()
    assert reader.tab.evaluate("document.documentElement.scrollWidth") == width
    reader.tab.context.close()
    assert reader.problems == []


def test_a_suggestion_that_comes_late_disturbs_no_reading_and_comes_to_no_finished_one(
    browser: Browser, eyes: Path, tmp_path: Path
) -> None:
    with served_study(tmp_path, eyes, {}, ["anna"], share=1.0) as served:
        reader = new_reader(browser, served).open(served.link("anna"))  # type: ignore[arg-type]
        first = reader.image_id
        reader.press("3", "s", "Enter")
        reader.wait_other(first)
        second = reader.image_id
        reader.press("3", "s")
        for image_id in (first, second):
            served.suggest(image_id, TWO)
        reader.find("#suggested").wait_for()
        assert reader.lit() == {"macula"} and reader.find("#pad-title").inner_text() == "Regions: RNFL defect"
        assert fates(reader) == {"drusen": "open", "hemorrhage": "open"}
        reader.press("ArrowLeft")
        reader.wait_ready(first)
        reader.tab.wait_for_timeout(300)
        assert reader.find("#suggested").is_hidden(), "it was read without"
        third = next(entry["image_id"] for entry in reader.queue() if entry["image_id"] not in (first, second))
        served.suggest(third, NOTHING)
        reader.open(image_id=third)
        reader.find("#suggested", text="suggest no finding").wait_for()
        assert reader.find("#confirm-all").is_hidden() and fates(reader) == {}
        reader.tab.context.close()
        assert reader.problems == []


def test_suggested_points_take_the_place_of_guessed_ones(browser: Browser, eyes: Path, tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    shutil.copytree(eyes / "images", root)
    place = {"disc": (80.0, 120.0), "fovea": (150.0, 125.0), "points": "localised"}
    bare = Suggestion({"drusen": ["macula"], "hemorrhage": []}, PROBABILITIES, **place)  # type: ignore[arg-type]
    with served_study(tmp_path, root, {}, ["anna"], source="folder", share=1.0) as served:
        for image_id in served.study.image_ids():
            served.suggest(image_id, bare)
        reader = new_reader(browser, served).open(served.link("anna"))  # type: ignore[arg-type]
        reader.find("#suggested").wait_for()
        assert reader.handle("disc") == pytest.approx(reader.at(place["disc"]), abs=1.5)  # type: ignore[arg-type]
        reader.press("Shift+c")
        answer = stored(reader)
        assert (answer["disc"], answer["fovea_origin"]) == ([80.0, 120.0], "localised")
        reader.press("Shift+c")
        reader.find(".toast", text="No region is suggested").wait_for()
        reader.press("w")
        assert set(stored(reader)["findings"]) == {"drusen", "hemorrhage"}
        reader.tab.context.close()
        assert reader.problems == []


def test_suggestions_speak_german(browser: Browser, served: ServedStudy, name: str) -> None:
    served.links = {name: served.link(name)}  # type: ignore[attr-defined]
    reader = german(browser, served, name)  # type: ignore[arg-type]
    image_id = image(served, True)
    reader.open(image_id=image_id)
    reader.find("#suggested").wait_for()
    check(reader, image_id)
    reader.press("Shift+c", "Shift+x", "Shift+x")
    reader.find(".toast").wait_for()
    check(reader, image_id)
    reader.press("?")
    check(reader, image_id)
    reader.tab.context.close()


def test_the_overview_shows_both_groups_side_by_side(browser: Browser, eyes: Path, tmp_path: Path) -> None:
    images = [f"eye{number:05d}" for number in range(8)]
    names = ["anna", "ben"]
    with served_study(tmp_path, eyes, dict.fromkeys(images, TWO), names, adjudicators=["ada"]) as served:
        marks = {"findings": {"drusen": ["macula", "temporal"]}, "disc": [80.0, 120.0], "fovea": [150.0, 125.0]}
        for name in names:
            reader = new_reader(browser, served)  # type: ignore[arg-type]
            reader.tab.goto(served.link(name))
            for image_id in images:
                drusen = int(image_id[3:]) % 2 == 0
                shown = {"networks": NETWORKS, "verdicts": {"drusen": "confirmed" if drusen else "refused"}}
                more = {"suggestion": shown, "seconds": 7} if served.suggester.has(image_id) else {"seconds": 75}
                reader.save(image_id, **(marks if drusen else {}), **more)
            reader.tab.context.close()
        ada = new_reader(browser, served)  # type: ignore[arg-type]
        ada.tab.goto(served.link("ada"))
        ada.tab.goto(f"{served.address}/overview")
        ada.find("#effect-outcomes tr").first.wait_for()
        with_ = [image_id for image_id in images if served.suggester.has(image_id)]
        time = [row.inner_text().split() for row in ada.find("#effect-time tr").all()]
        assert time[0][:5] == ["with", str(len(with_)), str(2 * len(with_)), "7", "s"]
        rest = 8 - len(with_)
        assert time[1][:7] == ["without", str(rest), str(2 * rest), "1", "min", "15", "s"]
        drusen = ada.find("#effect-agreement tr").first
        shares = [sum(int(name[3:]) % 2 == 0 for name in group) / len(group) for group in (
            with_, [name for name in images if name not in with_]
        )]  # fmt: skip
        lines = drusen.locator("td:nth-child(6) .estimate b").all_inner_texts()
        assert lines == [f"{round(100 * share)}%" for share in shares]
        assert drusen.locator("td:nth-child(3) b").all_inner_texts() == ["1.00", "1.00"]
        assert drusen.locator("td:nth-child(6) .range").count() == 2, "each with its interval"
        counts = ada.find("#effect-outcomes tr").first.locator(".number").all_inner_texts()
        confirmed = 2 * sum(int(name[3:]) % 2 == 0 for name in with_)
        suggested = 2 * len(with_)
        assert counts == [str(each) for each in (suggested, confirmed, 0, 0, suggested - confirmed, 0, 0)]
        assert ada.problems == []
        ada.tab.context.close()


def test_without_suggestions_the_overview_says_nothing_of_them(browser: Browser, eyes: Path, tmp_path: Path) -> None:
    with served_study(tmp_path, eyes, {}, ["anna"], adjudicators=["ada"]) as served:
        ada = new_reader(browser, served)  # type: ignore[arg-type]
        ada.tab.goto(served.link("ada"))
        ada.tab.goto(f"{served.address}/overview")
        ada.find("#annotators tr").wait_for()
        assert ada.find("#effect-section").is_hidden()
        ada.tab.context.close()
