"""The round of ``docs/howto/first-round.md``: its numbers are those of its script, which a slow test runs again."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "figures"
TRUTH = {"drusen": frozenset({"macula", "temporal"}), "hemorrhage": frozenset[str]()}


@pytest.fixture(scope="module")
def first_round() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FIGURES))
    specification = importlib.util.spec_from_file_location("first_round", FIGURES / "first_round.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    sys.path.remove(str(FIGURES))


def test_the_page_has_the_numbers_of_the_script(first_round: ModuleType) -> None:
    page = (ROOT / "docs" / "howto" / "first-round.md").read_text()
    tables = "\n".join(first_round.tables(json.loads(first_round.NUMBERS.read_text())))
    for table in tables.split("\n\n"):
        assert table in page
    habits = first_round.Habits()
    for said in (
        f"with a probability of {habits.overlooks} and imagines one with {habits.imagines}",
        f"misses a region with {habits.misses_region} and adds one with {habits.adds_region}",
        f"second look with {habits.looks_again}; a wrong suggestion is followed with {habits.is_pulled}",
        f"corrected with {habits.corrects_region}. A photograph takes {habits.looking:g} s, a finding marked by hand"
        f" {habits.choosing:g} s, a region {habits.clicking:g} s, a suggestion {habits.deciding:g} s",
    ):
        assert said in " ".join(page.split())


def test_a_simulated_reader_without_faults_reads_the_truth(first_round: ModuleType) -> None:
    faultless = first_round.Habits(0, 0, 0, 0, 1, 0, 1, spread=0)
    reader = first_round.SimulatedReader(0, faultless)
    unaided = reader.read(TRUTH)
    assert unaided.marks == {"drusen": {"macula", "temporal"}} and unaided.verdicts == {}
    assert unaided.seconds == 10 + 3 + 2 * 1.5
    aided = reader.read(TRUTH, {"findings": {"drusen": ["macula"], "hemorrhage": ["macula"]}})
    assert aided.marks == unaided.marks and aided.verdicts == {"drusen": "confirmed", "hemorrhage": "refused"}
    assert aided.seconds == 10 + 2 * 2 + 1.5, "one region to correct"


def test_a_simulated_reader_overlooks_imagines_and_is_pulled_as_often_as_it_says(first_round: ModuleType) -> None:
    habits = first_round.Habits()
    reader = first_round.SimulatedReader(1, habits)
    wrong = {"findings": {"hemorrhage": ["macula"]}}
    alone = [reader.read(TRUTH).marks for _ in range(3000)]
    pulled = [reader.read(TRUTH, wrong).marks for _ in range(3000)]
    share = np.mean(["drusen" in marks for marks in alone])
    assert share == pytest.approx(1 - habits.overlooks, abs=0.03)
    assert np.mean(["hemorrhage" in marks for marks in alone]) == pytest.approx(habits.imagines, abs=0.015)
    follows = habits.imagines + (1 - habits.imagines) * habits.is_pulled
    assert np.mean(["hemorrhage" in marks for marks in pulled]) == pytest.approx(follows, abs=0.03)
    helped = first_round.SimulatedReader(2, replace(habits, overlooks=1.0))
    right = {"findings": {"drusen": ["macula"]}}
    seen = np.mean(["drusen" in helped.read(TRUTH, right).marks for _ in range(3000)])
    assert seen == pytest.approx(habits.looks_again, abs=0.03)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_round_is_measured_and_teaches_the_network(first_round: ModuleType, tmp_path: Path) -> None:
    found = first_round.run_round(tmp_path)
    images = found["images"]
    assert (images["with"] + images["without"], images["mixed"], images["before"]) == (50, 0, 50)
    assert min(images["with"], images["without"]) >= 15
    assert found["seconds"]["with"]["median"] < 1.1 * found["seconds"]["without"]["median"]
    kappas = [[row[name]["kappa_region"] for row in found["findings"].values()] for name in ("with", "without")]
    assert np.mean(kappas[0]) > np.mean(kappas[1]), "readers who follow the same network agree"
    outcomes = [row["outcomes"] for row in found["findings"].values()]
    assert sum(each["confirmed"] + each["changed"] for each in outcomes) > sum(each["refused"] for each in outcomes) > 0
    first, second = (
        [scores["auroc"]["value"] for scores in found["networks"][run].values()] for run in first_round.RUNS
    )
    assert np.mean(first) > 0.9 and np.mean(second) > np.mean(first) - 0.01
