"""The complete round in a real browser: train, suggest, confirm and refuse, kill the server, export, train again."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from browsing import IMAGES, Reader, Start, new_reader
from test_browser import fundusnet
from test_page_suggestions import fates

from fundusnet.annotation.suggestions import is_suggested
from fundusnet.data.manifest import read_manifest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SMALL = (
    "data.size=64", "data.workers=1", "data.num_workers=0", "trainer.accelerator=cpu", "evaluation.bootstrap=20",
    "model.network.width=4",
)  # fmt: skip
SHARE = 0.7
EYES = [f"eye{number:05d}" for number in range(IMAGES)]
WITH = {image_id for image_id in EYES if is_suggested(image_id, 0, SHARE)}


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(900)
def test_networks_suggest_readers_decide_and_the_next_network_learns_from_it(
    browser: Browser, eyes: Path, start: Start, tmp_path: Path
) -> None:
    assert 0 < len(WITH) < IMAGES
    fundusnet(
        "train", "experiment=quickstart", "finding=all", "finding.names=[hard_exudate,hemorrhage]",
        "finding.dilations=[[1,2],[1,2]]", "finding.pool=[1,1]", "data.options.images=60",
        f"data.root={tmp_path}/drawn", f"data.folder={tmp_path}/first", f"run_dir={tmp_path}/run1",
        "trainer.max_epochs=6", *SMALL,
    )  # fmt: skip
    names = ["anna", "ben"]
    server = start(
        eyes, "data=csv", f"annotators=[{','.join(names)}]", "readings_per_image=2", f"checkpoint={tmp_path}/run1",
        f"suggest={SHARE}",
    )  # fmt: skip
    expected: dict[tuple[str, str, str], str] = {}
    for name in names:
        reader = new_reader(browser, server).open(server.links[name])
        decisions = cycle(["confirmed", "refused", "changed"])
        for count in range(IMAGES):
            reader.wait_ready()
            image_id = reader.image_id
            if image_id in WITH:
                reader.find("#suggested").wait_for()
            if count == IMAGES // 2:
                reader.wait_ahead()
                server.kill()
            for finding in [finding for finding, fate in fates(reader).items() if fate == "open"]:
                expected[image_id, name, finding] = decide(reader, finding, next(decisions))
            finish(reader, sick=int(image_id[3:]) % 2 == 0)
            if count == IMAGES // 2:
                reader.wait_status("unreachable")
                server.start()
        reader.find(".notice", text="All photographs are done").wait_for()
        reader.wait_status("saved")
        assert reader.problems == []
        reader.tab.context.close()
    assert {"confirmed", "refused", "changed"} <= set(expected.values()), "the networks suggested something"

    export = tmp_path / "export"
    fundusnet("annotate", "data=csv", f"data.root={eyes}", f"folder={server.folder}", f"export={export}")
    table = pd.read_csv(export / "suggestions.csv", dtype=str, keep_default_na=False)
    suggested = table[table["finding"] != ""].set_index(["image_id", "annotator_id", "finding"])
    assert suggested["outcome"].to_dict() == expected
    assert set(table["image_id"]) == WITH and set(table["annotator_id"]) == set(names)
    record = json.loads((export / "study.json").read_text())
    assert {(each["image_id"], each["annotator"]) for each in record["shown"]} == {
        (image_id, name) for image_id in WITH for name in names
    }
    readings = read_manifest(export).readings
    marked = set(readings.loc[readings.finding != "", ["image_id", "annotator_id", "finding"]].itertuples(index=False))
    kept = {key for key, outcome in expected.items() if outcome != "refused"}
    assert {tuple(row) for row in marked if row.finding != "drusen"} == kept, "only what a reader confirmed"

    source = ["data=csv", f"data.root={export}", f"data.folder={tmp_path}/second", "data.size=64", "data.workers=1"]
    fundusnet("prepare", *source)
    fundusnet(
        "train", *source, *SMALL[2:], "finding=drusen", f"run_dir={tmp_path}/run2", "model.network.reductions=4",
        "data.batch_size=4", "trainer.max_epochs=1", f"weights={tmp_path}/run1",
    )  # fmt: skip
    assert json.loads((tmp_path / "run2" / "status.json").read_text())["state"] == "done"


def decide(reader: Reader, finding: str, decision: str) -> str:
    """Confirm, refuse, or confirm and change a suggestion by keys; return what becomes of it."""
    button = reader.find(f'[data-finding="{finding}"]')
    button.click()
    if decision == "refused":
        reader.press("Shift+x")
        return "refused"
    reader.press("Shift+c")
    if fates(reader)[finding] == "open":  # no region lights up in its map
        reader.press("Shift+x")
        return "refused"
    if decision == "changed":
        button.click()
        had = reader.lit()
        reader.press("w" if had != {"disc_superior"} else "s")
        assert reader.lit() not in (had, set())
    return decision


def finish(reader: Reader, sick: bool) -> None:
    """Drusen, which no network suggests, in half of the photographs; normal where nothing else is marked."""
    image_id = reader.image_id
    if sick:
        reader.find('[data-finding="drusen"]').click()
        reader.press("s")
    elif reader.find(".finding.marked").count() == 0:
        reader.press("n")
    reader.press("Enter")
    if reader.find(".notice", text="All photographs").count() == 0:
        reader.wait_other(image_id)
