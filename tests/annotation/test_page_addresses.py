"""A machine has several names, but what a browser keeps has one address; a used link says so in one's language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Server, Start, new_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_localhost_leads_to_the_address_that_was_printed(browser: Browser, eyes: Path, start: Start) -> None:
    server = start(eyes, "data=csv")
    reader = new_reader(browser, server)
    other = server.address.replace("127.0.0.1", "localhost")
    for place, wanted in (("/#eye00003", "#position"), ("/adjudicate", "#loading")):
        reader.tab.goto(other + place)
        reader.tab.wait_for_url(server.address + place)
        reader.find(wanted).wait_for()
    assert reader.problems == []
    reader.tab.context.close()


def test_what_is_kept_at_localhost_is_sent_from_there_first(browser: Browser, eyes: Path, start: Start) -> None:
    server = start(eyes, "data=csv")
    reader = new_reader(browser, server)
    other = server.address.replace("127.0.0.1", "localhost")
    # As an earlier version of the page did, which stayed at localhost.
    reader.tab.route("**/api/session", lambda route: route.fulfill(json=route.fetch().json() | {"address": None}))
    reader.tab.goto(f"{other}/#eye00002")
    reader.wait_ready("eye00002")
    server.kill()
    reader.press("n", "Enter")
    reader.wait_status("unreachable")
    reader.tab.unroute("**/api/session")
    server.start()
    reader.tab.goto(f"{other}/#eye00002")
    reader.tab.reload()
    reader.wait_status("saved")
    reader.tab.wait_for_function(
        "async () => (await (await fetch('/api/images/eye00002')).json()).answer.state === 'done'"
    )
    reader.tab.context.close()


@pytest.mark.parametrize(("locale", "words"), [("en", "used before"), ("de", "schon benutzt"), ("mi", "used before")])
def test_a_used_link_says_so_in_the_readers_language(browser: Browser, one: Server, locale: str, words: str) -> None:
    page = new_reader(browser, one, locale=locale)
    answered = page.tab.goto(f"{one.address}/join/never")
    assert answered is not None
    assert answered.status == 403
    page.find("p", words).wait_for()
    assert page.tab.evaluate("document.documentElement.lang") == ("de" if locale == "de" else "en")
    assert page.problems == []
    page.tab.context.close()
