"""The annotation page in a real browser with a real server: what a reader does, and what may go wrong."""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from browsing import IMAGES, SIZE, TABLET, Reader, Server, Start, new_reader, points_of

from fundusnet.data.manifest import Manifest, images_table, read_manifest, write_manifest
from fundusnet.data.regions import REGIONS, cue_mask, region_map

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def places(regions: np.ndarray, number: int, margin: int = 3) -> list[tuple[int, int]]:
    """Pixels (x, y) well inside a region and inside the camera's field."""
    height, width = regions.shape
    inside = cv2.erode((regions == number).astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1)))
    y, x = np.nonzero(inside)
    field = np.hypot(x - width / 2, y - height / 2) < 0.44 * min(height, width)
    return list(zip(x[field].tolist(), y[field].tolist(), strict=True))


# The whole way


@pytest.mark.timeout(900)
def test_two_annotators_read_a_study_and_a_network_trains_on_it(
    browser: Browser, eyes: Path, start: Start, tmp_path: Path
) -> None:
    server = start(eyes, "data=csv", "annotators=[anna,ben]", "readings_per_image=2")
    sick = {f"eye{number:05d}" for number in range(0, IMAGES, 2)}  # in every split one at least, and one not
    moved = "eye00000"
    disc, fovea = points_of(eyes, moved)
    new_disc = (disc[0] - 12, disc[1] + 9)

    for name in ("anna", "ben"):
        reader = new_reader(browser, server).open(server.links[name])
        reader.tab.goto(server.links[name])
        reader.find("main", "used before").wait_for()  # a link signs in once
        reader.open()
        assert reader.find("#progress-text").inner_text() == f"0 of {IMAGES} done"
        seen = []
        for count in range(IMAGES):
            reader.wait_ready()
            seen.append(reader.image_id)
            if count == IMAGES // 2:
                server.kill()
                read(reader, seen[-1] in sick)
                reader.wait_status("unreachable")
                server.start()
            elif reader.image_id == moved:
                reader.drag(disc, new_disc)
                read(reader, True)
            else:
                read(reader, seen[-1] in sick)
        assert sorted(seen) == [f"eye{number:05d}" for number in range(IMAGES)], "each once"
        reader.find(".notice", text="All photographs are done").wait_for()
        reader.wait_status("saved")
        assert reader.find("#progress-text").inner_text() == f"{IMAGES} of {IMAGES} done"
        reader.tab.reload()
        reader.wait_ready()
        stored = reader.stored(moved)
        assert stored["findings"] == {"hemorrhage": ["macula", "superotemporal"]}
        assert stored["disc"] == pytest.approx(new_disc, abs=1)
        assert stored["fovea"] == pytest.approx(fovea, abs=0.01)
        assert 0 < stored["seconds"] < 60
        assert reader.problems == []
        reader.tab.context.close()

    export = tmp_path / "export"
    study = ["data=csv", f"data.root={eyes}", f"folder={server.folder}"]
    fundusnet("annotate", *study, f"export={export}")
    manifest = read_manifest(export)
    assert len(manifest.images) == IMAGES
    assert set(manifest.readings["annotator_id"].groupby(manifest.readings["image_id"]).nunique()) == {2}
    marked = manifest.readings[manifest.readings["finding"] == "hemorrhage"]
    assert set(marked["image_id"]) == sick
    assert set(marked["regions"]) == {"macula;superotemporal"}
    row = manifest.images.set_index("image_id").loc[moved]
    assert (row.disc_x, row.disc_y) == pytest.approx(new_disc, abs=1)

    fundusnet(
        "train", "data=csv", f"data.root={export}", f"data.folder={tmp_path}/prepared", f"run_dir={tmp_path}/run",
        "finding=hemorrhage", "data.size=64", "data.workers=1", "data.num_workers=0", "data.batch_size=4",
        "model.network.width=2", "model.network.reductions=4", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        "evaluation.bootstrap=20",
    )  # fmt: skip
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"


def read(reader: Reader, sick: bool) -> None:
    """A finding, one region by pointer and one by key; or normal. Then on."""
    if not sick:
        reader.press("n", "Enter")
        return
    reader.press("3")
    x, y = reader.handle("fovea")
    reader.tab.mouse.click(x, y + 40)
    assert reader.lit() == {"macula"}
    # Superotemporal lies at the top on the fovea's side.
    reader.press("q" if reader.handle("fovea")[0] < reader.handle("disc")[0] else "e")
    assert reader.lit() == {"macula", "superotemporal"}
    reader.press("Enter")


