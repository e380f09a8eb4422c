"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine can be slow at any moment; pytest-timeout stops what hangs.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs (``idrid/``, ``keh/``); the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FUNDUSNET_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real photographs here; set FUNDUSNET_REAL_DATA to their folder")
    return folder
