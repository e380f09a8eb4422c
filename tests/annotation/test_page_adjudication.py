"""What an adjudicator meets: the overview first, and from there every photograph that needs a look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import SIZE, Reader, Server, Start, new_reader, points_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.browser
NAMES = ("anna", "ben", "carl")
UNDECIDED, MIRRORED, UNGRADABLE, COMMENTED = (f"eye{number:05d}" for number in range(4))


@pytest.fixture(scope="module")
def ada(browser: Browser, eyes: Path, start: Start) -> Iterator[Reader]:
    """An adjudicator of a study in which three people have read four photographs."""
    server = start(eyes, "data=csv", f"annotators=[{','.join(NAMES)}]", "adjudicators=[ada]")
    for name in NAMES:
        reader = new_reader(browser, server)
        reader.tab.goto(server.links[name])
        points = dict(zip(("disc", "fovea"), map(list, points_of(eyes, UNDECIDED)), strict=True))
        marks = {"findings": {"drusen": ["macula"]}, **points} if name == "anna" else {}
        reader.save(UNDECIDED, **marks)
        points = dict(zip(("disc", "fovea"), points_of(eyes, MIRRORED), strict=True))
        if name == "anna":  # took it for the other eye
            points = {key: (SIZE - 1 - x, y) for key, (x, y) in points.items()}
        placed = {key: list(point) for key, point in points.items()}
        reader.save(MIRRORED, findings={"membrane": ["temporal"]}, **placed)
        if name == "ben":
            reader.save(UNGRADABLE, normal=False, ungradable="blurred", state="ungradable", comment="cataract?")
        else:
            reader.save(UNGRADABLE)
        reader.save(COMMENTED, comment="a fine example" if name == "carl" else "")
        reader.tab.context.close()
    ada = new_reader(browser, server)
    ada.tab.goto(server.links["ada"])
    yield ada
    ada.tab.context.close()
    assert ada.problems == []


def test_the_link_leads_to_the_overview(ada: Reader) -> None:
    ada.tab.wait_for_url(f"{ada.address}/overview")
    ada.find("#annotators tr").first.wait_for()
    assert [one.inner_text() for one in ada.find(".pages a:visible").all()] == ["Overview", "Adjudicate"]


def test_the_overview_leads_to_what_needs_a_look(ada: Reader) -> None:
    ada.tab.goto(f"{ada.address}/overview")
    ada.find("#comments li").first.wait_for()
    comments = [one.inner_text().split() for one in ada.find("#comments li").all()]
    assert comments == [[COMMENTED, "a", "fine", "example"], [UNGRADABLE, "cataract?"]], "the newest first, no names"
    ada.find("#ungradable a", text=UNGRADABLE).click()
    ada.tab.wait_for_function("() => document.querySelectorAll('.pane img[src]').length === 3")
    captions = [one.inner_text() for one in ada.find(".pane figcaption").all()]
    assert sorted(caption.split("\n")[-1] for caption in captions) == ["normal", "normal", "ungradable: blurred"]
    assert "cataract?" in ada.find("#readings").inner_text()
    assert ada.find("#present").is_hidden()
    assert "Nothing to decide" in ada.find("#finding").inner_text()
    ada.press("Enter", "s")
    assert ada.status() == "saved"


def test_readers_whose_points_disagree_are_shown_with_their_own(ada: Reader) -> None:
    ada.tab.goto(f"{ada.address}/adjudicate#{MIRRORED}")
    ada.tab.reload()
    ada.tab.wait_for_function("() => document.querySelectorAll('.pane img[src]').length === 3")
    ada.find(".notice", text="the other eye").wait_for()
    sides = []
    for pane in ada.find(".pane").all():
        disc, fovea = (pane.locator(f".point.{name} circle").bounding_box() for name in ("disc", "fovea"))
        assert disc and fovea
        sides.append(disc["x"] < fovea["x"])
    assert sorted(sides) in ([False, False, True], [False, True, True])
    assert ada.find(".pane .pip").count() == 3, "without a finding in question, all marks are shown"

    ada.tab.goto(f"{ada.address}/adjudicate#{UNDECIDED}/drusen")
    ada.tab.reload()
    ada.find(".pane.decision .region.on").wait_for(state="attached")
    assert ada.find(".notice").count() == 0
    assert ada.find("#present").is_visible()


# Questions that readers answered differently

ASKED = (
    "questions={grade:{choices:[none,mild,severe],adjudicate:true},"
    "severity:{of:finding,choices:[mild,severe],adjudicate:true}}"
)


@pytest.fixture(scope="module")
def asking(browser: Browser, eyes: Path, start: Start) -> Server:
    """Two readers disagree about the grade of two photographs, and about how severe the drusen of the first are."""
    server = start(eyes, "data=csv", "annotators=[anna,ben]", "adjudicators=[ada]", "readings_per_image=2", ASKED)
    for name, grade, severity in (("anna", "mild", "mild"), ("ben", "severe", "severe")):
        reader = new_reader(browser, server)
        reader.tab.goto(server.links[name])
        points = dict(zip(("disc", "fovea"), map(list, points_of(eyes, UNDECIDED)), strict=True))
        choices = {"": {"grade": grade}, "drusen": {"severity": severity}}
        reader.save(UNDECIDED, findings={"drusen": ["macula"]}, **points, choices=choices)
        reader.save(MIRRORED, choices={"": {"grade": grade}})
        reader.save(COMMENTED, choices={"": {"grade": "none"}})
        reader.tab.context.close()
    return server


@pytest.fixture(scope="module")
def deciding(browser: Browser, asking: Server) -> Iterator[Reader]:
    page = new_reader(browser, asking)
    page.tab.goto(asking.links["ada"])
    page.find("#undecided li").nth(2).wait_for()
    yield page
    page.tab.context.close()
    assert page.problems == []


def at_case(page: Reader, title: str, image_id: str) -> None:
    """Until this case is shown and can be decided."""
    page.find("#finding", title).wait_for()
    page.tab.wait_for_function(
        "([id, title]) => document.getElementById('name').textContent === id"
        " && document.getElementById('finding').textContent === title"
        " && !document.body.matches('.turning, .broken')",
        arg=[image_id, title],
    )
    assert page.find("#choices button").count() > 0
    assert all(image_id in (one.get_attribute("src") or "") for one in page.find(".pane img").all())


def decided(page: Reader) -> dict[tuple[str, str], str | None]:
    cases = page.tab.evaluate("async () => (await (await fetch('/api/adjudication')).json())")
    return {(one["image_id"], one["question"]): (one["decision"] or {}).get("choice") for one in cases}


def test_questions_are_decided_by_click_and_by_key(deciding: Reader) -> None:
    page = deciding
    listed = [one.inner_text().split("\n") for one in page.find("#undecided li").all()]
    assert listed == [
        [UNDECIDED, "Grade: mild 1, severe 1"],
        [UNDECIDED, "Drusen, Severity: mild 1, severe 1"],
        [MIRRORED, "Grade: mild 1, severe 1"],
    ]  # fmt: skip
    page.find("#undecided a").nth(1).click()
    at_case(page, "Drusen, Severity", UNDECIDED)
    assert page.find(".pane").count() == 3
    assert sorted(one.inner_text() for one in page.find(".pane:not(.decision) figcaption span").all()) == [
        "mild",
        "severe",
    ]
    assert page.find(".pane:not(.decision) .region.on").count() == 2, "where each saw it"
    for hidden in ("#pad", "#present", "#absent", "#open"):
        assert page.find(hidden).is_hidden()
    names = [one.inner_text().split() for one in page.find("#choices button").all()]
    assert sorted(word for name in names for word in name) == ["1", "2", "A", "B", "mild", "severe"]
    page.press("Enter", "n", "s")  # these decide findings
    page.find("#toasts", "Press the number").wait_for()
    assert set(decided(page).values()) == {None}

    page.tab.click("#choices button:has-text('severe')")
    page.find("#toasts", f"{UNDECIDED}: Drusen, Severity, severe").wait_for()
    at_case(page, "Grade", MIRRORED)
    page.press("ArrowLeft", "ArrowLeft")
    at_case(page, "Grade", UNDECIDED)
    assert "Drusen: Macula" in page.find("#readings").inner_text(), "a grade is seen beside what was marked"
    page.press("2")
    at_case(page, "Grade", MIRRORED)  # the next that is open
    page.wait_status("saved")
    expected = {(UNDECIDED, "grade"): "mild", (UNDECIDED, "severity"): "severe", (MIRRORED, "grade"): None}
    assert decided(page) == expected
    assert page.find("#progress-text").inner_text() == "2 of 3 done"

    page.press("ArrowLeft")
    at_case(page, "Drusen, Severity", UNDECIDED)
    assert page.find("#choices [aria-pressed='true'] span").inner_text() == "severe"
    page.tab.click("#open")
    page.wait_status("saved")
    assert decided(page)[UNDECIDED, "severity"] is None
    assert page.find("#choices [aria-pressed='true']", "severe").count() == 0
    page.tab.reload()
    at_case(page, "Drusen, Severity", UNDECIDED)


def test_a_second_tab_that_decides_otherwise_is_asked_about(deciding: Reader, asking: Server) -> None:
    place = f"{asking.address}/adjudicate#{MIRRORED}//grade"
    tabs = [Reader(deciding.tab.context.new_page(), asking.address) for _ in range(2)]
    for tab in tabs:
        tab.tab.goto(place)
        at_case(tab, "Grade", MIRRORED)
    first, second = tabs
    first.press("1")
    first.wait_status("saved")
    second.press("3")
    second.find("#conflict[open]").wait_for()
    assert f"{MIRRORED}, Grade" in second.find("#conflict").inner_text()
    assert second.find("#conflict .mine").inner_text() == "severe"
    assert second.find("#conflict .theirs").inner_text() == "none"
    second.tab.click("#conflict [value=mine]")
    second.wait_status("saved")
    assert decided(second)[MIRRORED, "grade"] == "severe"
    first.press("ArrowLeft")
    first.tab.goto(place)
    first.tab.reload()
    at_case(first, "Grade", MIRRORED)
    assert first.find("#choices [aria-pressed='true'] span").inner_text() == "severe"
    for tab in tabs:
        tab.tab.close()
        assert tab.problems == []


def test_a_key_or_click_before_the_next_case_is_shown_decides_nothing(deciding: Reader, asking: Server) -> None:
    page = Reader(deciding.tab.context.new_page(), asking.address)
    page.tab.goto(f"{asking.address}/adjudicate#{UNDECIDED}//grade")
    at_case(page, "Grade", UNDECIDED)
    held: list[Route] = []
    page.tab.route("**/api/adjudication/*", lambda route: held.append(route))
    page.press("ArrowRight")
    page.find("#finding", "Severity").wait_for()
    before = decided(page)
    page.press("1", "2", "Enter")
    page.tab.click("#choices button:has-text('severe')")  # of the case before
    assert page.find("body.turning").count() == 1
    assert page.find("#choices [aria-pressed='true']", "severe").count() == 0
    for route in held:
        route.continue_()
    at_case(page, "Drusen, Severity", UNDECIDED)
    page.wait_status("saved")
    assert decided(page) == before
    page.tab.close()


def test_a_photograph_that_does_not_come_is_tried_again(deciding: Reader, asking: Server) -> None:
    page = Reader(deciding.tab.context.new_page(), asking.address)
    page.tab.route("**/photograph?*", lambda route: route.abort())
    page.tab.goto(f"{asking.address}/adjudicate#{MIRRORED}//grade")
    page.find("#loading", "tries again by itself").wait_for()
    page.tab.unroute_all()
    at_case(page, "Grade", MIRRORED)
    page.find("#loading").wait_for(state="hidden")
    page.tab.close()


# A decision is stored while the reply that does not have it yet is under way.
LATE_REPLIES = """
const send = window.fetch;
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
window.fetch = async (address, options = {}) => {
    const of_a_case = String(address).includes("/api/adjudication/");
    if (options.method === "PUT") await wait(500);
    const reply = await send(address, options);
    if (of_a_case && options.method !== "PUT") await wait(1500);
    return reply;
};
"""


@pytest.mark.parametrize(("key", "choice", "late"), [("3", "severe", ""), ("1", "none", LATE_REPLIES)])
def test_a_decision_is_kept_while_the_server_is_killed(
    deciding: Reader, asking: Server, key: str, choice: str, late: str
) -> None:
    page = deciding
    page.tab.goto(f"{asking.address}/adjudicate#{UNDECIDED}//grade")
    page.tab.reload()
    at_case(page, "Grade", UNDECIDED)
    asking.kill()
    page.press(key)
    page.wait_status("unreachable")
    page.tab.close()
    asking.start()
    page.tab = deciding.tab.context.new_page()
    page.tab.add_init_script(late)
    page.tab.goto(f"{asking.address}/adjudicate#{UNDECIDED}//grade")
    at_case(page, "Grade", UNDECIDED)
    page.wait_status("saved")
    page.find("#choices [aria-pressed=true]", choice).wait_for()
    assert decided(page)[UNDECIDED, "grade"] == choice
