"""Grouping the runs of a sweep, and their means over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_runs import run_folder
from pages import rows_under
from sklearn.metrics import roc_auc_score

from fundusnet.evaluation.groups import group_differences, group_runs, swept_keys
from fundusnet.evaluation.intervals import Statistic, bootstrap, mean, pooled
from fundusnet.evaluation.runs import read_runs
from fundusnet.findings.report import write_report
from fundusnet.findings.statistics import FINDINGS


def test_runs_that_differ_only_in_seed_and_finding_are_one_method(tmp_path: Path) -> None:
    folders = [
        run_folder(tmp_path, finding=finding, seed=seed, weight=weight)
        for finding in ("drusen", "membrane")
        for weight in (0, 0.3)
        for seed in (0, 1, 2)
    ]
    runs = read_runs(folders, FINDINGS)
    groups = group_runs(runs)
    assert swept_keys(runs) == ["model.loss.weight"]
    assert [group.label for group in groups] == ["loss.weight=0", "loss.weight=0.3"]
    assert [len(group.runs_of("membrane")) for group in groups] == [3, 3]


def test_a_key_that_only_follows_from_another_is_not_named(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, weight=0, folder="a", shortcut=0), run_folder(tmp_path, folder="b", shortcut=1)]
    assert swept_keys(read_runs(folders, FINDINGS)) == ["data.shortcut"]


def test_repeated_runs_are_not_pooled(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / part, seed=0) for part in "ab"]
    groups = group_runs(read_runs(folders, FINDINGS))
    assert [len(group.runs) for group in groups] == [1, 1]
    assert len({group.label for group in groups}) == 2


def test_the_value_over_seeds_is_the_mean_of_the_seeds(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, seed=seed) for seed in (0, 1, 2)]
    (group,) = group_runs(read_runs(folders, FINDINGS))
    tables = [pd.read_csv(folder / "predictions.csv") for folder in folders]
    each = [roc_auc_score(table["label"], table["probability"]) for table in tables]
    entry = group.metric("drusen", "auroc", n=200)
    assert entry is not None
    assert entry["seeds"] == pytest.approx(each)
    assert entry["value"] == pytest.approx(np.mean(each))
    assert entry["ci95"][0] < np.mean(each) < entry["ci95"][1]


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    # Skill makes AIR 0.4 times itself, the noise is that of the seed: paired, it cancels to the last digit.
    folders = [
        run_folder(tmp_path, seed=seed, weight=weight, skill=skill)
        for weight, skill in ((0, 1.0), (1, 1.2))
        for seed in (2, 0, 1)
    ]
    found = group_differences(group_runs(read_runs(folders, FINDINGS)), n=200)["drusen λ=1", "drusen", "air_tp"]
    assert found.value == pytest.approx(0.08, abs=0.01)
    assert found.low is not None and found.low > 0.06


def test_without_a_common_seed_there_is_no_difference(tmp_path: Path) -> None:
    folders = [
        run_folder(tmp_path, seed=seed, weight=weight) for weight, seeds in ((0, (0, 1)), (1, (2, 3))) for seed in seeds
    ]
    assert not group_differences(group_runs(read_runs(folders, FINDINGS)), n=20)


@pytest.mark.parametrize(
    ("place", "relabelled", "compared"), [("a", True, True), ("b", False, True), ("b", True, False)]
)
def test_images_of_the_same_name_in_other_sets_are_not_compared(
    place: str, relabelled: bool, compared: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_folder(tmp_path, weight=0, folder="a")
    second = run_folder(tmp_path, weight=1, folder=place)
    if relabelled:
        table = pd.read_csv(second / "predictions.csv")
        table.loc[:9, "label"] = 1 - table.loc[:9, "label"]
        table.to_csv(second / "predictions.csv", index=False)
    found = group_differences(group_runs(read_runs([first, second], FINDINGS)), n=20)
    assert bool(found) is compared
    assert ("a and b are different sets" in caplog.text) is not compared
    page = write_report([first, second], tmp_path / "page.html").read_text()
    assert (" against " in page) is compared, "nor by DeLong's test"


def test_pooling_one_run_is_the_bootstrap_of_that_run() -> None:
    generator = np.random.default_rng(0)
    values, patients = generator.normal(size=60), np.repeat(np.arange(20), 3)
    statistic = mean(values, np.ones(60, bool), "images")
    assert pooled([statistic], [patients], n=300) == bootstrap(statistic, patients, n=300)


def test_the_spread_between_seeds_widens_the_interval() -> None:
    patients = np.arange(50)
    everyone = np.ones(50, bool)
    noise = np.random.default_rng(0).normal(0, 0.1, 50)
    alike = [mean(noise, everyone, "images") for _ in range(3)]
    apart = [mean(noise + shift, everyone, "images") for shift in (-1, 0, 1)]
    narrow, wide = (pooled(each, [patients] * 3, n=500) for each in (alike, apart))
    assert narrow.value == pytest.approx(wide.value)
    assert None not in (narrow.low, narrow.high, wide.low, wide.high)
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)  # type: ignore[operator]
    # A patient who stands in every run is drawn for all of them at once: seeds alike are one seed.
    alone = bootstrap(alike[0], patients, n=500)
    assert narrow.high - narrow.low == pytest.approx(alone.high - alone.low, rel=0.2)  # type: ignore[operator]


def test_a_metric_undefined_for_one_seed_has_a_reason() -> None:
    known = Statistic(lambda weights: weights.mean(axis=1), {"images": np.ones(3, bool)})
    unknown = Statistic(lambda weights: np.full(len(weights), np.nan), {"images": np.zeros(3, bool)})
    interval = pooled([known, unknown], [np.arange(3)] * 2)
    assert interval.value is None and interval.reason == "no images in 1 of 2 runs"


def test_a_sweep_has_an_overview_on_the_page_and_as_markdown(tmp_path: Path) -> None:
    folders = [
        run_folder(tmp_path, finding=finding, seed=seed, weight=weight)
        for finding in ("drusen", "membrane")
        for weight in (0, 0.3)
        for seed in (0, 1)
    ]
    rows_ = rows_under(write_report(folders, tmp_path / "report.html"), "Overview")
    methods = ["without guidance", "with guidance, λ=0.3", "difference to without guidance"]
    assert [(row["Finding"], row["Method"]) for row in rows_] == [
        (finding, method) for finding in ("Drusen", "Membrane") for method in methods
    ]
    for first in (0, 3):
        base, other, difference = (float(row["AIR, true positives"].split()[0]) for row in rows_[first : first + 3])
        assert difference == pytest.approx(other - base, abs=0.0015)
    text = write_report(folders, tmp_path / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 2 * 3
    assert "drusen over 2 runs: 30 present (0 without cue), 30 absent, 0 undecided." in text