def fundusnet(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "fundusnet", *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


# Regions


@pytest.mark.parametrize("image_id", ["eye00000", "eye00001"])
def test_a_click_marks_the_region_of_the_region_map(reader: Reader, eyes: Path, image_id: str) -> None:
    reader.open(image_id=image_id)
    reader.press("2")
    disc, fovea = points_of(eyes, image_id)
    regions = region_map((SIZE, SIZE), disc, fovea)
    choose = random.Random(image_id)
    for number, name in REGIONS.items():
        spots = places(regions, number)
        if not spots:
            continue
        spot = choose.choice(spots)
        reader.click(spot)
        assert reader.lit() == {name}, f"{spot} of {image_id}"
        reader.click(spot)
        assert reader.lit() == set(), "a second click takes it back"


def test_clicks_hit_the_same_pixels_zoomed_and_moved(reader: Reader, eyes: Path) -> None:
    disc, fovea = points_of(eyes, reader.image_id)
    regions = region_map((SIZE, SIZE), disc, fovea)
    reader.press("2")
    box = reader.find("#stage").bounding_box()
    assert box is not None
    hit = set()
    for seed in range(14):
        choose = random.Random(seed)
        reader.press("f")
        reader.tab.mouse.move(box["x"] + box["width"] * choose.random(), box["y"] + box["height"] * choose.random())
        for _ in range(choose.randrange(4)):
            reader.tab.mouse.wheel(0, -300)
        reader.press("Shift+ArrowRight", "Shift+ArrowDown")
        number = choose.choice(list(REGIONS))
        for spot in choose.sample(places(regions, number) or [(0, 0)], k=1):
            x, y = reader.at(spot)
            in_sight = box["x"] < x < box["x"] + box["width"] and box["y"] < y < box["y"] + box["height"]
            if spot == (0, 0) or not in_sight:
                continue
            before = reader.lit()
            reader.click(spot)
            assert reader.lit() ^ before == {REGIONS[number]}
            hit.add(seed)
    assert len(hit) >= 4


def test_each_finding_keeps_its_own_regions_and_colour(reader: Reader) -> None:
    reader.press("1", "s")
    first = reader.tab.eval_on_selector(".overlay .region.on", "one => getComputedStyle(one).stroke")
    reader.press("2", "s", "w")
    assert reader.lit() == {"macula", "disc_superior"}
    second = reader.tab.eval_on_selector(".overlay .region.on", "one => getComputedStyle(one).stroke")
    assert first != second
    assert sorted(reader.find(".overlay .pip").all_text_contents()) == ["1", "2", "2"]
    reader.press("1")
    assert reader.lit() == {"macula"}
    reader.wait_status("saved")
    regions = reader.stored(reader.image_id)["findings"]
    assert {name: set(where) for name, where in regions.items()} == {
        "macular_hole": {"macula"},
        "hard_exudate": {"macula", "disc_superior"},
    }


def test_one_key_marks_all_regions_or_none(reader: Reader) -> None:
    reader.press("2", "s", "Shift+a")
    assert reader.lit() == set(REGIONS.values())
    reader.press("Shift+a")
    assert reader.lit() == set()
    reader.press("Control+z", "Control+z")
    assert reader.lit() == {"macula"}
    reader.find('#pad [data-does="all"]').click()
    reader.find('#pad [data-does="clear"]').click()
    assert reader.lit() == set()


def test_a_region_needs_a_finding(reader: Reader) -> None:
    reader.press("s")
    assert reader.lit() == set()
    reader.find(".toast", text="Choose a finding first").wait_for()
    reader.press("Enter")
    reader.find(".toast", text="Nothing is marked yet").wait_for()
    assert reader.stored(reader.image_id)["version"] == 0


# Keys


def test_everything_works_without_a_pointer(reader: Reader) -> None:
    first = reader.image_id
    reader.press("ArrowDown", "ArrowDown", "Numpad5", "Numpad8")
    assert reader.lit() == {"macula", "disc_superior"}
    reader.press("Control+z")
    assert reader.lit() == {"macula"}
    reader.press("Control+Shift+z")
    assert reader.lit() == {"macula", "disc_superior"}
    reader.press("m")
    reader.tab.keyboard.type("2 near the rim; n, k and ? are letters here")
    reader.press("Escape")
    reader.press("Enter")
    reader.wait_other(first)
    second = reader.image_id
    reader.press("u", "2")
    reader.wait_other(second)
    third = reader.image_id
    reader.press("k")
    reader.wait_other(third)
    reader.press("n")
    reader.wait_status("saved")
    stored = reader.stored(first)
    assert stored["state"] == "done"
    assert stored["comment"] == "2 near the rim; n, k and ? are letters here"
    assert stored["findings"] == {"hard_exudate": ["disc_superior", "macula"]}
    assert (reader.stored(second)["state"], reader.stored(second)["ungradable"]) == ("ungradable", "too dark")
    assert reader.stored(third)["state"] == "skipped"
    assert reader.stored(reader.image_id)["normal"] is True
    assert reader.stored(reader.image_id)["state"] == "todo", "normal is said; Enter says that it is all"
    reader.press("ArrowLeft")
    reader.wait_ready(third)
    reader.press("?")
    assert reader.find("#sheet").is_visible()
    reader.press("n", "Escape")
    assert reader.stored(third)["state"] == "skipped", "keys mean nothing below the help"
    reader.press("j")
    assert reader.find("#images li").count() == IMAGES
    reader.press("Shift+Tab", "Shift+Tab", "Enter")
    reader.wait_ready(first)


def test_undo_and_redo_step_through_all_changes(reader: Reader) -> None:
    image_id = reader.image_id
    steps = [("2", "s"), ("q",), ("3", "w"), ("n",), ("2", "x"), ("o",), ("Backspace",)]
    states = []
    for keys in steps:
        reader.press(*keys)
        reader.wait_status("saved")
        states.append(meaning(reader.stored(image_id)))
    assert len({json.dumps(state) for state in states}) == len(states), "each step changes something"
    for state in reversed(states[:-1]):
        reader.press("Control+z")
        reader.wait_status("saved")
        assert meaning(reader.stored(image_id)) == state
    for state in states[1:]:
        reader.press("Control+y")
        reader.wait_status("saved")
        assert meaning(reader.stored(image_id)) == state


def test_keys_of_other_keyboards(reader: Reader) -> None:
    """Regions and digits go by their place; so do the letters of alphabets other than the Latin one."""
    first = reader.image_id

    def press(key: str, code: str) -> None:
        reader.tab.evaluate(
            "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, code, bubbles: true }))",
            [key, code],
        )

    press("é", "Digit2")  # French
    press("y", "KeyZ")  # German
    press("ы", "KeyS")  # Russian
    assert reader.lit() - {"inferotemporal", "inferonasal"} == {"macula"}
    assert len(reader.lit()) == 2
    press("т", "KeyN")
    assert reader.find("#normal").get_attribute("aria-pressed") == "true"
    press("л", "KeyK")
    reader.wait_other(first)
    reader.wait_status("saved")
    assert reader.stored(first)["state"] == "skipped"


def meaning(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what saving adds."""
    return {name: answer[name] for name in ("findings", "normal", "ungradable", "comment", "disc", "fovea", "state")}


def test_enter_after_a_click_still_means_done(reader: Reader) -> None:
    first = reader.image_id
    reader.find('[data-finding="drusen"]').click()
    reader.find('#pad [data-region="macula"]').click()
    assert reader.lit() == {"macula"}
    reader.press("Enter")
    reader.wait_other(first)
    reader.wait_status("saved")
    assert reader.stored(first)["state"] == "done"


# Disc and fovea


def test_regions_follow_a_handle_while_it_is_dragged(reader: Reader, eyes: Path) -> None:
    image_id = reader.image_id
    disc, fovea = points_of(eyes, image_id)
    macula = '.overlay [data-region="macula"]'
    before = reader.find(macula).get_attribute("d")
    x, y = reader.at(fovea)
    # Taken at its rim, it does not jump under the pointer.
    reader.tab.mouse.move(x + 6, y - 5)
    reader.tab.mouse.down()
    reader.tab.mouse.move(x + 36, y + 15, steps=4)
    during = reader.find(macula).get_attribute("d")
    assert during != before
    assert reader.stored(image_id)["version"] == 0, "kept when it is let go"
    reader.tab.mouse.up()
    reader.wait_status("saved")
    stored = reader.stored(image_id)
    scale = (reader.at((100, 0))[0] - reader.at((0, 0))[0]) / 100
    assert stored["fovea"] == pytest.approx((fovea[0] + 30 / scale, fovea[1] + 20 / scale), abs=0.3)
    assert stored["disc"] == pytest.approx(disc, abs=0.01)
    # What is clicked from now on follows the new place.
    reader.press("2")
    regions = region_map((SIZE, SIZE), tuple(stored["disc"]), tuple(stored["fovea"]))
    for number in (3, 5, 6):
        reader.click(random.Random(number).choice(places(regions, number)))
    assert reader.lit() == {REGIONS[number] for number in (3, 5, 6)}
    reader.press("Control+z", "Control+z", "Control+z", "Control+z")
    assert reader.find(macula).get_attribute("d") == before


def test_handles_move_by_keys_and_mirror_for_the_other_eye(reader: Reader, eyes: Path) -> None:
    image_id = reader.image_id
    disc, fovea = points_of(eyes, image_id)
    scale = (reader.at((100, 0))[0] - reader.at((0, 0))[0]) / 100
    reader.press("p", "ArrowRight", "ArrowRight", "Shift+ArrowDown", "p", "ArrowUp", "p")
    reader.wait_status("saved")
    stored = reader.stored(image_id)
    assert stored["disc"] == pytest.approx((disc[0] + 2 / scale, disc[1] + 10 / scale), abs=0.05)
    assert stored["fovea"] == pytest.approx((fovea[0], fovea[1] - 1 / scale), abs=0.05)
    reader.press("o")
    reader.wait_status("saved")
    mirrored = reader.stored(image_id)
    assert mirrored["disc"] == pytest.approx((SIZE - 1 - stored["disc"][0], stored["disc"][1]), abs=0.02)
    assert (reader.handle("disc")[0] < reader.handle("fovea")[0]) == (disc[0] > fovea[0])
    # The pad lies as the picture does.
    pad = reader.tab.eval_on_selector_all("#pad [data-region]", "all => all.map(one => one.dataset.region)")
    assert (pad.index("superotemporal") > pad.index("superonasal")) == (disc[0] > fovea[0])
    reader.press("Control+z", "Control+z", "Control+z")
    reader.wait_status("saved")
    assert reader.stored(image_id)["disc"] is None, "steps of one arrow-key move are one step to undo"


def test_a_tap_on_a_handle_marks_the_region_beneath(reader: Reader, eyes: Path) -> None:
    reader.press("2")
    reader.click(points_of(eyes, reader.image_id)[1])
    assert reader.lit() == {"macula"}


def test_one_person_with_a_folder_of_photographs(browser: Browser, eyes: Path, start: Start, tmp_path: Path) -> None:
    """Nothing known but the files, one of them broken: points are guessed, and nobody else is asked for anything."""
    root = tmp_path / "photographs"
    shutil.copytree(eyes / "images", root)
    (root / "eye00002.jpg").write_bytes((root / "eye00002.jpg").read_bytes()[:300])
    reader = new_reader(browser, start(root, "data=folder"))
    asked: list[str] = []
    reader.tab.on("request", lambda request: asked.append(request.url))
    reader.open(image_id="eye00000")
    assert reader.find(".notice").inner_text().startswith("Disc and fovea are estimates")
    assert reader.handle("disc")[0] > reader.handle("fovea")[0], "a right eye"
    reader.press("2", "s")
    reader.wait_status("saved")
    stored = reader.stored("eye00000")
    assert stored["disc"] and stored["fovea"], "regions are kept with the points they were seen on"

    reader.tab.goto(f"{reader.address}/#eye00002")
    reader.find("#loading", text="ungradable").wait_for()
    reader.press("s", "n", "Enter")
    reader.press("u", "6")
    reader.wait_other("eye00002")
    reader.wait_status("saved")
    assert reader.stored("eye00002") is None
    states = reader.tab.evaluate("async () => (await (await fetch('/api/queue')).json()).images")
    assert {entry["image_id"] for entry in states if entry["state"] == "ungradable"} == {"eye00002"}

    for page in ("overview", "adjudicate"):
        reader.find(f'.pages a[href="/{page}"]').click()
        reader.tab.wait_for_url(f"{reader.address}/{page}")
        reader.tab.wait_for_load_state("networkidle")
    assert reader.find("#status, .overview").count() == 1
    assert [url for url in asked if not url.startswith((reader.address, "data:", "blob:"))] == []
    assert reader.problems == [], "a breach of the content security policy would stand here"


# Saving


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_in_a_burst(server: Server, reader: Reader) -> None:
    image_id = reader.image_id
    acknowledged: list[dict[str, Any]] = []
    reader.tab.on("response", lambda answer: _note(acknowledged, answer))
    reader.press("2")
    for count in range(60):
        reader.press("qweaszxc"[count % 7])
        if count == 25:
            server.kill()
    reader.wait_status("unreachable")
    assert "unreachable" in reader.find("#status").inner_text()
    assert acknowledged, "some were saved before"
    kept = reader.lit()
    server.start()
    reader.wait_status("saved")
    stored = reader.stored(image_id)
    assert set(stored["findings"].get("hard_exudate", [])) == kept == reader.lit()
    versions = [one["version"] for one in acknowledged]
    # One whose acknowledgement the kill swallowed is acknowledged again; none is stored twice, none is missing.
    assert sorted(set(versions)) == list(range(1, stored["version"] + 1))


def _note(acknowledged: list[dict[str, Any]], answer: Any) -> None:
    if answer.request.method == "PUT" and answer.status == 200:
        acknowledged.append({"version": json.loads(answer.request.post_data)["version"] + 1})


def test_an_answer_kept_by_a_page_that_closes_later_is_shown(server: Server, reader: Reader) -> None:
    """A second page opens while the first, which cannot send, is still there; it takes the answer over at its end."""
    first = reader.image_id
    reader.tab.route("**/answer", lambda route: route.abort())
    reader.press("2", "s", "w")
    reader.wait_status("unreachable")
    second = Reader(reader.tab.context.new_page(), server.address).open(image_id=first)
    second.press("2")
    assert second.lit() == set() and second.stored(first)["version"] == 0
    reader.tab.close()
    second.find(".overlay .region.on").nth(1).wait_for(state="attached")
    assert second.lit() == {"macula", "disc_superior"}
    second.press("e")
    second.tab.wait_for_function(
        "async id => (await (await fetch(`/api/images/${id}`)).json()).answer.findings.hard_exudate?.length === 3",
        arg=first,
    )
    assert second.problems == []
    reader.tab = second.tab


def test_answers_kept_by_a_closed_page_are_sent_by_the_next(server: Server, reader: Reader) -> None:
    first = reader.image_id
    reader.press("2", "s")
    reader.wait_status("saved")
    reader.wait_ahead()
    server.kill()
    reader.press("w", "Enter")
    reader.wait_ready()
    assert reader.image_id != first, "the next photograph was at hand already"
    second = reader.image_id
    reader.press("4", "x")
    assert reader.lit() == {"disc_inferior"}
    reader.wait_status("unreachable")
    assert "2 photographs" in reader.find("#status").inner_text()
    context = reader.tab.context
    reader.tab.close()
    server.start()
    again = Reader(context.new_page(), server.address)
    again.open(image_id=first)
    again.wait_status("saved")
    stored = again.stored(first)
    assert (stored["state"], set(stored["findings"]["hard_exudate"])) == ("done", {"macula", "disc_superior"})
    assert again.stored(second)["findings"] == {"membrane": ["disc_inferior"]}
    again.press("2")
    assert again.lit() == {"macula", "disc_superior"}
    left = again.tab.evaluate("Object.keys(localStorage).filter(key => key.startsWith('fundusnet/outbox'))")
    assert left == []
    again.press("e", "w")
    again.wait_status("saved")
    assert again.find("#conflict").is_hidden(), "its own past is no conflict"
    assert again.problems == []


def test_a_repeated_change_is_stored_once(reader: Reader) -> None:
    """The server stores, its answer gets lost, the page asks again."""
    image_id = reader.image_id
    lost: list[str] = []

    def lose(route: Any) -> None:
        if len(lost) < 2:
            response = route.fetch()
            assert response.status == 200
            lost.append(route.request.post_data)
            route.abort()
        else:
            lost.append(route.request.post_data)
            route.continue_()

    reader.tab.route("**/answer", lose)
    reader.press("2", "s")
    reader.wait_status("unreachable")
    reader.wait_status("saved")
    assert lost[0] == lost[1] == lost[2]
    assert reader.stored(image_id)["version"] == 1


@pytest.mark.parametrize("held", ["mine", "theirs"])
def test_two_tabs_do_not_overwrite_each_other_silently(reader: Reader, held: str) -> None:
    image_id = reader.image_id
    other = Reader(reader.tab.context.new_page(), reader.address).open(image_id=image_id)
    reader.press("2", "s")
    reader.wait_status("saved")
    other.press("4", "x")
    other.find("#conflict").wait_for()
    assert "Hard exudate: Macula" in other.find("#conflict .theirs").inner_text()
    assert "Membrane: Disc inferior" in other.find("#conflict .mine").inner_text()
    other.press("Escape")
    other.find("#conflict").wait_for()
    assert reader.stored(image_id)["findings"] == {"hard_exudate": ["macula"]}, "nothing before it is decided"
    other.find(f'#conflict button[value="{held}"]').click()
    other.wait_status("saved")
    mine, theirs = {"membrane": ["disc_inferior"]}, {"hard_exudate": ["macula"]}
    assert other.stored(image_id)["findings"] == (mine if held == "mine" else theirs)
    other.press("Control+z")
    other.wait_status("saved")
    brought_back = theirs if held == "mine" else mine
    assert other.stored(image_id)["findings"] == brought_back, "undo brings the other one back"
    assert other.problems == []
    other.tab.close()


def test_two_conflicts_are_decided_one_by_one(reader: Reader) -> None:
    """Two photographs changed in two tabs, one of them offline: a decision is about the photograph that is shown."""
    both = {"eye00000", "eye00001"}
    other = Reader(reader.tab.context.new_page(), reader.address).open()
    reader.tab.route("**/answer", lambda route: route.abort())
    for image_id in sorted(both):
        reader.open(image_id=image_id)
        reader.press("4", "x", "m")
        reader.tab.keyboard.type(f"my {image_id}")
        reader.press("Escape")
        other.open(image_id=image_id)
        other.press("2", "s")
        other.wait_status("saved")
    mine, theirs = {"membrane": ["disc_inferior"]}, {"hard_exudate": ["macula"]}

    reader.tab.unroute("**/answer")
    reader.find("#conflict").wait_for()
    reader.tab.wait_for_timeout(700)  # until both have been refused
    shown = reader.find("#conflict .which").inner_text()
    left = (both - {shown}).pop()
    assert shown in str(reader.find("#conflict img").get_attribute("src"))
    assert f"my {shown}" in reader.find("#conflict .mine").inner_text(), "all that differs is said"
    reader.press("Enter")
    assert reader.find("#conflict").is_visible(), "an Enter meant for the page decides nothing"
    reader.find("#conflict button", text="Keep mine").click()
    reader.find("#conflict .which", text=left).wait_for()
    reader.tab.wait_for_timeout(700)
    assert reader.stored(left)["findings"] == theirs, "it was not shown yet"
    assert reader.stored(shown)["findings"] == mine
    reader.find("#conflict button", text="Use theirs").click()
    reader.wait_status("saved")
    assert reader.find("#conflict").is_hidden()
    assert reader.stored(left)["findings"] == theirs
    assert reader.stored(shown)["findings"] == mine
    other.tab.close()


def test_a_page_that_becomes_visible_again_shows_what_another_saved(reader: Reader) -> None:
    image_id = reader.image_id
    other = Reader(reader.tab.context.new_page(), reader.address).open(image_id=image_id)
    other.press("2", "s")
    other.wait_status("saved")
    reader.tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    reader.find('[data-finding="hard_exudate"].marked').wait_for()
    reader.press("2", "w")
    reader.wait_status("saved")
    assert reader.find("#conflict").is_hidden()
    assert set(reader.stored(image_id)["findings"]["hard_exudate"]) == {"macula", "disc_superior"}
    other.tab.close()


def test_answers_are_kept_after_being_signed_out(reader: Reader) -> None:
    image_id = reader.image_id
    cookies = reader.tab.context.cookies()
    reader.tab.context.clear_cookies()
    reader.press("2", "s")
    reader.wait_status("signed_out")
    assert reader.lit() == {"macula"}
    reader.tab.context.add_cookies(cookies)
    reader.wait_status("saved")
    assert reader.stored(image_id)["findings"] == {"hard_exudate": ["macula"]}


def test_answers_are_never_sent_in_another_persons_name(server: Server, reader: Reader) -> None:
    image_id = reader.image_id
    other = Reader(reader.tab.context.new_page(), reader.address).open(server.newcomer())
    reader.press("2", "s")
    reader.wait_status("other_person")
    assert other.stored(image_id)["version"] == 0
    assert reader.lit() == {"macula"}
    other.tab.close()


def test_a_comment_survives_a_page_that_is_closed_while_typing(reader: Reader) -> None:
    image_id = reader.image_id
    reader.press("m")
    reader.tab.keyboard.type("not yet sent")
    reader.tab.reload()
    reader.wait_ready(image_id)
    reader.wait_status("saved")
    assert reader.find("#comment").input_value() == "not yet sent"
    assert reader.stored(image_id)["comment"] == "not yet sent"


def test_a_comment_stays_with_its_photograph(reader: Reader) -> None:
    """Buttons do not take the focus from the comment, so none of them may count on it."""
    first = reader.image_id
    reader.press("n", "m")
    reader.tab.keyboard.type("of the first")
    reader.find("#done").click()
    reader.wait_other(first)
    second = reader.image_id
    assert reader.find("#comment").input_value() == ""
    reader.press("n")
    assert reader.find("#normal").get_attribute("aria-pressed") == "true", "keys mean what they say again"
    reader.press("m")
    reader.tab.keyboard.type("of the second")
    reader.find("#previous").click()
    reader.wait_ready(first)
    assert reader.find("#comment").input_value() == "of the first"
    reader.find("#stage").click()
    reader.find("#next").click()
    reader.wait_ready(second)
    assert reader.find("#comment").input_value() == "of the second"
    reader.find("#done").click()
    reader.wait_other(second)
    third = reader.image_id
    reader.find("#normal").click()
    reader.find("#done").click()
    reader.wait_other(third)
    reader.wait_status("saved")
    comments = [reader.stored(image_id)["comment"] for image_id in (first, second, third)]
    assert comments == ["of the first", "of the second", ""]
    assert reader.stored(reader.image_id)["comment"] == ""


def test_a_comment_stays_with_its_photograph_on_the_way_out(reader: Reader) -> None:
    """The reason of an ungradable photograph is asked in a dialog; the comment was typed before it."""
    first = reader.image_id
    reader.press("m")
    reader.tab.keyboard.type("lashes in front")
    reader.find("#ungradable").click()
    reader.press("2")
    reader.wait_other(first)
    reader.find("#stage").click()
    reader.wait_status("saved")
    assert reader.stored(first)["comment"] == "lashes in front"
    assert reader.stored(reader.image_id)["comment"] == ""


def test_undo_takes_a_comment_back_for_good(reader: Reader) -> None:
    image_id = reader.image_id
    reader.press("n", "m")
    reader.tab.keyboard.type("not meant")
    reader.find("#undo").click()
    assert reader.find("#comment").input_value() == ""
    reader.find("#stage").click()
    reader.wait_status("saved")
    assert reader.stored(image_id)["comment"] == ""
    reader.find("#redo").click()
    assert reader.find("#comment").input_value() == "not meant"
    reader.wait_status("saved")
    assert reader.stored(image_id)["comment"] == "not meant"


# Looking


def test_a_click_is_shown_at_once(reader: Reader, record_property: Callable[[str, object], None]) -> None:
    """From the release of the button to the frame that shows the region, in the browser's own clock."""
    reader.press("2")
    reader.tab.evaluate(
        """() => {
            window.times = [];
            document.getElementById("stage").addEventListener("pointerup", (event) => {
                const before = document.querySelectorAll(".region.on").length;
                requestAnimationFrame(() => {
                    const channel = new MessageChannel();
                    // Runs after the frame was drawn.
                    channel.port1.onmessage = () => {
                        const changed = document.querySelectorAll(".region.on").length !== before;
                        window.times.push(changed ? performance.now() - event.timeStamp : 1e6);
                    };
                    channel.port2.postMessage(0);
                });
            }, { capture: true });
        }"""
    )
    for _ in range(21):
        x, y = reader.handle("fovea")
        reader.tab.mouse.click(x, y + 40)
        reader.tab.wait_for_timeout(30)
    times = reader.tab.evaluate("window.times")
    assert len(times) == 21
    record_property("median_ms", round(statistics.median(times), 1))
    print(f"a click lights up after {statistics.median(times):.1f} ms (median of {len(times)})")
    # 50 ms is the promise on an idle machine; a busy one with software rendering gets room.
    assert statistics.median(times) < 150


def test_brightness_contrast_and_red_free_view(reader: Reader) -> None:
    before = green(reader)
    reader.press("r")
    assert reader.find("#picture").evaluate("one => one.style.filter") == 'url("#green-channel")'
    pixels = green(reader)
    assert np.abs(pixels[..., 0].astype(int) - pixels[..., 2]).max() < 12, "one channel alone is grey"
    assert np.abs(before[..., 0].astype(int) - before[..., 2]).max() > 40
    reader.press("v", "b", "b", "b")
    assert green(reader).mean() > before.mean() * 1.1
    reader.press("Shift+b", "Shift+b", "Shift+b", "t")
    assert green(reader).std() > before.std()
    reader.press("v", "Shift+r")
    np.testing.assert_allclose(green(reader), 255 - before, atol=2)
    reader.press("v", ".", ".", ".", ".")
    brighter = green(reader)
    np.testing.assert_allclose(brighter, 255 * (before / 255) ** (1 / 1.4), atol=3)
    reader.press("v")
    np.testing.assert_array_equal(green(reader), before)


def green(reader: Reader) -> np.ndarray:
    """What the middle of the stage looks like without lines: uint8 RGB."""
    reader.tab.keyboard.down("Space")
    reader.tab.wait_for_timeout(100)
    box = reader.find("#stage").bounding_box()
    assert box is not None
    clip = {"x": box["x"] + box["width"] / 2 - 150, "y": box["y"] + 200, "width": 300, "height": 200}
    encoded = np.frombuffer(reader.tab.screenshot(clip=clip), np.uint8)
    reader.tab.keyboard.up("Space")
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]


def test_the_space_bar_shows_the_photograph_without_lines(reader: Reader) -> None:
    assert reader.find("#overlay").is_visible()
    reader.tab.keyboard.down("Space")
    assert reader.find("#overlay").is_hidden()
    assert reader.find("#disc").is_hidden()
    reader.tab.keyboard.up("Space")
    assert reader.find("#overlay").is_visible()
    reader.press("h")
    assert reader.find("#overlay").is_hidden()


def test_touch_can_tap_pinch_and_drag(browser: Browser, server: Server, link: str, eyes: Path) -> None:
    reader = new_reader(browser, server, viewport=TABLET, has_touch=True, is_mobile=True).open(link)
    image_id = reader.image_id
    disc, fovea = points_of(eyes, image_id)
    fingers = reader.tab.context.new_cdp_session(reader.tab)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    reader.find('[data-finding="drusen"]').tap()
    x, y = reader.handle("fovea")
    reader.tab.touchscreen.tap(x, y + 60)
    assert reader.lit() == {"macula"}
    touch("touchStart", (x - 40, y), (x + 40, y))
    for step in range(1, 6):
        touch("touchMove", (x - 40 - 16 * step, y), (x + 40 + 16 * step, y))
    touch("touchEnd")
    assert int(reader.find("#fit").inner_text().rstrip("%")) > 200
    assert reader.lit() == {"macula"}, "a pinch marks nothing"
    reader.find("#fit").tap()
    x, y = reader.at(disc)
    touch("touchStart", (x, y))
    for step in range(1, 6):
        touch("touchMove", (x - 8 * step, y))
    touch("touchEnd")
    reader.wait_status("saved")
    stored = reader.stored(image_id)
    assert stored["disc"][0] < disc[0] - 5
    assert stored["fovea"] == pytest.approx(fovea, abs=0.01)
    buttons = reader.find("button:visible").all()
    boxes = [
        box
        for button in buttons
        if (box := button.bounding_box()) and "handle" not in (button.get_attribute("class") or "")
    ]
    assert min(min(box["width"], box["height"]) for box in boxes) >= 40, "large enough for a finger"
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= TABLET["width"] + 1 for box in boxes), "none is cut off"
    assert reader.problems == []


