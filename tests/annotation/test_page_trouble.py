"""Trouble is told as what it is, loses no answer, and passes by itself: no photograph is called ungradable for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Reader, Server, Start, free_port, new_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def root(eyes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs that may go away."""
    root = tmp_path_factory.mktemp("away") / "photographs"
    shutil.copytree(eyes / "images", root)
    return root


@pytest.fixture(scope="module")
def study(root: Path, start: Start) -> Server:
    names = ",".join(f"reader{number}" for number in range(9))
    return start(root, "data=folder", f"annotators=[{names}]", "readings_per_image=9")


@pytest.fixture
def troubled(browser: Browser, study: Server) -> Iterator[Reader]:
    """A reader at the first photograph; ``far`` is one that the page has not loaded in advance."""
    reader = new_reader(browser, study).open(study.newcomer())
    yield reader
    reader.tab.context.close()
    assert reader.problems == []


def far(reader: Reader) -> str:
    return reader.queue()[5]["image_id"]


def turn(reader: Reader, image_id: str) -> None:
    reader.tab.evaluate("id => { location.hash = id; }", image_id)


def told(reader: Reader, words: str) -> None:
    """The page says this in place of the photograph, and nothing can be called ungradable."""
    reader.find("#loading", text=words).wait_for()
    assert "ungradable" not in reader.find("#loading").inner_text()
    reader.press("u")
    assert reader.find("#reasons").is_hidden()


def test_photographs_that_are_away_for_a_while(troubled: Reader, root: Path) -> None:
    here, there = troubled.image_id, far(troubled)
    gone = root.with_name("gone")
    root.rename(gone)
    try:
        turn(troubled, there)
        told(troubled, "cannot reach this photograph")
        troubled.press("ArrowLeft")
        turn(troubled, here)
        troubled.wait_ready(here)
        troubled.press("2", "s")
        troubled.wait_status("saved")
        turn(troubled, there)
        told(troubled, "cannot reach this photograph")
    finally:
        gone.rename(root)
    troubled.wait_ready(there)
    troubled.wait_status("saved")
    assert troubled.stored(here)["findings"] == {"hard_exudate": ["macula"]}


def test_a_session_that_was_revoked(troubled: Reader) -> None:
    there = far(troubled)
    cookies = troubled.tab.context.cookies()
    troubled.tab.context.clear_cookies()
    turn(troubled, there)
    told(troubled, "You are not signed in")
    troubled.tab.context.add_cookies(cookies)
    troubled.wait_ready(there)


def test_a_server_that_is_down(troubled: Reader, study: Server) -> None:
    there = far(troubled)
    study.kill()
    turn(troubled, there)
    told(troubled, "The server cannot be reached")
    study.start()
    troubled.wait_ready(there)


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [("disk_full", 507, "disk is full"), ("busy", 503, "server is busy"), ("failing", 500, "server has an error")],
)
def test_trouble_of_the_server(troubled: Reader, code: str, status: int, words: str) -> None:
    here, there = troubled.image_id, far(troubled)

    def trouble(route: Any) -> None:
        route.fulfill(status=status, json={"error": "no", "code": code})

    troubled.tab.route("**/api/images/**", trouble)
    troubled.press("2", "s")
    troubled.wait_status(code)
    assert "Kept in this browser" in troubled.find("#status").inner_text()
    turn(troubled, there)
    told(troubled, words)
    troubled.tab.unroute("**/api/images/**")
    troubled.wait_ready(there)
    troubled.wait_status("saved")
    assert troubled.stored(here)["findings"] == {"hard_exudate": ["macula"]}


def test_an_error_of_the_server_is_told_in_the_readers_language(browser: Browser, study: Server) -> None:
    """What fails in the server is answered with English text that is not for readers."""
    reader = new_reader(browser, study, locale="de").open(study.newcomer())
    reader.tab.route(
        "**/api/images/**",
        lambda route: route.fulfill(status=500, content_type="text/plain", body="Internal Server Error"),
    )
    reader.press("2", "s")
    reader.wait_status("failing")
    assert "Nicht gespeichert: der Server antwortete mit 500" in reader.find("#status").inner_text()
    turn(reader, far(reader))
    told(reader, "(der Server antwortete mit 500)")
    reader.tab.context.close()


def test_a_picture_that_does_not_load_is_asked_why(troubled: Reader) -> None:
    """The description came in advance, the picture does not come at all."""
    there = far(troubled)
    troubled.tab.route("**/photograph?*", lambda route: route.abort())
    troubled.tab.route(f"**/api/images/{there}", lambda route: route.fulfill(status=507, json={"code": "disk_full"}))
    turn(troubled, there)
    told(troubled, "disk is full")
    troubled.tab.unroute_all()
    troubled.wait_ready(there)


def test_answers_kept_at_another_port_are_found(browser: Browser, study: Server) -> None:
    before = study.port
    reader = new_reader(browser, study).open(study.newcomer())
    image_id = reader.image_id
    study.kill()
    reader.press("2", "s")
    reader.wait_status("unreachable")
    context = reader.tab.context
    reader.tab.close()

    study.move(free_port())
    study.start()
    there = Reader(context.new_page(), study.address).open(image_id=image_id)
    assert "keeps an answer that was not sent" in there.find("#elsewhere").inner_text()
    assert there.find("#elsewhere a").get_attribute("href") == f"http://127.0.0.1:{before}"
    there.tab.close()
    study.kill()

    study.move(before)
    study.start()
    again = Reader(context.new_page(), study.address).open(image_id=image_id)
    again.wait_status("saved")
    assert again.find("#elsewhere .notice").count() == 0
    assert again.stored(image_id)["findings"] == {"hard_exudate": ["macula"]}
    assert [cookie["name"] for cookie in context.cookies() if "kept" in cookie["name"]] == []
    assert again.problems == []
    context.close()
