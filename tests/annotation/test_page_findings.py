"""Many findings: each has a colour and a number of its own, and a key while there are keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from browsing import Start, new_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
CONF = Path(__file__).resolve().parents[2] / "conf"
COUNT = 24
COLOURS = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    return [...document.querySelectorAll("#findings .finding")].map((one) => {
        canvas.fillStyle = one.style.getPropertyValue("--finding");
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    });
}"""


def test_more_findings_than_digits(browser: Browser, eyes: Path, start: Start) -> None:
    names = sorted({name for file in CONF.glob("finding/*.yaml") for name in yaml.safe_load(file.read_text())["names"]})
    names = names[:COUNT]
    reader = new_reader(browser, start(eyes, "data=csv", f"finding.names=[{','.join(names)}]")).open()
    image_id = reader.image_id
    colours = np.array(reader.tab.evaluate(COLOURS), dtype=float)
    assert len(colours) == COUNT
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + np.eye(COUNT) * 999
    assert apart.min() > 25, "no two alike"
    fundus = np.linalg.norm(colours - np.array([190, 80, 40]), axis=1)
    assert fundus.min() > 90, "all unlike the ground"

    reader.press("0", "s", "Shift+Digit1", "s", "Shift+Digit0", "s", "ArrowDown", "s")
    reader.wait_status("saved")
    assert sorted(reader.stored(image_id)["findings"]) == [names[place] for place in (9, 10, 19, 20)]
    assert reader.find(".overlay .pip").all_text_contents() == ["0", "11", "20", "21"]
    keys = [one.locator("kbd").inner_text() for one in reader.find("#findings .finding").all()]
    assert [keys[place] for place in (0, 9, 10, 19, 20)] == ["1", "0", "⇧1", "⇧0", ""]
    assert reader.problems == []
