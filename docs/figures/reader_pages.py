"""Take the pictures of a reader's pages in ``docs/annotation/``, on drawn eyes, in Chromium.

    python docs/figures/reader_pages.py [FOLDER]

writes ``annotate``, ``keys``, ``tablet``, ``guess``, ``beside`` and ``questions.jpg``. About a minute.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page
from serving import chromium, served, signed_in

from fundusnet.data.sources.synthetic import load

PICTURES = Path(__file__).resolve().parents[1] / "annotation"
DESKTOP, TABLET = {"width": 1440, "height": 900}, {"width": 820, "height": 1180}
PEOPLE = "annotators=[anna,ben,carl]", "adjudicators=[ada]"
QUESTIONS = (
    "questions={grade: {choices: [none, mild, moderate, severe, proliferative]},"
    "tessellated: {choices: [absent, present], optional: true},"
    "severity: {of: finding, choices: [mild, moderate, severe]}}"
)


def take_pictures(folder: Path) -> None:
    """Draw twelve eyes in ``folder``, serve three studies of them and take the pictures."""
    load(folder / "eyes", images=12, size=1024, seed=3)
    known = ("data=csv", "data.root=eyes", *PEOPLE)
    with chromium() as browser:
        with served(folder, *known, "folder=study", people=["anna", "ben"]) as (address, links):
            page = signed_in(_tab(browser), links["anna"])
            _open(page, address, "eye00006")
            _press(page, "6", "s", "2", "s", "q")
            _save(page, "annotate")
            _press(page, "?")
            _save(page, "keys")
            _press(page, "Escape")
            _open(page, address, "eye00004")
            _press(page, "Shift+F")
            _save(page, "beside")
            tablet = signed_in(_tab(browser, touch=True), links["ben"])
            _open(tablet, address, "eye00008")
            tablet.locator("#red-free").tap()
            tablet.locator("[data-finding=drusen]").tap()
            _save(tablet, "tablet")
        with served(folder, *known, "folder=graded", QUESTIONS, people=["anna"]) as (address, links):
            page = signed_in(_tab(browser), links["anna"])
            _open(page, address, "eye00004")
            _press(page, "3", "s", "q", "z")
            _press(page, "y", "2", "y", "2", "y")
            _save(page, "questions")
        unknown = ("data=folder", "data.root=eyes/images", "data.points=given", *PEOPLE)
        with served(folder, *unknown, "folder=guessed", people=["anna"]) as (address, links):
            page = signed_in(_tab(browser), links["anna"])
            _open(page, address, "eye00005")
            _press(page, "5", "s")
            _save(page, "guess")


def _tab(browser: Browser, touch: bool = False) -> Page:
    size = TABLET if touch else DESKTOP
    return browser.new_page(viewport=size, has_touch=touch, is_mobile=touch, color_scheme="dark")


def _open(page: Page, address: str, image_id: str) -> None:
    page.goto(f"{address}/#{image_id}")
    page.wait_for_function(
        "id => !document.body.matches('.turning, .broken') && document.getElementById('name').textContent === id",
        arg=image_id,
    )
    page.wait_for_timeout(500)


def _press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(150)


def _save(page: Page, name: str) -> None:
    """After what fades has faded and what loads has loaded."""
    page.wait_for_timeout(1500)
    page.screenshot(path=PICTURES / f"{name}.jpg", type="jpeg", quality=82)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        take_pictures(Path(sys.argv[1] if len(sys.argv) > 1 else place).resolve())
