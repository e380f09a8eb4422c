"""The fellow eye or an earlier visit beside the photograph, and photographs that are assigned while a page is open."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Reader, Start, new_reader

from fundusnet.data.manifest import Manifest, read_manifest, write_manifest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def patients(eyes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn eyes as two visits of two patients' right and left eyes."""
    folder = tmp_path_factory.mktemp("patients") / "eyes"
    shutil.copytree(eyes, folder)
    manifest = read_manifest(eyes)
    images = manifest.images.iloc[:6].assign(
        patient_id=["p", "p", "p", "p", "q", ""],
        eye=["right", "left", "right", "left", "right", "left"],
        visit=["2016-01-31"] * 2 + ["2019-05-02"] * 2 + ["2019-05-02", ""],
    )
    write_manifest(Manifest(folder, images), folder)
    return folder


def sources(reader: Reader) -> tuple[str, str]:
    """The photograph that is read, and the one beside it."""
    main, beside = (reader.tab.eval_on_selector(f"#{name}", "img => img.src") for name in ("picture", "beside-picture"))
    return str(main), str(beside)


def test_the_fellow_eye_and_earlier_visits_are_shown_beside(browser: Browser, patients: Path, start: Start) -> None:
    server = start(patients, "data=csv")
    names = list(read_manifest(patients).images["image_id"])
    reader = new_reader(browser, server, locale="en").open(image_id=names[2])
    assert not reader.find("#beside").is_visible()
    reader.press("Shift+f")
    reader.find("#beside-title", "Fellow eye (left)").wait_for()
    reader.tab.wait_for_function("id => document.getElementById('beside-picture').src.includes(id)", arg=names[3])
    assert names[2] in sources(reader)[0]
    reader.tab.click("#beside-next")
    reader.find("#beside-title", "Same eye, earlier: 2016-01-31").wait_for()
    reader.tab.wait_for_function("id => document.getElementById('beside-picture').src.includes(id)", arg=names[0])
    reader.press("r")  # the same light for both
    filters = reader.tab.eval_on_selector_all("#picture, #beside-picture", "all => all.map(one => one.style.filter)")
    assert filters[0] == filters[1] != ""
    reader.press("1", "s")
    assert reader.lit() == {"macula"}
    reader.press("ArrowRight")
    reader.wait_other(names[2])
    reader.open(image_id=names[4])
    assert not reader.find("#beside").is_visible(), "nothing is known of this patient"
    assert not reader.find("#beside-open").is_visible()
    reader.press("Shift+f")
    reader.find("#toasts", "No other photograph of this patient is known").wait_for()
    reader.open(image_id=names[1])  # the pane is still open
    reader.find("#beside-title", "Fellow eye (right)").wait_for()
    reader.tab.click("#beside-close")
    assert not reader.find("#beside").is_visible()
    assert reader.problems == []
    reader.tab.context.close()


def test_a_study_may_show_nothing_beside(browser: Browser, patients: Path, start: Start) -> None:
    server = start(patients, "data=csv", "beside=[]")
    reader = new_reader(browser, server).open(image_id=list(read_manifest(patients).images["image_id"])[2])
    assert not reader.find("#beside-open").is_visible()
    assert reader.problems == []
    reader.tab.context.close()


def test_what_another_calls_ungradable_comes_to_an_open_page(browser: Browser, patients: Path, start: Start) -> None:
    words = ["annotators=[anna,ben]", "readings_per_image=1", "reread_ungradable=1"]
    server = start(patients, "data=csv", *words)
    anna, ben = (new_reader(browser, server).open(server.links[name]) for name in ("anna", "ben"))
    *first, last = [entry["image_id"] for entry in anna.queue()]
    for image_id in first:
        anna.save(image_id)
    anna.tab.reload()
    anna.wait_ready()
    anna.open(image_id=last)
    theirs = ben.image_id
    ben.press("u", "1")
    ben.wait_other(theirs)
    ben.wait_status("saved")
    anna.press("n", "Enter")
    anna.wait_ready(theirs)
    for reader in (anna, ben):
        assert reader.problems == []
        reader.tab.context.close()
