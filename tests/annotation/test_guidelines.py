"""Guidelines lie in the study's folder, and are one key away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
from browsing import Server, new_reader
from studies import Page, client_of, open_study, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DRUSEN = """# Drusen

Yellow deposits, **not** exudates.
They come in two kinds:

- hard, with an edge
- soft, *without* one

![Soft drusen](pictures/soft one.png)
![Soft drusen](pictures/soft.png)

<script>window.ran = true</script> and <b>no HTML</b>
"""


def write_guidelines(folder: Path) -> None:
    (folder / "guidelines" / "pictures").mkdir(parents=True)
    (folder / "guidelines" / "drusen.md").write_text(DRUSEN)
    (folder / "guidelines" / "general.md").write_text("Read at full size.")
    cv2.imwrite(str(folder / "guidelines" / "pictures" / "soft.png"), photograph())


def test_only_pictures_of_the_guidelines_are_served(tmp_path: Path) -> None:
    page = Page(client_of(open_study(tmp_path)))
    assert page.get("/api/guidelines").json() == {}
    write_guidelines(tmp_path)
    assert set(page.get("/api/guidelines").json()) == {"drusen", "general"}
    assert page.get("/api/guidelines/pictures/soft.png").headers["content-type"] == "image/png"
    (tmp_path / "guidelines" / "link.png").symlink_to(tmp_path / "photographs" / "a.png")
    outside = [
        "../study.sqlite",
        "..%2Fstudy.sqlite",
        "%2Fetc%2Fpasswd",
        "drusen.md",
        "link.png",
        "pictures",
        "none.png",
    ]
    assert {page.get(f"/api/guidelines/{name}").status_code for name in outside} == {404}


@pytest.mark.browser
def test_one_key_opens_the_guidelines_of_the_finding(browser: Browser, one: Server) -> None:
    reader = new_reader(browser, one).open()
    assert reader.find("#guide").is_hidden()
    reader.press("i")
    reader.find(".toast", text="no guidelines").wait_for()
    write_guidelines(one.folder)
    reader.tab.reload()
    reader.wait_ready()
    reader.find("#guide").wait_for()
    drusen = reader.find('[data-finding="drusen"] kbd').inner_text()
    reader.press(drusen, "i")
    shown = reader.find("#guidelines .text")
    shown.wait_for()
    assert "Yellow deposits, not exudates. They come in two kinds:" in shown.inner_text()
    assert [item.inner_text() for item in shown.locator("li").all()] == ["hard, with an edge", "soft, without one"]
    assert "Read at full size." in shown.inner_text()
    reader.tab.wait_for_function("() => document.querySelector('#guidelines img').naturalWidth > 0")
    assert "<script>" in shown.inner_text(), "it is text"
    assert reader.tab.evaluate("window.ran") is None
    reader.press("n", "Escape")
    assert reader.find("#guidelines").is_hidden()
    assert reader.find("#normal").get_attribute("aria-pressed") == "false"
    assert reader.problems == []
    reader.tab.context.close()


@pytest.mark.browser
def test_the_list_of_photographs_has_a_search(browser: Browser, one: Server) -> None:
    reader = new_reader(browser, one).open()
    reader.press("j")
    reader.find("#search").fill("00005")
    assert reader.find("#images li:visible").count() == 1
    reader.press("Enter")
    reader.wait_ready("eye00005")
    reader.press("j")
    reader.find("#search").fill("to do")
    assert reader.find("#images li:visible").count() == 8
    reader.tab.context.close()
