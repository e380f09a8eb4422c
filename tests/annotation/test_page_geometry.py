"""The regions that the page draws and hits are those of ``region_map``, on every pixel."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from math import cos, radians, sin
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from fundusnet.data.regions import REGIONS, region_map

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
STATIC = Path(__file__).resolve().parents[2] / "fundusnet" / "annotation" / "static"
HEIGHT, WIDTH = 96, 120

Geometry = tuple[tuple[float, float], tuple[float, float]]


def geometries() -> list[Geometry]:
    """Both eyes, all rotations, whole and odd coordinates, points at and beyond the border, far and near."""
    named: list[Geometry] = [
        ((80, 48), (40, 50)),
        ((40, 48), (80, 50)),
        ((60, 48), (30, 48)),  # lines run along pixels
        ((30, 48), (60, 48)),
        ((60, 20), (60, 50)),  # the fovea exactly below the disc
        ((60, 70), (60, 40)),
        ((0, 0), (119, 95)),
        ((-25.5, 40), (20, 60.25)),
        ((140, 110), (70, 50)),
        ((-900, 40), (-300, 44)),
        ((300, 48), (60, 52)),
        ((50, 50), (51, 50)),
        ((5, 48), (114, 47.5)),
    ]
    turned = [
        ((60 - 17 * cos(radians(a)), 48 - 17 * sin(radians(a))), (60 + 17 * cos(radians(a)), 48 + 17 * sin(radians(a))))
        for a in range(0, 360, 15)
    ]
    rng = np.random.default_rng(0)
    free = rng.uniform([-40, -40, -40, -40], [160, 136, 160, 136], (40, 4))
    whole = rng.integers(0, 96, (40, 4))
    return named + turned + [((a, b), (c, d)) for a, b, c, d in [*free.tolist(), *whole.tolist()] if (a, b) != (c, d)]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """An empty page that has loaded geometry.js as ``geometry``."""
    page = browser.new_page()
    body = {"body": (STATIC / "geometry.js").read_text(), "content_type": "text/javascript"}
    page.route("http://page.test/geometry.js", lambda route: route.fulfill(**body))
    page.route("http://page.test/", lambda route: route.fulfill(body="<html></html>", content_type="text/html"))
    page.goto("http://page.test/")
    page.evaluate("async () => { window.geometry = await import('/geometry.js'); }")
    page.evaluate(
        """() => { window.pack = bytes => {
            let text = "";
            for (const byte of bytes) text += String.fromCharCode(byte);
            return btoa(text);
        }; }"""
    )
    yield page
    page.close()


def maps(packed: list[str]) -> list[NDArray[np.uint8]]:
    return [np.frombuffer(base64.b64decode(one), np.uint8).reshape(HEIGHT, WIDTH) for one in packed]


def test_the_page_uses_the_same_region_names(page: Page) -> None:
    assert page.evaluate("geometry.REGIONS") == list(REGIONS.values())


def test_a_click_on_any_pixel_hits_the_region_of_the_region_map(page: Page) -> None:
    cases = geometries()
    packed = page.evaluate(
        """([cases, height, width]) => cases.map(([disc, fovea]) => {
            const frame = geometry.frameOf(disc, fovea);
            const bytes = new Uint8Array(height * width);
            for (let i = 0; i < bytes.length; i += 1) {
                bytes[i] = geometry.regionAt(frame, [i % width, Math.floor(i / width)]);
            }
            return pack(bytes);
        })""",
        [cases, HEIGHT, WIDTH],
    )
    for (disc, fovea), found in zip(cases, maps(packed), strict=True):
        np.testing.assert_array_equal(found, region_map((HEIGHT, WIDTH), disc, fovea), err_msg=f"{disc}, {fovea}")


def test_every_pixel_is_drawn_in_its_region(page: Page) -> None:
    """Path data, filled by the browser: each pixel in exactly one; within 0.05 px of a line it may be either."""
    cases = geometries()[:45]
    packed = page.evaluate(
        """([cases, height, width]) => cases.map(([disc, fovea]) => {
            const context = new OffscreenCanvas(1, 1).getContext("2d");
            const paths = geometry.regionPaths(geometry.frameOf(disc, fovea), width, height);
            const drawn = geometry.REGIONS.map((name) => new Path2D(paths[name]));
            const bytes = new Uint8Array(height * width);
            for (let i = 0; i < bytes.length; i += 1) {
                const inside = drawn.map((path) => context.isPointInPath(path, i % width, Math.floor(i / width)));
                bytes[i] = inside.filter(Boolean).length === 1 ? inside.indexOf(true) + 1 : 0;
            }
            return pack(bytes);
        })""",
        [cases, HEIGHT, WIDTH],
    )
    for (disc, fovea), drawn in zip(cases, maps(packed), strict=True):
        expected = region_map((HEIGHT, WIDTH), disc, fovea)
        beside = [
            region_map((HEIGHT, WIDTH), (disc[0] + x, disc[1] + y), (fovea[0] + x, fovea[1] + y))
            for x in (-0.05, 0.05)
            for y in (-0.05, 0.05)
        ]
        clear = np.all([other == expected for other in beside], axis=0)
        # A far disc's curve is approximated by the browser over thousands of pixels, a little less exactly.
        wrong = (drawn != expected) & clear
        assert not wrong.any(), f"{disc}, {fovea}: {np.argwhere(wrong)[:5].tolist()}"
        assert clear.mean() > 0.5


def test_marks_lie_in_their_region_and_in_the_picture(page: Page) -> None:
    for disc, fovea in geometries():
        anchors = page.evaluate(
            "([disc, fovea, width, height]) => geometry.regionAnchors(geometry.frameOf(disc, fovea), width, height)",
            [disc, fovea, WIDTH, HEIGHT],
        )
        regions = region_map((HEIGHT * 4, WIDTH * 4), _finer(disc), _finer(fovea))
        for number, name in REGIONS.items():
            if anchors[name] is None:
                # No room on a grid of 48 columns: at most some slivers of the picture.
                assert (regions == number).mean() < 0.02, (disc, fovea, name)
                continue
            x, y = anchors[name]
            assert 0 <= x < WIDTH and 0 <= y < HEIGHT
            answer = page.evaluate(
                "([disc, fovea, point]) => geometry.regionNameAt(geometry.frameOf(disc, fovea), point)",
                [disc, fovea, [x, y]],
            )
            assert answer == name


@pytest.mark.parametrize("points", [[[5, 5], [5, 5]], [[5, 5], [None, 5]], [[1e12, 0], [5, 5]]])
def test_points_that_define_no_regions_are_refused(page: Page, points: list[list[float | None]]) -> None:
    refused = page.evaluate(
        """text => {
            const [disc, fovea] = JSON.parse(text).map((point) => point.map((value) => value ?? NaN));
            try { geometry.frameOf(disc, fovea); } catch (error) { return error instanceof RangeError; }
            return false;
        }""",
        json.dumps(points),
    )
    assert refused


def _finer(point: tuple[float, float]) -> tuple[float, float]:
    """The same place in a picture with four times as many pixels."""
    return (point[0] + 0.5) * 4 - 0.5, (point[1] + 0.5) * 4 - 0.5