def test_a_phone_has_the_pad_the_light_and_room_for_the_photograph(browser: Browser, server: Server, link: str) -> None:
    size = {"width": 390, "height": 844}
    reader = new_reader(browser, server, viewport=size, has_touch=True, is_mobile=True).open(link)
    stage = reader.find("#stage").bounding_box()
    assert stage and stage["height"] > 300
    reader.find('[data-finding="drusen"]').tap()
    reader.find('#pad [data-region="macula"]').tap()
    assert reader.lit() == {"macula"}
    assert reader.find("#red-free").is_hidden()
    reader.find("#light").tap()
    reader.find("#red-free").tap()
    reader.find("#brightness").fill("1.5")
    filters = reader.find("#picture").evaluate("one => one.style.filter")
    assert filters == 'url("#green-channel") brightness(1.5)'
    for button in reader.find(".tools button:visible, .tools input:visible").all():
        box = button.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
    assert reader.tab.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert reader.problems == []
    reader.tab.context.close()


def test_the_last_photograph_says_that_all_are_done(browser: Browser, eyes: Path, start: Start) -> None:
    reader = new_reader(browser, start(eyes, "data=csv")).open()
    *others, last = [entry["image_id"] for entry in reader.queue()]
    for image_id in others:
        reader.save(image_id)
    reader.tab.reload()
    reader.open(image_id=last)
    reader.press("u", "1")
    reader.find(".notice", text="All photographs are done").wait_for()
    reader.find(".notice", text="Ungradable: blurred").wait_for()
    reader.find(".notice button", text="Mark as gradable").click()
    reader.tab.wait_for_function("() => document.querySelectorAll('.notice').length === 0")


