"""Saving while 20 annotators click at once: how long a save takes, and whether every click is stored exactly once.

``python benchmarks/annotation.py [SECONDS]`` starts a real server and sends the requests of 20 pages: each clicks twice
a second, every click saves the complete answer, and after eight clicks the next image and its photograph are opened.
The pages start within the first ten seconds; timing begins after these. A 21st annotator clicks the real page in
Chromium, which records when the region was highlighted and when the page showed "saved". At the end the server is
killed (kill -9), its database is compared with what it acknowledged, and rows of the same size are committed with bare
SQLite. Exits with status 1 if the median save takes 100 ms or more, the median highlight 50 ms or more, or the database
differs from what was acknowledged.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import uuid4

import cv2
import httpx2
import numpy as np
from playwright.async_api import async_playwright

from fundusnet.data.regions import REGIONS

ANNOTATORS, IMAGES, PAUSE, PER_IMAGE, BEGIN = 20, 60, 0.5, 8, 10.0
SAVED_GOAL, LIT_GOAL = 0.100, 0.050  # seconds, medians
NAMES = [f"reader{number:02d}" for number in range(ANNOTATORS)]
WATCHED = "watched"  # the annotator with the real page

# In the page: seconds from a click event to the frame that shows it, and to "saved".
WATCH = """() => {
  window.lit = []; window.saved = [];
  let shown = null, kept = null;
  addEventListener("pointerup", (event) => { shown = kept = event.timeStamp; }, true);
  new MutationObserver(() => {
    const since = shown;
    shown = null;
    if (since !== null) requestAnimationFrame(() => setTimeout(() => lit.push((performance.now() - since) / 1000)));
  }).observe(document.querySelector(".overlay"), { subtree: true, attributeFilter: ["class"] });
  new MutationObserver(() => {
    if (kept === null || document.getElementById("status").dataset.state !== "saved") return;
    saved.push((performance.now() - kept) / 1000);
    kept = null;
  }).observe(document.getElementById("status"), { attributeFilter: ["data-state"] });
}"""


@dataclass
class Measured:
    """Seconds of each request, and the acknowledged saves: (annotator, image, change, version, regions)."""

    saves: list[float] = field(default_factory=list)
    opens: list[float] = field(default_factory=list)
    photographs: list[float] = field(default_factory=list)
    lit: list[float] = field(default_factory=list)
    saved: list[float] = field(default_factory=list)
    acknowledged: list[tuple[str, str, str, int, str]] = field(default_factory=list)


def main() -> int:
    """Measure, print and compare; 0 if all goals are met."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _draw(folder / "photographs")
        server, address, links = _start(folder)
        try:
            measured = asyncio.run(_everybody(address, links, seconds))
            busy = _processor_seconds(server.pid)
        finally:
            server.kill()  # what was acknowledged has to survive this
            server.wait()
        wrong = _compare(folder / "study" / "study.sqlite", measured)
        bare = _bare_commits(folder)
    waited = quantiles(measured.saves, n=20)
    print(f"{len(measured.saves)} saves by {ANNOTATORS} annotators in {seconds:.0f} s")
    print(f"{len(measured.acknowledged)} saves in all")
    print(f"save        median {1000 * median(measured.saves):6.1f} ms   95% below {1000 * waited[-1]:6.1f} ms")
    lit = [1000 * seconds for seconds in sorted(measured.lit)]
    print(f"highlighted median {median(lit):6.1f} ms   slowest   {lit[-1]:6.1f} ms, {len(lit)} clicks in a browser")
    print(f"page says   median {1000 * median(measured.saved):6.1f} ms after the click: saved")
    print(f"open image  median {1000 * median(measured.opens):6.1f} ms")
    busy_per_save = 1000 * busy / len(measured.acknowledged)
    print(f"            {busy_per_save:.1f} ms of server processor time per save, other work included")
    print(f"photograph  median {1000 * median(measured.photographs):6.1f} ms")
    print(f"bare commit median {1000 * bare:6.1f} ms")
    print(f"lost, doubled or changed: {wrong}")
    return int(wrong > 0 or median(measured.saves) >= SAVED_GOAL or median(measured.lit) >= LIT_GOAL)


async def _everybody(address: str, links: dict[str, str], seconds: float) -> Measured:
    measured, stop = Measured(), asyncio.Event()
    pages = [asyncio.create_task(_page(name, address, links[name], measured, stop)) for name in NAMES]
    pages.append(asyncio.create_task(_watched_page(links[WATCHED], measured, stop)))
    await asyncio.sleep(BEGIN)
    for times in (measured.saves, measured.opens, measured.photographs):
        times.clear()
    await asyncio.sleep(seconds)
    stop.set()
    await asyncio.gather(*pages)
    return measured


