"""The overview draws what the server counts: groups, which coefficient and why, questions, missing photographs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Reader, Start, new_reader

from fundusnet.data.manifest import Manifest, read_manifest, write_manifest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
GROUPS = "groups={general:{splits:[train,val],readings_per_image:2},special:{splits:[test],readings_per_image:2}}"
PEOPLE = "annotators={general:[anna,ben],special:[emil,fay]}"
ASKED = "questions={grade:{choices:[none,mild,severe]}}"


def cells(page: Reader, table: str) -> list[list[str]]:
    found: list[list[str]] = page.tab.eval_on_selector_all(
        f"#{table} tr", "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    return found


def opened(browser: Browser, server: Any, **options: Any) -> Reader:
    page = new_reader(browser, server, locale="en", **options)
    if "storage_state" not in options:
        page.tab.goto(server.links["ada"])
        page.find("#content").wait_for()
    page.tab.goto(f"{server.address}/overview")
    page.find("#content").wait_for()
    return page


def test_groups_questions_and_coefficients(browser: Browser, eyes: Path, start: Start, tmp_path: Path) -> None:
    root = tmp_path / "eyes"
    shutil.copytree(eyes, root)
    words = ["data=csv", "adjudicators=[ada]", "finding.names=[drusen,hemorrhage]", GROUPS, PEOPLE, ASKED]
    server = start(root, *words)
    for place, name in enumerate(("anna", "ben", "emil", "fay")):
        reader = new_reader(browser, server).open(server.links[name])
        for number, entry in enumerate(sorted(reader.queue(), key=lambda entry: entry["image_id"])):
            if name == "ben" and number == 0:
                continue  # one photograph has a reading less
            marked = {"drusen": ["macula"]} if (number + place) % 2 or number < 3 else {}
            points = {"disc": [150, 120], "fovea": [80, 120]} if marked else {}
            choices = {"": {"grade": ("none", "mild", "severe")[(number + place % 2) % 3]}}
            reader.save(entry["image_id"], findings=marked, choices=choices, **points)
        reader.tab.context.close()
    page = opened(browser, server)
    rows = cells(page, "annotators")
    assert rows[0] == ["general training, validation: 6 photographs, 2 readings each"]
    assert [row[0] for row in rows[1:]] == ["anna", "ben", "Together", rows[4][0], "emil", "fay", "Together"]
    assert rows[3][2] == "11 of 12"
    assert rows[4][0].startswith("special test: 2 photographs")
    agreement = cells(page, "agreement")
    titles = [row[0] for row in agreement if len(row) == 1]
    assert titles == ["All readers", "general", "special"]
    drusen = [row for row in agreement if row[0] == "Drusen"]
    assert [row[3] for row in drusen] == ["7", "5", "2"]
    numbers = page.tab.evaluate("async () => await (await fetch('/api/overview')).json()")
    kappa = numbers["agreement"][0]
    assert kappa["equal_readings"]
    assert drusen[0][1].replace("\n", " ").startswith(f"κ {kappa['kappa_image']:.2f}".replace("-", "−"))
    assert not page.find("#alpha-hint").is_visible()
    grades = cells(page, "questions")
    assert [row[0] for row in grades] == ["All readers", "Grade", "general", "Grade", "special", "Grade"]
    grade = numbers["questions"][0]
    assert grades[1][2] == str(grade["units"]) == "7"
    assert " ".join(grades[1][3].split()) == " ".join(f"{name} {count}" for name, count in grade["given"].items())
    assert page.problems == []
    signed_in = page.tab.context.storage_state()
    page.tab.context.close()

    server.kill()
    manifest = read_manifest(root)
    write_manifest(Manifest(root, manifest.images.iloc[:7]), root)
    server.start()
    page = opened(browser, server, viewport={"width": 390, "height": 844}, storage_state=signed_in)
    gone = str(manifest.images["image_id"].iloc[7])
    assert gone in page.find("#missing").inner_text()
    assert page.find("#missing-count").inner_text() == "1"
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out on a phone"
    assert page.problems == []
    page.tab.context.close()


def test_where_readings_are_unequal_alpha_is_shown(browser: Browser, eyes: Path, start: Start) -> None:
    server = start(eyes, "data=csv", "annotators=[anna,ben,cleo]", "adjudicators=[ada]", "finding.names=[drusen]")
    for place, name in enumerate(("anna", "ben", "cleo")):
        reader = new_reader(browser, server).open(server.links[name])
        for number, entry in enumerate(sorted(reader.queue(), key=lambda entry: entry["image_id"])):
            marked = {"drusen": ["macula"]} if (number + place) % 3 else {}
            points = {"disc": [150, 120], "fovea": [80, 120]} if marked else {}
            if name != "cleo" or number % 2:
                reader.save(entry["image_id"], findings=marked, **points)
        reader.tab.context.close()
    page = opened(browser, server)
    found = page.tab.evaluate("async () => (await (await fetch('/api/overview')).json()).agreement[0]")
    (row,) = cells(page, "agreement")
    assert not found["equal_readings"]
    assert row[1].replace("\n", " ").startswith(f"α {found['alpha_image']:.2f}".replace("-", "−"))
    low, high = (f"{bound:.2f}".replace("-", "−") for bound in found["alpha_image_interval"])
    assert f"{low} – {high}" in row[1]
    assert page.find("#alpha-hint").is_visible()
    title = page.find("#agreement .estimate").first.get_attribute("title")
    assert title == f"κ {found['kappa_image']:.2f}".replace("-", "−")
    assert page.problems == []
    page.tab.context.close()