@pytest.mark.parametrize("page", ["", "overview", "adjudicate"])
def test_each_page_has_a_heading_and_names_that_say_what_is_seen(browser: Browser, one: Server, page: str) -> None:
    """What axe asks for: one h1, and a name that holds the text on the button, by which people call it."""
    reader = new_reader(browser, one)
    reader.tab.goto(f"{reader.address}/{page}")
    reader.tab.wait_for_load_state("networkidle")
    assert reader.tab.eval_on_selector_all("h1", "all => all.map(one => one.textContent.trim() !== '')") == [True]
    others = """() => [...document.querySelectorAll("button, a")]
        .filter(one => one.checkVisibility() && one.ariaLabel)
        .filter(one => !one.ariaLabel.toLowerCase().includes(one.innerText.trim().toLowerCase()))
        .map(one => one.outerHTML)"""
    assert reader.tab.evaluate(others) == []
    ids = reader.tab.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    reader.tab.context.close()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_can_be_read_and_everything_has_a_name(browser: Browser, server: Server, link: str, scheme: str) -> None:
    reader = new_reader(browser, server, color_scheme=scheme).open(link)
    reader.press("2", "s")
    nameless = reader.tab.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, a, progress")]
            .filter(one => one.checkVisibility())
            .filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels?.length))
            .map(one => one.outerHTML)"""
    )
    assert nameless == []
    weak = reader.tab.evaluate(CONTRAST)
    assert weak == []
    ground = reader.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    luminance = np.mean([int(part) for part in ground[4:-1].split(",")])
    assert luminance < 40 if scheme == "dark" else luminance > 200


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_of_the_bars_overlaps_or_is_cut_off(browser: Browser, eyes: Path, start: Start, width: int) -> None:
    """With the links to the other pages, which a reader alone has: they leave the least room."""
    server = start(eyes, "data=csv")
    reader = new_reader(browser, server, viewport={"width": width, "height": 844}, color_scheme="light").open()
    bar = [box for one in reader.find(".bar > :visible").all() if (box := one.bounding_box())]
    for one, other in combinations(bar, 2):
        apart = one["x"] + one["width"] <= other["x"] + 1 or other["x"] + other["width"] <= one["x"] + 1
        assert apart or one["y"] + one["height"] <= other["y"] + 1 or other["y"] + other["height"] <= one["y"] + 1
    assert max(box["x"] + box["width"] for box in bar) <= width
    if width == 1280:  # on a phone the tools scroll
        assert reader.find(".tools").evaluate("tools => tools.scrollWidth - tools.clientWidth") == 0
    reader.tab.goto(f"{server.address}/adjudicate")
    reader.tab.wait_for_selector("#loading:not([hidden])")
    behind = reader.tab.evaluate("getComputedStyle(document.querySelector('.panes')).backgroundColor")
    assert max(int(part) for part in behind[4:-1].split(",")) < 40, "pale words stand on it"


# Texts with less contrast to what is behind them than WCAG's AA asks for; what cannot be pressed is exempt.
CONTRAST = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const light = (c) => {
        const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const weak = [];
    for (const one of document.querySelectorAll("body *")) {
        const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        const seen = one.checkVisibility({ opacityProperty: true, visibilityProperty: true });
        if (!own || !seen || one.closest("svg, .stage") || one.closest("button")?.disabled) continue;
        const layers = [];
        for (let at = one; at; at = at.parentElement) layers.unshift(rgba(getComputedStyle(at).backgroundColor));
        const behind = layers.reduce((below, top) => over(top, below), [255, 255, 255, 1]);
        const text = over(rgba(getComputedStyle(one).color), behind);
        const [high, low] = [light(text), light(behind)].sort((a, b) => b - a);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) weak.push(`${one.tagName}.${one.className} ${one.textContent.trim()}: ${ratio.toFixed(2)}`);
    }
    return weak;
}"""


