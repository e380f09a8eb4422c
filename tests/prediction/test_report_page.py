"""The page of predictions as a reader uses it: in a browser, on paper, and after it was mailed."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from predicted import HIGH, SIZE, WIDE, found_findings, found_grades, seen_photograph

from fundusnet.prediction.page_pictures import PICTURES, map_layer, regions_layer
from fundusnet.prediction.report_page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

PROBABILITIES = [(0.9, 0.1), (0.4, 0.25), (0.05, 0.0), (0.6, 0.9), (0.1, 0.19)]


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    page = browser.new_page(viewport={"width": 1024, "height": 768})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    # What is left while it loads is aborted, which is no problem.
    page.on("requestfailed", lambda request: "ABORTED" in str(request.failure) or problems.append(request.url))
    yield page
    page.close()
    assert not problems


def names(tab: Tab) -> list[str]:
    return tab.locator(".tile strong").all_inner_texts()


def written(folder: Path, pictures: int = 100) -> str:
    return write_page(folder, folder / "report.html", pictures).as_uri()


@pytest.mark.browser
def test_photographs_are_sorted_and_filtered_by_finding_flag_and_patient(tab: Tab, tmp_path: Path) -> None:
    tab.goto(written(found_findings(tmp_path / "out", PROBABILITIES)))
    assert names(tab) == ["eye00", "eye03", "eye01", "eye04", "eye02"]
    first, third = (tab.locator(".tile").nth(place).inner_text() for place in (0, 2))
    assert (
        "patient P0, right eye" in first
        and "Drusen\n" in first
        and "Drusen: 0.900" in first
        and "in macula, disc superior" in first
    )
    assert "Hemorrhage\n" in third and "Drusen: 0.40" in third and "blurred" in third
    tab.select_option("[name=finding]", "hemorrhage")
    assert names(tab) == ["eye03", "eye01", "eye04", "eye00", "eye02"]
    tab.select_option("[name=sort]", "nearest")  # the operating point is 0.2
    assert names(tab)[:2] == ["eye04", "eye01"]
    tab.select_option("[name=show]", "present")
    assert set(names(tab)) == {"eye03", "eye01"}
    tab.select_option("[name=flag]", "*")
    assert names(tab) == ["eye01"] and tab.locator("output").inner_text() == "1 of 5"
    tab.select_option("[name=flag]", "")
    tab.select_option("[name=show]", "")
    tab.fill("[name=search]", "p1")
    assert set(names(tab)) == {"eye02", "eye03"}


@pytest.mark.browser
def test_a_photograph_opens_large_with_its_map_and_keys_lead_on(tab: Tab, tmp_path: Path) -> None:
    tab.goto(written(found_findings(tmp_path / "out", PROBABILITIES)))
    tab.locator(".tile").first.click()
    said = tab.locator("#viewer aside").inner_text()
    assert "eye00" in said and "patient P0, right eye · eye00.jpg" in said
    assert "Drusen: present" in said and "Probability 0.900. Counts as present from 0.500." in said
    assert "Hemorrhage: absent" in said and "Activation mostly in: macula, disc superior." in said
    assert "within the white line it reaches the operating point" in said
    assert tab.locator("#viewer .regions").is_visible()
    tab.keyboard.press("r")
    assert not tab.locator("#viewer .regions").is_visible()
    box = tab.locator("#viewer .canvas").bounding_box()
    assert box is not None and box["width"] / box["height"] == pytest.approx(WIDE / HIGH, rel=0.01)
    heat = tab.locator("#viewer .heat")
    shown = heat.bounding_box()
    assert shown == box and heat.evaluate("map => getComputedStyle(map).opacity") == "1"
    tab.keyboard.press("m")
    assert tab.locator("#viewer .heat").evaluate("map => getComputedStyle(map).opacity") == "0"
    tab.keyboard.press("ArrowRight")
    assert "eye03" in tab.locator("#viewer h2").inner_text()
    tab.get_by_text("Hemorrhage: present").click()
    assert tab.locator("#viewer .heat").get_attribute("alt") == "Map of hemorrhage"
    tab.keyboard.press("+")
    larger = tab.locator("#viewer .canvas").bounding_box()
    assert larger is not None and larger["width"] == pytest.approx(1.5 * box["width"], rel=0.01)
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer").is_visible()


@pytest.mark.browser
def test_a_photograph_opens_with_the_chosen_finding_unless_only_another_is_present(tab: Tab, tmp_path: Path) -> None:
    tab.goto(written(found_findings(tmp_path / "out", [(0.99996, 0.9), (0.0, 0.1), (0.1, 0.6)])))
    texts = tab.locator(".tile").all_inner_texts()
    assert "Drusen: > 0.999" in texts[0] and "none of the 2 findings" in texts[2] and "Drusen: < 0.001" in texts[2]
    for place, finding in ((0, "drusen"), (1, "hemorrhage"), (2, "drusen")):
        tab.locator(".tile").nth(place).click()
        assert tab.locator("#viewer .heat").get_attribute("alt") == f"Map of {finding}"
        tab.keyboard.press("Escape")


@pytest.mark.browser
def test_a_large_photograph_is_seen_at_its_own_size(tab: Tab, tmp_path: Path) -> None:
    """The page opens it at 1280 pixels, from the page alone; what lies beside the page follows."""
    folder = found_findings(tmp_path / "out", PROBABILITIES[:2], enlarged=10)
    page = written(folder)
    shown = "[...document.querySelectorAll('#viewer .canvas img')][0].naturalWidth"
    tab.goto(page)
    assert tab.evaluate(shown.replace("#viewer .canvas", ".tile")) == 256
    tab.locator(".tile").first.click()
    tab.wait_for_function(f"{shown} === {10 * WIDE}")
    assert "3000 × 2000 pixels\n" in tab.locator("#viewer aside").inner_text()
    tab.keyboard.press("1")
    box = tab.locator("#viewer .canvas").bounding_box()
    assert box is not None and box["width"] == pytest.approx(10 * WIDE, abs=1)
    frame = tab.locator("#viewer .stage").bounding_box()
    assert frame is not None  # its middle is still that of the photograph
    assert box["x"] + box["width"] / 2 == pytest.approx(frame["x"] + frame["width"] / 2, abs=10)
    assert box["y"] + box["height"] / 2 == pytest.approx(frame["y"] + frame["height"] / 2, abs=10)


@pytest.mark.browser
def test_a_page_without_the_folder_beside_it_says_what_is_missing(browser: Browser, tmp_path: Path) -> None:
    folder = found_findings(tmp_path / "out", PROBABILITIES[:1], enlarged=10)
    written(folder)
    alone = (folder / "report.html").rename(tmp_path / "mailed.html")
    tab = browser.new_page(viewport={"width": 1024, "height": 768})
    tab.goto(alone.as_uri())
    tab.locator(".tile").click()
    tab.get_by_text("1280 × 853 pixels; its own size is in report/, which is not beside this page").wait_for()
    tab.close()


def test_photographs_at_their_own_size_are_not_mailed(tmp_path: Path) -> None:
    folder = found_findings(tmp_path / "out", PROBABILITIES[:3], enlarged=10)
    assert len(list((folder / "report").glob("*.whole.jpg"))) == 3
    text = write_page(folder, folder / "report.html", 2).read_text()
    assert '"whole": "report/eye00.whole.jpg"' in text
    with ZipFile(folder / "report.zip") as archive:
        names = archive.namelist()
    assert "report/eye00.jpg" in names and not any("whole" in name for name in names)


@pytest.mark.browser
def test_a_narrow_page_shows_all_of_its_tables(tab: Tab, tmp_path: Path) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(written(found_findings(tmp_path / "out", PROBABILITIES)))
    for cell in tab.locator("td").all():
        box = cell.bounding_box()
        assert box is not None and box["x"] + box["width"] <= 390


@pytest.mark.browser
def test_each_patient_is_a_sheet_of_paper(tab: Tab, tmp_path: Path) -> None:
    tab.goto(written(found_findings(tmp_path / "out", PROBABILITIES)) + "#print")
    tab.wait_for_function("[...document.querySelectorAll('.sheet img')].every(image => image.complete)")
    tab.emulate_media(media="print")
    assert tab.locator(".sheet h2").all_inner_texts() == ["Patient P0", "Patient P1", "Patient P2"]
    sheet = tab.locator(".sheet").first.inner_text()
    assert sheet.index("eye00, right eye") < sheet.index("eye01, left eye") and "not for diagnosis" in sheet
    both = tab.locator(".eye", has_text="eye03").locator("figcaption").all_inner_texts()
    assert both == ["photograph", "Drusen: 0.600", "Hemorrhage: 0.900"]  # a map of each finding that is present
    assert tab.locator(".eye", has_text="eye03").locator(".heat").count() == 2
    assert not tab.locator("#tiles").is_visible()
    pdf = tab.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 3


@pytest.mark.browser
def test_grades_are_filtered_and_their_probabilities_shown(tab: Tab, tmp_path: Path) -> None:
    folder = found_grades(tmp_path / "out", [(0.1, 0.0), (0.9, 0.2), (0.9, 0.7)], ["normal", "suspicious", "glaucoma"])
    tab.goto(written(folder))
    assert names(tab) == ["eye02", "eye01", "eye00"]
    tab.select_option("[name=show]", "1")
    assert names(tab) == ["eye01"]
    tab.locator(".tile").click()
    said = tab.locator("#viewer aside").inner_text()
    assert "Suspicious" in said and "Above normal: 0.900" in said and "The first stage said normal." in said


def test_a_page_says_whether_it_shows_where_the_network_looked(tmp_path: Path) -> None:
    folder = found_grades(tmp_path / "out", [(0.1, 0.0), (0.9, 0.2)], ["normal", "suspicious", "glaucoma"])
    with_masks = write_page(folder, folder / "report.html", 100).read_text()
    for layer in (folder / PICTURES).glob("*.svg"):
        layer.unlink()
    without = write_page(folder, folder / "report.html", 100).read_text()
    for text, masked in ((with_masks, True), (without, False)):
        assert ("show the network's mask" in text) == masked
        assert ("This network cannot show where it looked" in text) != masked


@pytest.mark.browser
def test_many_photographs_stay_usable_and_travel_as_one_file(tab: Tab, tmp_path: Path) -> None:
    folder = found_findings(tmp_path / "out", [(number / 200, 0.0) for number in range(150)])
    tab.goto(written(folder, pictures=100), wait_until="domcontentloaded")
    assert (folder / "report.html").stat().st_size < 200_000  # pictures lie beside it
    assert tab.locator(".tile").count() == 60 and tab.locator("output").inner_text() == "150 of 150"
    tab.keyboard.press("End")
    tab.wait_for_function("document.querySelectorAll('.tile').length > 60")
    with ZipFile(folder / "report.zip") as archive:
        archive.extractall(tmp_path / "mailed")
    tab.goto((tmp_path / "mailed" / "report.html").as_uri(), wait_until="domcontentloaded")
    loaded = (
        "[...document.querySelectorAll('.tile img')].slice(0, 9).every(image => image.complete && image.naturalWidth)"
    )
    tab.wait_for_function(loaded)


def test_a_page_of_few_photographs_is_one_file(tmp_path: Path) -> None:
    folder = found_findings(tmp_path / "out", PROBABILITIES)
    text = Path(write_page(folder, folder / "report.html", 100)).read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "<link" not in text
    assert text.count('"data:image/svg+xml') == 11 and text.count('"data:image/jpeg') == 10
    assert not (folder / "report.zip").exists()
    assert "For research, not for diagnosis" in text and "Not known: the checkpoint lies outside" in text


def heat_of(layer: str) -> np.ndarray:
    """The opacity of a layer's colours, 0 to 255."""
    data = re.search(r"base64,([^\"]+)", layer)
    assert data is not None
    return np.asarray(Image.open(BytesIO(base64.b64decode(data[1]))).convert("RGBA"))[..., 3]


