"""What is chosen on validation and what the page shows of it, for findings and for grades."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from answered import predictions, run
from pages import row_of, rows_under

from fundusnet.evaluation.binary_tasks import fit_on_validation, task_metrics
from fundusnet.findings.report import write_report
from fundusnet.findings.statistics import finding_tasks
from fundusnet.grading.statistics import grading_tasks

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TABLE = "Calibration, and sensitivity at high specificity"


def test_choices_are_plain_and_made_for_each_finding() -> None:
    both = pd.concat([predictions(0), predictions(1, finding="hemorrhage")])
    chosen = fit_on_validation(finding_tasks(both))
    assert list(chosen) == ["drusen", "hemorrhage"]
    assert chosen["drusen"] == fit_on_validation(finding_tasks(predictions(0)))["drusen"] != chosen["hemorrhage"]
    json.dumps(chosen, allow_nan=False)
    assert chosen["drusen"]["sp85"] < chosen["drusen"]["sp95"]


def test_calibration_helps_an_overconfident_network() -> None:
    chosen = fit_on_validation(finding_tasks(predictions(5, images=2000)))
    (task,) = finding_tasks(predictions(6, images=2000), chosen)
    assert chosen["drusen"]["temperature"] > 1.2
    entries = task_metrics(task, n=50)
    assert entries["brier_calibrated"]["value"] < entries["brier"]["value"]
    assert entries["calibration_error_calibrated"]["value"] < entries["calibration_error"]["value"]
    # Thresholds of validation, scored elsewhere: near what they were chosen for, and not exactly it.
    assert entries["specificity_sp85"]["value"] == pytest.approx(0.85, abs=0.04)
    assert entries["specificity_sp95"]["value"] == pytest.approx(0.95, abs=0.03)


def test_without_a_choice_the_reason_is_given() -> None:
    (task,) = finding_tasks(predictions(0))
    entries = task_metrics(task, n=20)
    assert entries["ece"]["value"] is not None
    for name in ("ece_calibrated", "sensitivity_sp85", "specificity_sp95"):
        assert entries[name]["value"] is None and "nothing chosen on validation" in entries[name]["reason"]


def test_a_task_for_each_threshold_between_grades() -> None:
    table = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"], "patient_id": ["x", "y", "z"], "grade": [0, 1, 2],
            "p_gt_0": [0.1, 0.6, 0.9], "p_gt_1": [0.0, 0.3, 0.8], "calibrated_gt_0": [0.2, 0.5, 0.8],
        }
    )  # fmt: skip
    low, high = grading_tasks(table)
    assert (low.name, high.name) == ("gt_0", "gt_1")
    assert high.metric_name("brier") == "brier_gt_1"
    assert low.label.tolist() == [0, 1, 1] and high.label.tolist() == [0, 0, 1]
    assert high.probability.tolist() == [0.0, 0.3, 0.8]


@pytest.mark.browser
def test_what_is_folded_up_on_the_screen_is_printed(browser: Browser, tmp_path: Path) -> None:
    tab = browser.new_page()
    tab.goto(write_report([run(tmp_path / "a", 0)], tmp_path / "report.html").as_uri())
    cell = tab.locator("details td", has_text=".").first
    assert not cell.is_visible()
    tab.emulate_media(media="print")
    assert cell.is_visible()
    tab.close()


def test_the_page_shows_one_run_and_two_and_means_over_seeds(tmp_path: Path) -> None:
    first = run(tmp_path / "a", 0)
    page = write_report([first], tmp_path / "report.html").read_text()
    assert page.count("Calibration and decisions") == 1
    assert page.count("data:image/png;base64,") == 4  # ROC, precision and recall, reliability, decision
    temperature = json.loads((first / "metrics.json").read_text())["validation"]["drusen"]["temperature"]
    assert f"Temperature, fitted on validation: {temperature:.2f}." in page

    two = [first, run(tmp_path / "b", 1, "other")]
    file = write_report(two, tmp_path / "report.html")
    for folder, label in zip(two, ("guided", "other"), strict=True):
        results = json.loads((folder / "metrics.json").read_text())
        temperature = results["validation"]["drusen"]["temperature"]
        assert f"Temperature of {label}, fitted on validation: {temperature:.2f}." in file.read_text()
        rows = rows_under(file, TABLE)
        below = next(number for number, row in enumerate(rows) if row["Metric"] == "Brier score") + 1
        assert rows[below]["Metric"] == "Brier score after calibration"
        for row, name in zip(rows[below - 1 : below + 1], ("brier", "brier_calibrated"), strict=True):
            assert row[label].startswith(f"{results['metrics'][name]['value']:.3f} ")

    seeds = [run(tmp_path / f"s{seed}", seed) for seed in (3, 4)]
    row = row_of(write_report(seeds, tmp_path / "report.html"), TABLE, "Brier score")
    values = [json.loads((one / "metrics.json").read_text())["metrics"]["brier"]["value"] for one in seeds]
    (cell,) = list(row.values())[1:]
    assert cell.startswith(f"{np.mean(values):.3f} ")


def test_runs_of_an_earlier_version_have_no_such_section(tmp_path: Path) -> None:
    old = run(tmp_path / "a", 0)
    (old / "curves.json").unlink()
    assert "Calibration and decisions" not in write_report([old], tmp_path / "report.html").read_text()
