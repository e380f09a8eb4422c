"""The page on which an administrator manages people, links and the export."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Start, new_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_an_administrator_manages_a_study_in_the_browser(browser: Browser, eyes: Path, start: Start) -> None:
    server = start(eyes, "data=csv", "annotators=[anna]", "administrators=[max]", "readings_per_image=1")
    page = new_reader(browser, server, locale="en")
    page.tab.goto(server.links["max"])
    page.tab.click("text=People")
    page.tab.fill("#new-name", "zoe")
    page.tab.click("#add button")
    link = page.find("#said code").inner_text()
    zoe = new_reader(browser, server).open(link)
    first = zoe.image_id
    zoe.press("n", "Enter")
    zoe.wait_other(first)
    zoe.wait_status("saved")

    page.tab.reload()
    page.tab.click('button[aria-label="Answers: zoe"]')
    page.find("#answers-title", "zoe: 1 answer").wait_for()
    assert first in page.find("#answers").inner_text()
    assert "normal" in page.find("#answers").inner_text()
    with page.tab.expect_download() as download:
        page.tab.click(".download")
    with zipfile.ZipFile(download.value.path()) as packed:
        assert b"zoe" in packed.read("readings.csv")

    page.tab.click('button[aria-label="Take out: zoe"]')
    page.find("#said", "zoe no longer takes part").wait_for()
    page.tab.click('button[aria-label="Take back: zoe"]')
    page.find("#said", "zoe takes part again").wait_for()
    page.tab.click('button[aria-label="Sign out: zoe"]')
    page.find("#said", "zoe is signed out on all devices").wait_for()
    zoe.press("n")
    zoe.wait_status("revoked")
    assert not page.find('button[aria-label="Take out: max"]').count(), "nobody takes themselves out"
    page.tab.fill("#new-name", "anna")
    page.tab.click("#add button")
    page.find("#said", "anna takes part already").wait_for()
    page.tab.set_viewport_size({"width": 390, "height": 844})
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.problems == []
    for each in (page, zoe):
        each.tab.context.close()


def test_others_see_no_such_page(browser: Browser, eyes: Path, start: Start) -> None:
    server = start(eyes, "data=csv", "annotators=[anna]", "adjudicators=[ada]", "readings_per_image=1")
    page = new_reader(browser, server, locale="en")
    page.tab.goto(server.links["ada"])
    page.find("#content").wait_for()
    assert not page.find('[href="/people"]').is_visible()
    page.tab.goto(f"{server.address}/people")
    page.find("#message", "This page is for others").wait_for()
    assert not page.find("#content").is_visible()
    page.tab.context.close()
