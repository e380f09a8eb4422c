"""The examples in docstrings run as written."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import fundusnet

ROOT = Path(fundusnet.__file__).parent
MODULES = sorted(
    ".".join(["fundusnet", *file.relative_to(ROOT).with_suffix("").parts])
    for file in ROOT.rglob("*.py")
    if ">>>" in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"fundusnet": fundusnet}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not result.failed