async def _page(name: str, address: str, link: str, measured: Measured, stop: asyncio.Event) -> None:
    chance = random.Random(name)
    async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
        await client.get(link)
        headers = {"X-CSRF-Token": (await client.get("/api/session")).json()["csrf"]}
        images = [entry["image_id"] for entry in (await client.get("/api/queue")).json()["images"]]
        await asyncio.sleep(chance.random() * BEGIN)
        clicks = 0
        while not stop.is_set():
            image_id = images[clicks // PER_IMAGE % len(images)]
            if clicks % PER_IMAGE == 0:
                described = await _timed(client.get(f"/api/images/{image_id}"), measured.opens)
                await _timed(client.get(f"/api/images/{image_id}/photograph"), measured.photographs)
                answer = described.json()["answer"]
                points = {key: described.json()[key] for key in ("disc", "fovea")}
            clicks += 1
            regions = sorted(chance.sample(list(REGIONS.values()), chance.randint(1, 4)))
            answer |= {"findings": {"drusen": regions}, "state": "done", "change": str(uuid4()), **points}
            sent = await _timed(
                client.put(f"/api/images/{image_id}/answer", json=answer, headers=headers), measured.saves
            )
            sent.raise_for_status()
            answer["version"] = sent.json()["version"]
            measured.acknowledged.append((name, image_id, answer["change"], answer["version"], ",".join(regions)))
            await asyncio.sleep(PAUSE * chance.uniform(0.5, 1.5))


async def _watched_page(link: str, measured: Measured, stop: asyncio.Event) -> None:
    """Click one region after another of the real page, one per second from the tenth second on; read its records."""
    async with async_playwright() as running:
        browser = await running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(link)
        await page.wait_for_function("() => document.getElementById('picture').src !== ''")
        await page.wait_for_selector("body:not(.turning)")
        await page.keyboard.press("1")  # the first finding
        box = await page.locator("#picture").bounding_box()
        assert box is not None
        middle, ring = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), 0.33 * box["height"]
        await asyncio.sleep(BEGIN)
        await page.evaluate(WATCH)
        clicks = 0
        while not stop.is_set():
            angle = 2 * math.pi * clicks / 8 + 0.2  # around fovea and disc, across all regions
            await page.mouse.click(middle[0] + ring * math.cos(angle), middle[1] + ring * math.sin(angle))
            clicks += 1
            await asyncio.sleep(1)
        measured.lit, measured.saved = await page.evaluate("lit"), await page.evaluate("saved")
        await browser.close()


async def _timed(request: Any, seconds: list[float]) -> httpx2.Response:
    start = time.perf_counter()
    answered: httpx2.Response = await request
    seconds.append(time.perf_counter() - start)
    return answered


def _start(folder: Path) -> tuple[subprocess.Popen[str], str, dict[str, str]]:
    words = ["data.root=photographs", "folder=study", "port=0", f"annotators=[{','.join([*NAMES, WATCHED])}]"]
    server = subprocess.Popen(
        [sys.executable, "-m", "fundusnet", "annotate", *words], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    address, links = "", {}
    for line in server.stdout:
        if found := re.match(r"annotate at (\S+)/$", line):
            address = found[1]
        elif found := re.match(r"(\w+): (\S+)$", line):
            links[found[1]] = found[2]
        if line.startswith("stop with"):
            return server, address, links
    raise RuntimeError("the server did not start")


def _compare(file: Path, measured: Measured) -> int:
    """The number of rows acknowledged but missing, stored but not acknowledged, or stored twice."""
    with sqlite3.connect(file) as connection:
        rows = connection.execute(
            "SELECT name, image_id, change, version, content -> 'findings' ->> 'drusen' "
            "FROM answers JOIN annotators ON id = annotator_id WHERE name != ?",
            (WATCHED,),
        ).fetchall()
    stored = sorted((*row[:4], ",".join(sorted(re.findall(r"\w+", row[4])))) for row in rows)
    sent = sorted(measured.acknowledged)
    return len(set(stored) ^ set(sent)) + len(stored) - len(set(stored))


def _bare_commits(folder: Path) -> float:
    """Median seconds of a durable commit of a row of the size of an answer."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE bare (content TEXT)"):
        connection.execute(statement)
    seconds = []
    for _ in range(200):
        start = time.perf_counter()
        connection.execute("INSERT INTO bare VALUES (?)", ("x" * 300,))
        seconds.append(time.perf_counter() - start)
    connection.close()
    return median(seconds)


def _processor_seconds(pid: int) -> float:
    """Processor time of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _draw(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        picture = cv2.resize(rng.integers(40, 120, (20, 20, 3), dtype=np.uint8), (1536, 1536))
        field = cv2.circle(np.zeros((1536, 1536), np.uint8), (768, 768), 740, 1, -1)
        cv2.circle(picture, (768 + (400 if number % 2 else -400), 768), 90, (180, 220, 250), -1)
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), picture * field[..., None])


if __name__ == "__main__":
    sys.exit(main())
