"""Facts of every source: its configuration, its page, and its options."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fundusnet.config.compose import conf_folder
from fundusnet.data.sources import SOURCES

PAGES = Path(__file__).resolve().parents[2] / "docs" / "datasets"
pages = pytest.mark.skipif(not PAGES.is_dir(), reason="a source distribution carries no docs")


@pytest.mark.parametrize("name", list(SOURCES))
def test_configuration_has_options_the_source_has(name: str) -> None:
    cfg = OmegaConf.load(conf_folder() / "data" / f"{name}.yaml")
    assert cfg.source == name
    parameters = inspect.signature(import_module(f"fundusnet.data.sources.{name}").load).parameters
    assert set(cfg.get("options", {})) <= set(parameters), "an option the source does not know"


@pages
@pytest.mark.parametrize("name", list(SOURCES))
def test_page_says_how_to_use_it_and_is_in_the_table(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert f"data={name}" in page
    assert f"({name}.md)" in (PAGES / "README.md").read_text(encoding="utf-8")


@pages
def test_there_is_no_page_or_configuration_without_a_source() -> None:
    assert {file.stem for file in PAGES.glob("*.md")} - {"README"} == set(SOURCES)
    assert {file.stem for file in (conf_folder() / "data").glob("*.yaml")} - {"default"} == set(SOURCES)
