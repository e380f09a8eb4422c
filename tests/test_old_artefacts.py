"""What fundusnet 0.1.0 left in a folder still opens: runs, prepared set, checkpoints, study and export.

``artefacts/README.md`` says how they were made. Everything here goes through public entry points.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_backbone  # noqa: F401 - timm learns of test_tiny
import torch

import fundusnet
from fundusnet.cli.main import main

OLD = Path(__file__).parent / "artefacts" / "0.1.0"
FINDINGS = ["findings", "guided_timm", "inception"]
GRADING = ["two_stage", "ranking"]
CLOSE = {"rel": 0, "abs": 1e-4}
# 20 resamples, which are drawn otherwise since; tests/evaluation/test_intervals.py tests them.
RESAMPLED = re.compile("ci95|redrawn|.*calibration_error")


def copied(folder: Path) -> Path:
    """A copy of the artefacts whose files name ``folder`` as their place."""
    place = shutil.copytree(OLD, folder / "old")
    for file in place.rglob("*"):
        if file.suffix in (".yaml", ".json"):
            file.write_text(file.read_text().replace("PLACE", str(place)))
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return copied(tmp_path_factory.mktemp("artefacts"))


@pytest.fixture
def untouched(tmp_path: Path) -> Path:
    """A copy for a test that writes into it."""
    torch.set_num_threads(1)
    return copied(tmp_path)


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def assert_close(found: Any, expected: Any, where: str = "metrics") -> None:
    """The same keys and values, numbers to the tolerance, except for what depends on the random numbers drawn."""
    if isinstance(expected, dict):
        expected = {key: value for key, value in expected.items() if not RESAMPLED.match(key)}
        assert found.keys() >= expected.keys(), where
        for key, value in expected.items():
            assert_close(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            assert_close(found[number], value, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, **CLOSE), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("run", FINDINGS)
def test_findings_checkpoints_say_the_same(place: Path, run: str) -> None:
    table = pd.read_csv(place / run / "predictions.csv")
    names = table["image_id"].drop_duplicates().tolist()
    predictor: Any = fundusnet.load(place / run / "checkpoints" / "best.ckpt", device="cpu")
    results = predictor.predict([place / "eyes" / f"{name}.jpg" for name in names], maps=True)
    assert list(results[0].probability) == ["hemorrhage", "drusen"]
    for name, result in zip(names, results, strict=True):
        for row in table[table["image_id"] == name].to_dict("records"):
            finding = row["finding"]
            assert result.probability[finding] == pytest.approx(row["probability"], **CLOSE)
            assert result.predicted[finding] == bool(row["predicted"])
            calibrated = result.calibrated[finding]
            expected = pytest.approx(row["calibrated"], **CLOSE, nan_ok=True)
            assert (np.nan if calibrated is None else calibrated) == expected
        assert set(result.maps) == {"hemorrhage", "drusen"}


@pytest.mark.parametrize("run", GRADING)
def test_grading_checkpoints_say_the_same(place: Path, run: str) -> None:
    table = pd.read_csv(place / run / "predictions.csv")
    predictor: Any = fundusnet.load(place / run, device="cpu")
    results = predictor.predict([place / "eyes" / f"{name}.jpg" for name in table["image_id"]])
    for row, result in zip(table.to_dict("records"), results, strict=True):
        assert result.grade == row["predicted"]
        assert list(result.p_gt) == pytest.approx([row["p_gt_0"], row["p_gt_1"]], **CLOSE)
        calibrated = [np.nan if value is None else value for value in result.calibrated_gt]
        assert calibrated == pytest.approx([row["calibrated_gt_0"], row["calibrated_gt_1"]], **CLOSE, nan_ok=True)


@pytest.mark.parametrize("run", [*FINDINGS, *GRADING])
def test_a_finished_run_is_scored_as_it_was(place: Path, tmp_path: Path, run: str) -> None:
    options = ["evaluation.bootstrap=20", f"output={tmp_path}/again"]
    folder = fundusnet.evaluate(fundusnet.compose([f"run={place / run}", *options], "evaluate"))
    assert_close(read(folder / "metrics.json"), read(place / run / "metrics.json"))
    expected = pd.read_csv(place / run / "predictions.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "predictions.csv")[list(expected)], expected, rtol=0, atol=1e-4, check_dtype=False
    )


@pytest.mark.parametrize("run", ["findings", "two_stage"])
def test_a_finished_run_is_returned_as_it_is(place: Path, run: str) -> None:
    assert fundusnet.train(fundusnet.compose([f"resume={place / run}"])).metrics == read(OLD / run / "metrics.json")


@pytest.mark.parametrize(
    ("name", "history", "epochs"),
    [
        ("findings_interrupted", "history.csv", {"": 3}),
        ("two_stage_interrupted", "stages/stage2/history.csv", {"stages/stage1": 1, "stages/stage2": 2}),
    ],
)
def test_an_interrupted_run_goes_on_to_its_end(
    untouched: Path, name: str, history: str, epochs: dict[str, int]
) -> None:
    run = untouched / name
    assert read(run / "status.json")["state"] == "interrupted"
    done = pd.read_csv(run / history)
    assert fundusnet.train(fundusnet.compose([f"resume={run}"])).run_dir == run
    assert read(run / "status.json")["state"] == "done"
    assert {folder: read(run / folder / "fit.json")["epochs"] for folder in epochs} == epochs
    after = pd.read_csv(run / history)
    assert len(after) == list(epochs.values())[-1] > len(done)
    # What was fitted before the interruption is gone on with, not fitted again.
    pd.testing.assert_frame_equal(after[: len(done)][list(done)], done, check_dtype=False)
    assert read(run / "metrics.json")["n_images"] == 4


def test_training_takes_the_prepared_set_as_it_is(untouched: Path) -> None:
    folder = untouched / "prepared"
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}
    words = [
        # Where the photographs were: to prepare again, they would have to be drawn again.
        "data=synthetic", f"data.root={untouched}/gone", f"data.folder={folder}", "data.size=32",
        "data.num_workers=0", "data.batch_size=8", "finding=all", "finding.names=[hemorrhage,drusen]",
        "finding.dilations=[1,2]", "finding.pool=1", "model.network.width=4", "model.network.reductions=2",
        "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "evaluation.bootstrap=5",
        f"run_dir={untouched}/new",
    ]  # fmt: skip
    result = fundusnet.train(fundusnet.compose(words))
    assert result.metrics["n_images"] == 4
    assert not (untouched / "gone").exists()
    after = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}
    assert after == before


def test_a_stage_1_of_old_is_used_in_a_new_run(untouched: Path) -> None:
    first = untouched / "two_stage_interrupted" / "stages" / "stage1" / "checkpoints" / "best.ckpt"
    words = [
        "experiment=paper_grading_two_stage", "data=synthetic", f"data.root={untouched}/gone",
        f"data.folder={untouched}/prepared",
        "data.size=32", "data.num_workers=0", "data.batch_size=8", "model.head=multiclass",
        "model.network.backbone=test_tiny", "model.network.pretrained=false", "model.network.hidden=8",
        f"model.stage1.checkpoint={first}", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        "trainer.precision=32-true", "evaluation.bootstrap=5", f"run_dir={untouched}/new",
    ]  # fmt: skip
    assert fundusnet.train(fundusnet.compose(words)).metrics["n_images"] == 4


def test_a_study_opens_and_exports_what_it_did(untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(untouched)
    assert main(["annotate", "data.root=photographs", "folder=study", "export=again"]) == 0
    for name in ("images.csv", "readings.csv", "readings_blind.csv"):
        assert (untouched / "again" / name).read_text() == (OLD / "exported" / name).read_text()
    found, expected = (read(folder / "study.json") for folder in (untouched / "again", OLD / "exported"))
    assert {**found, "exported": None} == {**expected, "exported": None}
    given = {(each["image_id"], each["annotator"]): each for each in found["answers"]}
    assert len(given) == 7
    assert given["eye00000", "anna"]["findings"] == {"hemorrhage": ["macula", "temporal"], "drusen": ["macula"]}
    assert given["eye00000", "ben"]["findings"] == {"hemorrhage": ["macula"]}
    assert given["eye00003", "anna"]["findings"] == {"hemorrhage": ["superotemporal"]}
    assert all(given["eye00001", name]["normal"] for name in ("anna", "ben"))
    assert given["eye00002", "anna"]["ungradable"] == "blurred"
    assert [(each["finding"], each["regions"]) for each in found["decisions"]] == [("drusen", ["macula"])]


def test_an_old_study_and_an_old_export_go_on_at_the_server(
    untouched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(untouched)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: [each.close() for each in sockets])
    for words in (["folder=study"], ["folder=other", "earlier=exported", "annotators=[anna,ben]"]):
        assert main(["annotate", "data.root=photographs", "port=0", *words]) == 0
        assert "annotate at" in capsys.readouterr().out
        assert main(["annotate", "data.root=photographs", words[0], f"export=again-{words[0]}"]) == 0
        assert (untouched / f"again-{words[0]}" / "readings.csv").read_text() == (
            OLD / "exported" / "readings.csv"
        ).read_text()


@pytest.mark.parametrize("runs", [FINDINGS, GRADING])
def test_a_page_of_old_runs(place: Path, tmp_path: Path, runs: list[str]) -> None:
    folders = ",".join(str(place / run) for run in runs)
    assert main(["report", f"runs=[{folders}]", f"output={tmp_path}/page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("test_tiny") >= 1 and "</html>" in page