def test_a_map_lies_where_the_network_saw_it() -> None:
    cells = np.zeros((8, 8), np.float32)
    cells[0, 7] = 1  # upper right of the square in the middle of the photograph
    heat = heat_of(map_layer(cells, seen_photograph(), SIZE, 0.5))
    assert heat.shape == (round(256 * HIGH / WIDE), 256)
    rows, columns = np.nonzero(heat > 128)
    scale = WIDE / 256
    assert 225 < columns.mean() * scale < 250 and rows.mean() * scale < 25
    assert not heat[:, : int(50 / scale) - 1].any()  # outside the field of view


def test_the_line_is_drawn_only_where_the_level_is_reached() -> None:
    cells = np.full((8, 8), 0.3, np.float32)
    assert "<path" in map_layer(cells, seen_photograph(), SIZE, 0.25)
    assert "<path" not in map_layer(cells, seen_photograph(), SIZE, 0.35)
    assert "<path" not in map_layer(cells, seen_photograph(), SIZE, None)


def test_regions_and_landmarks_are_drawn_in_pixels_of_the_photograph() -> None:
    layer = regions_layer(WIDE, HIGH, (100.0, 90.0), (180.0, 100.0))
    assert f'viewBox="0 0 {WIDE} {HIGH}"' in layer
    assert 'cx="100.0" cy="90.0"' in layer and 'cx="180.0" cy="100.0"' in layer
    radius = 2 / 3 * np.hypot(80, 10)
    assert f"A{radius:.1f} {radius:.1f} 0 " in layer  # the macula


def test_a_name_cannot_end_the_script(tmp_path: Path) -> None:
    folder = found_findings(tmp_path / "out", PROBABILITIES[:1])
    table = folder / "predictions.csv"
    table.write_text(table.read_text().replace("eye00.jpg", "</script><b>.jpg"))
    text = write_page(folder, folder / "report.html", 100).read_text()
    assert "</script><b>" not in text
