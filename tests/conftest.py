"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Shapes and types in these modules are checked at every call; the hook has to come before their first import.
install_import_hook(
    ["fundusnet.findings.loss", "fundusnet.grading.cam", "fundusnet.grading.ranking"], "shape_check.check"
)

# A busy machine can be slow at any moment; pytest-timeout stops what hangs.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With FUNDUSNET_NO_SKIPS a test that lacks a program fails; only photographs may be absent everywhere."""
    report = yield
    if report.skipped and "FUNDUSNET_NO_SKIPS" in os.environ and "real" not in item.keywords:
        report.outcome = "failed"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests may take longest, so that no process is left alone with one in the end."""
    longest: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0), marker.args[0] if marker else 0)
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs (``idrid/``, ``keh/``); the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FUNDUSNET_REAL_DATA", default))
    if not folder.is_dir():
        if "FUNDUSNET_REAL_DATA" in os.environ:
            pytest.fail(f"FUNDUSNET_REAL_DATA={folder} is no folder")
        pytest.skip("no real photographs here; set FUNDUSNET_REAL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a process: Playwright does not start a second time while the first one runs."""
    from browsing import launched_browser

    with launched_browser() as running:
        yield running
