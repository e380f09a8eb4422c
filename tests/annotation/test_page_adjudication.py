"""What an adjudicator meets: the overview first, and from there every photograph that needs a look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import SIZE, Reader, Start, new_reader, points_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
