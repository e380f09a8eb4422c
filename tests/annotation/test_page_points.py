"""Where disc and fovea come from: a guess is shown as one, and becomes the reader's only by the reader's own act."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Reader, Server, Start, new_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
ORIGINS = ("disc_origin", "fovea_origin")


@pytest.fixture(scope="module")
def unknown(eyes: Path, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A study of photographs of which nothing is known but the files."""
    root = tmp_path_factory.mktemp("unknown") / "photographs"
    shutil.copytree(eyes / "images", root)
    names = ",".join(f"reader{number}" for number in range(12))
    return start(root, "data=folder", f"annotators=[{names}]", "readings_per_image=12")


@pytest.fixture
def guessed(browser: Browser, unknown: Server) -> Iterator[Reader]:
    """A reader of them, at the first photograph."""
    reader = new_reader(browser, unknown).open(unknown.newcomer())
    yield reader
    reader.tab.context.close()
    assert reader.problems == []


def origins(reader: Reader, image_id: str) -> tuple[str | None, ...]:
    reader.wait_status("saved")
    stored = reader.stored(image_id)
    return tuple(stored[name] for name in ORIGINS)


def ring(reader: Reader, name: str) -> str:
    return str(reader.find(f"#{name}").evaluate("one => getComputedStyle(one).borderStyle"))


def test_a_guess_stays_a_guess_and_is_asked_about_once(guessed: Reader) -> None:
    first = guessed.image_id
    assert (ring(guessed, "disc"), ring(guessed, "fovea")) == ("dashed", "dashed")
    assert "are estimates" in guessed.find(".notice").inner_text()
    guessed.press("2", "s")
    assert "Are disc and fovea in place?" in guessed.find(".notice.urgent").inner_text()
    assert origins(guessed, first) == ("guessed", "guessed")
    for _ in range(3):  # held down
        guessed.tab.keyboard.down("Enter")
    guessed.find(".toast", text="not confirmed").wait_for()
    guessed.tab.keyboard.up("Enter")
    assert guessed.image_id == first, "one more key, not a wrong measurement"
    guessed.press("Enter")
    guessed.wait_other(first)
    assert origins(guessed, first) == ("guessed", "guessed")
    assert guessed.stored(first)["state"] == "done"

    second = guessed.image_id
    guessed.press("n", "Enter")
    guessed.wait_other(second)
    assert origins(guessed, second) == (None, None), "a normal photograph needs no points"


def test_one_key_confirms_both_points(guessed: Reader) -> None:
    first = guessed.image_id
    at = [guessed.handle(name) for name in ("disc", "fovea")]
    guessed.press("2", "s", "g")
    assert origins(guessed, first) == ("placed", "placed")
    assert guessed.find(".notice.urgent").count() == 0
    assert (ring(guessed, "disc"), ring(guessed, "fovea")) == ("double", "solid")
    moved = [guessed.handle(name) for name in ("disc", "fovea")]
    assert moved[0] == pytest.approx(at[0], abs=0.6)
    assert moved[1] == pytest.approx(at[1], abs=0.6), "what is shown stays where it is"
    guessed.press("Control+z")
    assert origins(guessed, first) == ("guessed", "guessed")
    guessed.press("Control+y", "Enter")
    guessed.wait_other(first)


def test_a_dragged_point_is_placed_and_the_other_one_stays_a_guess(guessed: Reader) -> None:
    image_id = guessed.image_id
    x, y = guessed.handle("disc")
    guessed.tab.mouse.move(x, y)
    guessed.tab.mouse.down()
    guessed.tab.mouse.move(x + 20, y + 10, steps=3)
    assert (ring(guessed, "disc"), ring(guessed, "fovea")) == ("double", "dashed")
    guessed.tab.mouse.up()
    assert origins(guessed, image_id) == ("placed", "guessed")
    guessed.press("2", "s")
    assert guessed.find(".notice.urgent").count() == 1, "the fovea is still open"
    guessed.press("p", "p", "ArrowLeft", "Escape")
    assert origins(guessed, image_id) == ("placed", "placed")
    assert guessed.find(".notice.urgent").count() == 0
    guessed.press("o")
    assert origins(guessed, image_id) == ("guessed", "guessed"), "nobody has looked at them on the other side"
    guessed.tab.reload()
    guessed.wait_ready(image_id)
    assert (ring(guessed, "disc"), ring(guessed, "fovea")) == ("dashed", "dashed")


def test_points_of_a_manifest_are_known(reader: Reader) -> None:
    image_id = reader.image_id
    assert (ring(reader, "disc"), ring(reader, "fovea")) == ("double", "solid")
    reader.press("2", "s")
    assert origins(reader, image_id) == ("placed", "placed")
    assert reader.find(".notice").count() == 0


def test_a_corrected_point_reaches_the_very_next_photograph(guessed: Reader) -> None:
    """The next two were loaded in advance, with the guess of before; Enter follows the drag at once."""
    first = guessed.image_id
    guessed.tab.wait_for_load_state("networkidle")
    x, y = guessed.handle("disc")
    guessed.tab.mouse.move(x, y)
    guessed.tab.mouse.down()
    guessed.tab.mouse.move(x + 18, y + 60, steps=3)
    guessed.tab.mouse.up()
    guessed.press("g", "n", "Enter")
    guessed.wait_other(first)
    second = guessed.image_id
    proposed = guessed.tab.evaluate("async id => (await (await fetch(`/api/images/${id}`)).json()).disc", second)
    assert guessed.handle("disc") == pytest.approx(guessed.at(proposed), abs=1)
    moved = guessed.stored(first)["disc"]
    assert proposed[1] == pytest.approx(moved[1], abs=2), "as far down as there, in a photograph of the same size"


def test_a_point_may_lie_beyond_the_edge_but_not_far(guessed: Reader) -> None:
    image_id = guessed.image_id
    side = guessed.tab.evaluate("document.getElementById('picture').width")
    guessed.press("-", "-")
    assert guessed.find("#fit").inner_text() == "64%"
    start = guessed.tab.evaluate("async id => (await (await fetch(`/api/images/${id}`)).json()).fovea", image_id)
    guessed.drag(start, (-0.2 * side, start[1]))
    guessed.press("2", "s", "g")
    assert origins(guessed, image_id) == ("placed", "placed")
    assert guessed.stored(image_id)["fovea"][0] == pytest.approx(-0.2 * side, abs=2)
    guessed.press("p", "p", *["Shift+ArrowLeft"] * 80)
    guessed.wait_status("saved")
    assert guessed.stored(image_id)["fovea"][0] == pytest.approx(-0.5 * side), "no farther than the server accepts"
    guessed.tab.reload()
    guessed.wait_ready(image_id)
    guessed.press("-", "-", "-", "-", "-", "-")
    assert guessed.find("#fit").inner_text() == "50%"
    assert guessed.find("#fovea").bounding_box()
