"""A real server in a process of its own, and a browser in front of it."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fundusnet.data.manifest import read_manifest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator
    from playwright.sync_api import Page as Tab

DESKTOP = {"width": 1440, "height": 900}
TABLET = {"width": 1024, "height": 768}
SIZE = 240
IMAGES = 8


@contextmanager
def launched_browser() -> Iterator[Browser]:
    """Chromium, or a skipped test that says what is missing."""
    from playwright import sync_api as playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with playwright.sync_playwright() as running:
        # Chromium's own sandbox cannot start in most containers; the pages are ours.
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Server:
    """``fundusnet annotate`` on a port that it keeps through restarts."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.port, self.address = 0, ""
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.overrides = overrides
        self.move(free_port())
        self.links: dict[str, str] = {}
        self._came: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers; new links are added to ``links``."""
        log = self.folder.with_suffix(".log")
        command = [sys.executable, "-m", "fundusnet", "annotate", "data.points=given", f"folder={self.folder}"]
        command += [f"port={self.port}"]
        with log.open("wb") as output:
            self._process = subprocess.Popen([*command, *self.overrides], stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 180
        # It answers before it has said everything, such as the links.
        while not (self._answers() and "stop with" in log.read_text()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not start:\n{log.read_text()}")
            time.sleep(0.05)
        self.links |= dict(re.findall(r"^(\S+): (http\S+)$", log.read_text(), re.MULTILINE))

    def newcomer(self) -> str:
        """The link of an annotator who has read nothing yet; one who has signed out gets a new link at a restart."""
        name = min(self.links.keys() - self._came)
        self._came.add(name)
        return self.links.pop(name)

    def move(self, port: int) -> None:
        """Use another port from the next start on."""
        self.port, self.address = port, f"http://127.0.0.1:{port}"

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """``kill -9``: no time to save anything."""
        if self._process is not None and self.runs:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.address, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


Start = Callable[..., Server]


class Reader:
    """One annotator's tab: what a person does with it, and what the person sees."""

    def __init__(self, tab: Tab, address: str) -> None:
        self.tab = tab
        self.address = address
        self.problems: list[str] = []
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.on("console", lambda line: self._note(line.type, line.text))

    def open(self, link: str | None = None, image_id: str = "") -> Reader:
        """Open the page, by a link the first time, at an image."""
        if link:
            self.tab.goto(link)
        if image_id or not link:
            self.tab.goto(f"{self.address}/#{image_id}")
        self.wait_ready(image_id)
        return self

    def wait_ready(self, image_id: str = "") -> None:
        """Until a photograph is shown, and it is this one."""
        self.tab.wait_for_function(
            "id => !document.body.matches('.turning, .broken') && document.getElementById('picture').src !== ''"
            " && (!id || document.getElementById('name').textContent === id)",
            arg=image_id,
        )

    @property
    def image_id(self) -> str:
        return self.tab.inner_text("#name")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where a pixel of the photograph lies in the window."""
        x, y = self.tab.evaluate(
            """([x, y]) => {
                const img = document.getElementById("picture").getBoundingClientRect();
                const scale = img.width / document.getElementById("picture").width;
                return [img.x + (x + 0.5) * scale, img.y + (y + 0.5) * scale];
            }""",
            list(point),
        )
        return x, y

    def click(self, point: tuple[float, float]) -> None:
        self.tab.mouse.click(*self.at(point))

    def drag(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        """Press at one pixel of the photograph, move to another in steps, let go."""
        (x0, y0), (x1, y1) = self.at(start), self.at(stop)
        self.tab.mouse.move(x0, y0)
        self.tab.mouse.down()
        for step in range(1, 9):
            self.tab.mouse.move(x0 + (x1 - x0) * step / 8, y0 + (y1 - y0) * step / 8)
        self.tab.mouse.up()

    def handle(self, name: str) -> tuple[float, float]:
        """The middle of a handle in the window."""
        box = self.tab.locator(f"#{name}").bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def lit(self) -> set[str]:
        """Regions that are lit on the photograph."""
        return set(self.tab.eval_on_selector_all(".overlay .region.on", "all => all.map(one => one.dataset.region)"))

    def status(self) -> str:
        """The state of saving: saved, saving, unreachable …"""
        return str(self.tab.get_attribute("#status", "data-state"))

    def wait_status(self, state: str, timeout: float = 60_000) -> None:
        self.tab.wait_for_selector(f'#status[data-state="{state}"]', timeout=timeout)

    def stored(self, image_id: str) -> Any:
        """What the server has of an image; None where it cannot tell."""
        return self.tab.evaluate(
            "async id => (await (await fetch(`/api/images/${encodeURIComponent(id)}`)).json()).answer ?? null", image_id
        )

    def queue(self) -> list[dict[str, str]]:
        """The reader's photographs in reading order, each with its state."""
        found: list[dict[str, str]] = self.tab.evaluate("async () => (await (await fetch('/api/queue')).json()).images")
        return found

    def save(self, image_id: str, **changes: Any) -> None:
        """Store a finished answer without clicks; normal unless it has findings."""
        answer = {
            "findings": {},
            "normal": not changes.get("findings"),
            "ungradable": None,
            "comment": "",
            "disc": None,
        }
        answer |= {"fovea": None, "state": "done", "seconds": 1, "version": 0, **changes}
        status = self.tab.evaluate(
            """async ([id, answer]) => {
                const { csrf } = await (await fetch("/api/session")).json();
                const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
                const body = JSON.stringify({ ...answer, change: crypto.randomUUID() });
                return (await fetch(`/api/images/${id}/answer`, { method: "PUT", headers, body })).status;
            }""",
            [image_id, answer],
        )
        assert status == 200

    def find(self, selector: str, text: str | None = None) -> Locator:
        return self.tab.locator(selector, has_text=text)

    def wait_other(self, image_id: str) -> None:
        """Until a photograph other than this is shown."""
        self.tab.wait_for_function("id => document.getElementById('name').textContent !== id", arg=image_id)
        self.wait_ready()

    def wait_ahead(self) -> None:
        """Until the photograph to read next is loaded in advance, so that it can be shown without the server."""
        queue = self.queue()
        now = [each["image_id"] for each in queue].index(self.image_id)
        following = next(each["image_id"] for each in queue[now + 1 :] + queue[:now] if each["state"] == "todo")
        self.tab.wait_for_function(
            "path => performance.getEntriesByType('resource').some(each => each.name.endsWith(path)"
            " && each.responseEnd > 0)",
            arg=f"/api/images/{following}/photograph?size=screen",
        )

    def _note(self, kind: str, text: str) -> None:
        # A killed server's refused connections are no fault of the page.
        if kind == "error" and "Failed to load resource" not in text:
            self.problems.append(text)


def new_reader(browser: Browser, server: Server, **options: Any) -> Reader:
    """A reader in a browser profile of their own."""
    context: BrowserContext = browser.new_context(**{"viewport": DESKTOP, "color_scheme": "dark", **options})
    context.set_default_timeout(60_000)  # of patience, on a busy machine
    return Reader(context.new_page(), server.address)


def free_port() -> int:
    """A port below those that outgoing connections get, so that nothing takes it while the server on it is down."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def points_of(root: Path, image_id: str) -> tuple[tuple[float, float], tuple[float, float]]:
    row = read_manifest(root).images.set_index("image_id").loc[image_id]
    return (row.disc_x, row.disc_y), (row.fovea_x, row.fovea_y)
