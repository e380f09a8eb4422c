"""The section of a report about a sweep: what is best on validation, and figures with every job."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from finished_runs import run_folder

from fundusnet.evaluation.figures import encode
from fundusnet.evaluation.groups import group_runs, swept_keys
from fundusnet.evaluation.runs import read_runs
from fundusnet.evaluation.sweeps import (
    Best,
    best_on_validation,
    line_plots,
    numeric_keys,
    parallel_coordinates,
    sweep_section,
)
from fundusnet.findings.report import write_report
from fundusnet.findings.statistics import FINDINGS


def sweep(root: Path, seeds: tuple[int, ...] = (0, 1)) -> list[Path]:
    folders = []
    for weight in (0.0, 1.0, 0.3):
        for size in (64, 128):
            for seed in seeds:
                skill = 0.3 + weight
                folder = run_folder(root, seed=seed, weight=weight, skill=skill, size=size)
                # On validation the one without guidance is best.
                table = pd.read_csv(folder / "predictions.csv")
                table["probability"] = table["label"] if weight == 0 and size == 64 else table["probability"]
                table.to_csv(folder / "predictions_val.csv", index=False)
                command = f"fundusnet train model.loss.weight={weight:g} data.size={size} seed={seed}"
                (folder / "status.json").write_text(json.dumps({"state": "done", "command": command}))
                folders.append(folder)
    return folders


def accuracy(predictions: pd.DataFrame) -> float:
    return float(((predictions["probability"] > 0.5) == predictions["label"]).mean())


def test_validation_chooses_the_best_and_its_command_repeats_it(tmp_path: Path) -> None:
    groups = group_runs(read_runs(sweep(tmp_path), FINDINGS))
    best = best_on_validation(groups, accuracy)
    assert best == Best("loss.weight=0, data.size=64", 1.0, "fundusnet train model.loss.weight=0 data.size=64 seed=0")


def test_without_validation_there_is_no_best(tmp_path: Path) -> None:
    folders = sweep(tmp_path, seeds=(0,))
    (folders[-1] / "predictions_val.csv").unlink()
    assert best_on_validation(group_runs(read_runs(folders, FINDINGS)), accuracy) is None


def test_methods_that_find_different_things_have_no_best(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, finding=name, weight=weight) for name, weight in (("drusen", 0), ("bleeding", 1))]
    for folder in folders:
        pd.read_csv(folder / "predictions.csv").to_csv(folder / "predictions_val.csv", index=False)
    groups = group_runs(read_runs(folders, FINDINGS))
    assert len(groups) == 2 and best_on_validation(groups, accuracy) is None
    assert best_on_validation(groups[:1], accuracy) is not None


def entries(folders: list[Path]) -> tuple[list, dict]:
    groups = group_runs(read_runs(folders, FINDINGS))
    return groups, {"AUROC": {group.label: group.metric("drusen", "auroc", n=20) for group in groups}}


def test_lines_join_settings_that_differ_in_one_value(tmp_path: Path) -> None:
    groups, scores = entries(sweep(tmp_path))
    figure = line_plots(groups, ["model.loss.weight", "data.size"], scores)
    weight, size = figure.axes
    assert [tick.get_text() for tick in weight.get_xticklabels()] == ["0", "0.3", "1"]  # in the order of numbers
    assert [text.get_text() for text in weight.get_legend().get_texts()] == ["data.size=64", "data.size=128"]
    drawn = {bar.get_label(): bar.lines[0].get_ydata().tolist() for bar in weight.containers}
    expected = [scores["AUROC"][f"loss.weight={w:g}, data.size=128"]["value"] for w in (0.0, 0.3, 1.0)]
    assert drawn["data.size=128"] == pytest.approx(expected)
    assert len(size.containers) == 3


def test_long_names_leave_the_panels_their_width(tmp_path: Path) -> None:
    groups, scores = entries(sweep(tmp_path, seeds=(0,)))
    for group in groups:
        size = group.runs[0].config["data"]["size"]
        group.runs[0].config["model"]["network"]["dilations"] = f"[1, 2, 4, 8, 16, {size}]"
    every = ["model.loss.weight", "model.network.dilations", "data.size"]
    figure = line_plots(groups, every[:1], scores | {"again": scores["AUROC"]}, every)
    encode(figure)
    first, second = figure.axes
    assert min(axes.get_position().width for axes in figure.axes) > 0.7
    assert len(first.get_legend().get_texts()) == 2 and second.get_legend() is None, "named once for a column"


def test_parallel_coordinates_have_a_line_for_each_setting(tmp_path: Path) -> None:
    groups, scores = entries(sweep(tmp_path))
    (axes,) = parallel_coordinates(groups, ["model.loss.weight", "data.size"], scores).axes
    paths = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 3]
    assert len(paths) == 6
    assert {tuple(path[:2]) for path in map(list, paths)} == {(w, s) for w in (0.0, 0.5, 1.0) for s in (0.0, 1.0)}


def test_two_methods_are_not_a_sweep(tmp_path: Path) -> None:
    groups, scores = entries([run_folder(tmp_path, weight=weight) for weight in (0.0, 1.0)])
    assert sweep_section(groups, scores, None) is None


def test_the_page_shows_it(tmp_path: Path) -> None:
    content = write_report(sweep(tmp_path, seeds=(0,)), tmp_path / "page.html").read_text()
    assert content.count('alt="Parallel coordinates of the sweep"') == 1
    assert re.search(r"<strong>loss\.weight=0, data\.size=64</strong> is best on validation \(AUROC 1\.000\)", content)
    assert "<code>fundusnet train model.loss.weight=0 data.size=64 seed=0</code>" in content


def test_lines_are_drawn_along_numbers_only(tmp_path: Path) -> None:
    of = {
        "numbers": [run_folder(tmp_path / "a", weight=weight) for weight in (0.0, 0.3, 1.0)],
        "two numbers": [run_folder(tmp_path / "b", weight=weight) for weight in (0.0, 1.0)],
        "words": [run_folder(tmp_path / "c", cue=cue) for cue in ("regions", "pixels", "both")],
        "mixed": [run_folder(tmp_path / "d", weight=w, cue=c) for w in (0.0, 0.3, 1.0) for c in ("regions", "pixels")],
    }
    found = {name: numeric_keys(group_runs(read_runs(folders, FINDINGS))) for name, folders in of.items()}
    weight = ["model.loss.weight"]
    assert found == {"numbers": weight, "two numbers": [], "words": [], "mixed": weight}


def test_methods_that_differ_in_kind_are_compared_in_a_forest_plot(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, cue=cue) for cue in ("regions", "pixels", "both")]
    content = write_report(folders, tmp_path / "page.html").read_text()
    assert 'alt="Scores against each swept value"' not in content and "Parallel coordinates" not in content
    assert 'alt="Forest plot of drusen: value and interval of each method"' in content
    assert 'alt="Forest plot of drusen: paired differences"' in content


def test_dilations_make_methods_of_one_finding_but_not_of_several(tmp_path: Path) -> None:
    def with_dilations(folder: Path, rates: list[int]) -> Path:
        file = folder / "config.yaml"
        file.write_text(file.read_text().replace(f"- {len('drusen')}\n", f"- {rates}\n"))
        return folder

    one = [with_dilations(run_folder(tmp_path / str(rate), seed=0), [rate]) for rate in (1, 2, 4)]
    assert swept_keys(read_runs(one, FINDINGS)) == ["model.network.dilations"]
    two = [run_folder(tmp_path / "two", finding=finding) for finding in ("drusen", "membrane")]
    assert swept_keys(read_runs(two, FINDINGS)) == []
