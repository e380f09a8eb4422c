"""A study that ``fundusnet annotate`` serves while a block runs, and Chromium to look at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def served(folder: Path, *words: str, people: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Run ``fundusnet annotate WORDS`` in ``folder``; yields its address and a new link for each of ``people``."""
    command = [sys.executable, "-m", "fundusnet", "annotate"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    print("fundusnet annotate", *words, flush=True)
    server = subprocess.Popen(
        [*command, "port=0", *words], cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert server.stdout is not None
    lines = []
    for line in server.stdout:
        lines.append(line)
        if line.startswith("stop with"):
            break
    address = next(found[1] for line in lines if (found := re.match(r"annotate at (\S+)/$", line)))
    study = [word for word in words if word.startswith(("data.root=", "folder="))]
    try:
        yield address, new_links(folder, study, people)
    finally:
        server.terminate()
        server.wait()


def new_links(folder: Path, study: Sequence[str], people: Sequence[str]) -> dict[str, str]:
    """A new link for each of ``people``; earlier ones stop working."""
    command = [sys.executable, "-m", "fundusnet", "annotate", *study, f"links=[{','.join(people)}]"]
    printed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"^(\w+): (\S+/join/\S+)$", printed, re.MULTILINE))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium under Playwright."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def signed_in(page: Page, link: str) -> Page:
    """Open a person's link."""
    page.goto(link)
    page.wait_for_load_state("networkidle")
    return page