def test_time_counts_between_user_events(reader: Reader) -> None:
    image_id = reader.image_id
    begun = time.monotonic()
    reader.press("2", "s")
    reader.tab.wait_for_timeout(1200)
    reader.press("w")
    reader.wait_status("saved")
    first = reader.stored(image_id)["seconds"]
    assert 1.1 <= first <= time.monotonic() - begun + 1
    reader.press("ArrowRight")
    reader.tab.wait_for_timeout(1500)
    reader.press("ArrowLeft")
    reader.wait_ready(image_id)
    reader.press("2", "x")
    reader.wait_status("saved")
    assert reader.stored(image_id)["seconds"] < first + 1.4, "time on another photograph is not this one's"


# Overview and adjudication


def test_an_adjudicator_sees_the_readings_and_decides(browser: Browser, eyes: Path, start: Start) -> None:
    server = start(eyes, "data=csv", "annotators=[anna,ben,carl]", "adjudicators=[ada]")
    for name in ("anna", "ben", "carl"):
        reader = new_reader(browser, server).open(server.links[name])
        for image_id in ("eye00000", "eye00001"):
            reader.open(image_id=image_id)
            if name == "anna":
                reader.press("5", "s", "w", "m")
                reader.tab.keyboard.type("small, at the rim")
                reader.press("Escape")
            else:
                reader.press("n")
            reader.press("Enter")
            reader.wait_status("saved")
        assert reader.find(".pages").is_hidden()
        reader.tab.goto(server.address + "/overview")
        reader.find("#message", text="This page is for others").wait_for()
        assert reader.find(".pages a:visible").all_inner_texts() == ["Annotate"], "the way back"
        reader.tab.context.close()

    ada = new_reader(browser, server)
    ada.tab.goto(server.links["ada"])
    ada.tab.goto(server.address + "/overview")
    ada.find("#annotators tr").nth(2).wait_for()
    assert [row.inner_text().split("\t")[0] for row in ada.find("#annotators tr").all()] == ["anna", "ben", "carl"]
    assert ada.find("#undecided a").count() == 2
    assert "Drusen: 1 of 3" in ada.find("#undecided").inner_text()
    ada.find("#undecided a").first.click()
    ada.tab.wait_for_function("() => document.querySelectorAll('.pane').length === 4")
    ada.find("body:not(.turning)").wait_for()
    captions = [one.inner_text() for one in ada.find(".pane figcaption").all()]
    assert sum("not marked" in caption for caption in captions) == 2
    assert "anna" not in ada.find("body").inner_text(), "readers are letters, so that no name decides"
    assert "small, at the rim" in ada.find("#readings").inner_text()
    lit = ".pane.decision .region.on"
    where = "all => all.map(one => one.dataset.region)"
    assert set(ada.tab.eval_on_selector_all(lit, where)) == {"macula", "disc_superior"}, "begins as all they marked"
    ada.press("w")
    assert ada.tab.eval_on_selector_all(lit, where) == ["macula"]
    ada.press("Enter")
    ada.wait_status("saved")
    ada.tab.wait_for_function("() => document.getElementById('progress').value === 1")
    ada.find("body:not(.turning)").wait_for()
    ada.press("n")
    ada.wait_status("saved")
    decided = ada.tab.evaluate("async () => (await (await fetch('/api/adjudication')).json())")
    words = sorted((one["decision"]["present"], tuple(one["decision"]["regions"])) for one in decided)
    assert words == [(False, ()), (True, ("macula",))]
    ada.tab.goto(server.address + "/overview")
    ada.find("#undecided-count", text="none").wait_for()
    assert ada.problems == []


