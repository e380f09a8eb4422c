"""Questions besides regions, as a reader answers them on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Reader, Server, Start, new_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
ASKED = (
    "questions={grade:{choices:[none,mild,severe]},tessellated:{choices:[absent,present],optional:true},"
    "severity:{of:finding,choices:[mild,severe]}}"
)


@pytest.fixture(scope="module")
def asking(eyes: Path, start: Start) -> Server:
    names = ",".join(f"reader{number}" for number in range(8))
    return start(eyes, "data=csv", f"annotators=[{names}]", "adjudicators=[ada]", "readings_per_image=8", ASKED)


@pytest.fixture
def reader(browser: Browser, asking: Server) -> Iterator[Reader]:
    link = asking.links.pop(min(name for name in asking.links if name != "ada"))
    reader = new_reader(browser, asking).open(link)
    yield reader
    reader.tab.context.close()
    assert reader.problems == []


def button(reader: Reader, question: str, choice: str) -> str:
    return f'.question:has(h2:text-is("{question}")) button:has-text("{choice}")'


def pressed(reader: Reader, question: str) -> list[str]:
    return [
        text.strip()
        for text in reader.find(
            f'.question:has(h2:has-text("{question}")) [aria-pressed="true"] span'
        ).all_inner_texts()
    ]


def test_a_photograph_is_done_when_its_questions_are_answered(reader: Reader) -> None:
    first = reader.image_id
    reader.press("3", "s", "Enter")
    reader.find("#toasts", "Answer first: Grade").wait_for()
    assert reader.image_id == first
    reader.tab.click(button(reader, "Grade", "mild"))
    assert pressed(reader, "Grade") == ["mild"]
    reader.press("4", "Enter")  # another finding is chosen; the open question is of the marked one
    reader.find("#toasts", "Answer first: Severity of").wait_for()
    assert reader.find('[data-finding][aria-pressed="true"] kbd').inner_text() == "3"
    reader.tab.click(button(reader, "Severity", "severe"))
    reader.press("Enter")
    reader.wait_other(first)
    reader.wait_status("saved")
    stored = reader.stored(first)
    (finding,) = stored["findings"]
    assert stored["state"] == "done"
    assert stored["choices"] == {"": {"grade": "mild"}, finding: {"severity": "severe"}}


def test_everything_is_answered_by_keys(reader: Reader) -> None:
    first = reader.image_id
    reader.press("1", "s", "Shift+Q", "2")  # the first open question is that of the finding
    assert pressed(reader, "Severity") == ["severe"]
    reader.press("Shift+Q")
    reader.tab.evaluate(
        """document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key: "&", code: "Digit1", bubbles: true }))"""
    )  # a French keyboard
    reader.press("Shift+Q", "1", "Enter")
    reader.wait_other(first)
    reader.wait_status("saved")
    choices = reader.stored(first)["choices"]
    assert choices == {"": {"grade": "none", "tessellated": "absent"}, "macular_hole": {"severity": "severe"}}
    reader.press("2")
    assert reader.find('[data-finding][aria-pressed="true"] kbd').inner_text() == "2", "numbers choose findings again"


def test_a_finding_takes_its_choices_along_and_undo_brings_them_back(reader: Reader) -> None:
    image_id = reader.image_id
    assert reader.find(".question button", "severe").first.is_disabled()
    reader.press("2", "s")
    reader.tab.click(button(reader, "Severity", "mild"))
    reader.press("s")
    assert pressed(reader, "Severity") == []
    reader.press("Control+z")
    assert pressed(reader, "Severity") == ["mild"]
    reader.tab.click(button(reader, "Grade", "none"))
    reader.press("n")
    reader.wait_status("saved")
    stored = reader.stored(image_id)
    assert stored["choices"] == {"": {"grade": "none"}}
    assert stored["normal"]
    reader.tab.click(button(reader, "Grade", "none"))  # once more: taken back
    assert pressed(reader, "Grade") == []


def test_a_reload_shows_what_was_answered(reader: Reader) -> None:
    image_id = reader.image_id
    reader.press("n")
    reader.tab.click(button(reader, "Grade", "severe"))
    reader.wait_status("saved")
    reader.tab.reload()
    reader.wait_ready(image_id)
    assert pressed(reader, "Grade") == ["severe"]


def test_an_adjudicator_sees_the_answers(browser: Browser, asking: Server, reader: Reader) -> None:
    image_id = reader.image_id
    reader.save(image_id, findings={"drusen": ["macula"]}, disc=[150, 120], fovea=[80, 120],
                choices={"": {"grade": "severe"}, "drusen": {"severity": "mild"}})  # fmt: skip
    ada = new_reader(browser, asking)
    ada.tab.goto(asking.links["ada"])
    ada.tab.goto(f"{asking.address}/adjudicate#{image_id}/drusen")
    ada.find("#readings", "Grade: severe").wait_for()
    assert "Drusen, Severity: mild" in ada.find("#readings").inner_text()
    assert ada.problems == []
    ada.tab.context.close()


def test_a_study_may_ask_for_a_grade_only(browser: Browser, eyes: Path, start: Start) -> None:
    server = start(eyes, "data=csv", "finding.names=[]", "questions={grade:{choices:[normal,suspicious,glaucoma]}}")
    reader = new_reader(browser, server, locale="de").open()
    first = reader.image_id
    for hidden in ("#findings", "#normal", "#pad", "#disc"):
        assert not reader.find(hidden).is_visible()
    reader.click((100, 100))  # there are no regions to mark
    reader.press("n", "g", "o", "Enter")
    reader.find("#toasts", "Zuerst beantworten: Grad").wait_for()
    reader.press("Shift+Q", "3", "Enter")
    reader.wait_other(first)
    reader.wait_status("saved")
    stored = reader.stored(first)
    assert stored["choices"] == {"": {"grade": "glaucoma"}}
    assert (stored["state"], stored["normal"], stored["disc"]) == ("done", False, None)
    assert reader.problems == []
    reader.tab.context.close()
