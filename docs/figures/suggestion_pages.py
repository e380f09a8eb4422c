"""Pictures of the pages of a study with suggestions, taken in Chromium."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from serving import chromium, signed_in

SIZE = {"width": 1440, "height": 900}


def take_pictures(address: str, links: Mapping[str, str], database: Path, folder: Path) -> None:
    """Write ``suggestions.jpg``, a page with several suggestions, one of them confirmed, and
    ``suggestion-effect.jpg``, the part of the overview about them, to ``folder``.

    Args:
        address: Of the served study.
        links: A link for each person; anna reads, ada adjudicates.
        database: ``study.sqlite``, to choose a photograph with many suggestions that nobody has read.
        folder: Where the pictures go.
    """
    with chromium() as browser:
        anna = signed_in(browser.new_page(viewport=SIZE, color_scheme="dark"), links["anna"])
        for image_id in _most_suggested(database):
            anna.goto(f"{address}/#{image_id}")
            anna.reload()
            anna.wait_for_timeout(1500)
            if anna.locator("#suggested").is_visible():
                break
        anna.keyboard.press("Shift+C")
        anna.wait_for_selector('#status[data-state="saved"]')
        anna.wait_for_timeout(500)
        anna.screenshot(path=folder / "suggestions.jpg", type="jpeg", quality=85)
        ada = signed_in(browser.new_page(viewport={"width": 1180, "height": 800}, color_scheme="dark"), links["ada"])
        ada.goto(f"{address}/overview")
        effect = ada.locator("#effect-section")
        effect.wait_for()
        ada.wait_for_timeout(500)
        effect.screenshot(path=folder / "suggestion-effect.jpg", type="jpeg", quality=85)


def _most_suggested(database: Path) -> list[str]:
    """Photographs that nobody has read, those with the most suggested findings first."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT image_id, content FROM suggestions").fetchall()
        read = {row[0] for row in connection.execute("SELECT DISTINCT image_id FROM answers")}
    found = {image_id: json.loads(content)["findings"] for image_id, content in rows if image_id not in read}
    return sorted(found, key=lambda image_id: (-len(found[image_id]), image_id))