# Real photographs


@pytest.mark.real
def test_clicks_on_a_real_photograph_hit_the_right_pixels(
    browser: Browser, start: Start, real_data: Path, tmp_path: Path
) -> None:
    photographs = sorted((real_data / "idrid").rglob("IDRiD_*.jpg"))[:2]
    assert photographs, f"{real_data} holds no idrid/"
    root = tmp_path / "real"
    root.mkdir()
    rows: list[dict[str, object]] = []
    for number, photograph in enumerate(photographs):
        (root / f"{number}.jpg").write_bytes(photograph.read_bytes())
        height, width = cv2.imread(str(photograph)).shape[:2]
        rows.append(
            {"image_id": f"{number} é#", "path": f"{number}.jpg", "disc_x": width * 0.7, "disc_y": height * 0.5}
        )
        rows[-1] |= {"fovea_x": width * 0.42, "fovea_y": height * 0.53}
    write_manifest(Manifest(root, images_table(rows)), root)
    server = start(root, "data=csv")
    reader = new_reader(browser, server)
    asked: list[str] = []
    reader.tab.on("request", lambda request: asked.append(request.url))
    reader.open()
    image_id = reader.image_id
    _, fovea = points_of(root, image_id)
    height, width = cv2.imread(str(root / f"{image_id[0]}.jpg")).shape[:2]
    new_fovea = (fovea[0] - width * 0.02, fovea[1] + height * 0.015)
    reader.drag(fovea, new_fovea)
    reader.wait_status("saved")
    stored = reader.stored(image_id)
    assert stored["fovea"] == pytest.approx(new_fovea, abs=6)
    regions = region_map((height, width), tuple(stored["disc"]), tuple(stored["fovea"]))
    reader.press("3")
    marked = set()
    for number, name in REGIONS.items():
        spots = places(regions, number, margin=30)
        reader.click(random.Random(number).choice(spots))
        marked.add(name)
        assert reader.lit() == marked
    assert not any("size=full" in url for url in asked), "the original only when it is looked at closely"
    for _ in range(9):
        reader.press("+")
    reader.tab.wait_for_function("() => document.getElementById('picture').src.includes('size=full')")
    reader.press("s")
    reader.wait_status("saved")
    assert set(reader.stored(image_id)["findings"]["hemorrhage"]) == marked - {"macula"}
    cue = cue_mask((height, width), tuple(stored["disc"]), tuple(stored["fovea"]), marked - {"macula"})
    assert 0 < cue.mean() < 1
    assert reader.problems == []
