"""Signing out, and a second device, from the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browsing import Reader, Server, new_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_a_second_device_and_signing_out(browser: Browser, server: Server, reader: Reader) -> None:
    name = str(reader.find("#account").get_attribute("aria-label"))
    assert name.startswith("Signed in as reader")
    reader.find("#account").click()
    reader.find("#device-link").click()
    link = reader.find(".said code").inner_text()
    other = new_reader(browser, server).open(link)
    assert other.find("#account").get_attribute("aria-label") == name
    other.find("#account").click()
    other.find("#sign-out").click()
    other.find("#loading", text="You are not signed in").wait_for()
    assert other.find("button:visible").count() == 0, "nothing to press"
    reader.press("Escape", "2", "s")
    reader.wait_status("saved")
    reader.find("#account").click()
    reader.find("#sign-out-everywhere").click()
    reader.find("#loading", text="You are not signed in").wait_for()
    other.tab.context.close()


def test_a_study_of_one_person_has_no_sign_in(browser: Browser, one: Server) -> None:
    reader = new_reader(browser, one).open()
    assert reader.find("#account").is_hidden()
    reader.tab.context.close()
