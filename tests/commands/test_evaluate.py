"""Scoring a run on another set: at its own size and thresholds, with labels mapped, or refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from graded import graded_set
from omegaconf import OmegaConf
from pages import row_of, rows_under
from tiny import tiny_prepared
from tiny_runs import tiny_overrides

from fundusnet import compose, evaluate, train
from fundusnet.errors import UserError
from fundusnet.findings.module import GuidedModule
from fundusnet.findings.statistics import with_predicted
from fundusnet.runs.checkpoints import load_module, read_metadata


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets: the run's, and in ``other`` one of other pictures."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluating")
    tiny_prepared(folder)
    tiny_prepared(folder / "other", images=16, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    return train(compose([*tiny_overrides(place), f"run_dir={place}/run"])).run_dir


def elsewhere(run: Path, folder: Path, output: Path, *more: str) -> Path:
    """The evaluation of a run on a prepared set that lies in ``folder``."""
    where = ["data=csv", f"data.root={folder}/raw", f"data.folder={folder}/prepared", f"output={output}"]
    return evaluate(compose([f"run={run}", *where, "evaluation.bootstrap=20", *more], "evaluate"))


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.fixture(scope="module")
def there(run: Path, place: Path) -> Path:
    """The run's evaluation on the other set."""
    return elsewhere(run, place / "other", place / "there")


def test_every_image_of_another_set_is_scored_at_the_runs_threshold(run: Path, place: Path, there: Path) -> None:
    folder = there
    assert {"report.html", "config.yaml", "metrics.json", "predictions.csv", "curves.json"} <= {
        file.name for file in folder.iterdir()
    }
    table, results = pd.read_csv(folder / "predictions.csv").fillna({"regions": ""}), metrics(folder)
    assert results["split"] == "all" and results["n_images"] == len(table) == 15  # one was examined for nothing
    points = read_metadata(run / "checkpoints" / "best.ckpt")["operating_points"]
    assert results["operating_points"] == points
    where = {"regions": table["regions"].fillna("")}  # an empty cell is read as NaN
    pd.testing.assert_frame_equal(table.assign(**where), with_predicted(table, points), check_dtype=False)
    # The same network on the same pictures, by hand.
    pixels = np.load(place / "other" / "prepared" / "pixels.npy")[3]
    module = load_module(run / "checkpoints" / "best.ckpt", GuidedModule)
    with torch.inference_mode():
        _, expected = module(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    assert table.set_index("image_id").loc["image03", "probability"] == pytest.approx(float(expected), rel=1e-5)
    assert "trained on csv" in (folder / "report.html").read_text()
    assert OmegaConf.load(folder / "config.yaml").evaluated.run == str(run)


def test_regions_are_scored_against_those_of_the_lesions(there: Path) -> None:
    table = pd.read_csv(there / "predictions.csv", keep_default_na=False)
    marked, named = (table[name].str.split(";").map(set) for name in ("marked_regions", "regions"))
    touched = marked.map(lambda regions: "macula" in regions)
    found = pd.Series(["macula" in regions for regions in named])
    assert 1 < touched.sum() < len(table) and named[table["predicted"] == 0].map(lambda each: each == {""}).all()
    entry, shown = metrics(there)["regions"]["drusen"]["macula"], row_of(there / "report.html", "By region", "Macula")
    assert (entry["n_marked"], entry["n_unmarked"]) == (touched.sum(), (~touched).sum())
    assert shown["Marked in"] == f"{touched.sum()} not in {(~touched).sum()}"
    for name, value in (("sensitivity", found[touched].mean()), ("specificity", 1 - found[~touched].mean())):
        assert entry[name]["value"] == pytest.approx(value)
        assert shown[name.capitalize()].startswith(f"{value:.3f} ")
    assert metrics(there)["metrics"]["region_sensitivity"]["ci95"][0] is not None


def test_the_default_folder_is_named_after_the_source(run: Path, place: Path) -> None:
    where = ["data=csv", f"data.root={place}/other/raw", f"data.folder={place}/other/prepared"]
    folder = evaluate(compose([f"run={run}", *where, "split=test", "evaluation.bootstrap=5"], "evaluate"))
    assert folder == run / "evaluations" / "csv-raw-test"
    assert 0 < metrics(folder)["n_images"] < 15


def renamed(place: Path, folder: Path, names: dict[str, str]) -> Path:
    """A copy of the other set with its findings renamed."""
    shutil.copytree(place / "other", folder)
    file = folder / "prepared" / "manifest" / "lesions.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table.assign(finding=table["finding"].replace(names)).to_csv(file, index=False)
    return folder


def test_findings_of_another_name_are_mapped(run: Path, place: Path, there: Path, tmp_path: Path) -> None:
    theirs = renamed(place, tmp_path / "theirs", {"drusen": "soft_drusen", "hemorrhage": "drusen"})
    mapped = elsewhere(run, theirs, tmp_path / "mapped", "labels={drusen: soft_drusen}")
    # The set's own "drusen", which are something else, are not taken for the run's.
    assert metrics(mapped)["counts"] == metrics(there)["counts"]
    assert metrics(mapped)["metrics"] == metrics(there)["metrics"]


def test_a_set_that_does_not_fit_is_refused_in_one_line(run: Path, place: Path, there: Path, tmp_path: Path) -> None:
    theirs = renamed(place, tmp_path / "theirs", {"drusen": "soft_drusen"})
    with pytest.raises(UserError, match=r"has hemorrhage, soft_drusen, the run predicts drusen; .*labels="):
        elsewhere(run, theirs, tmp_path / "out")
    with pytest.raises(UserError, match=r"labels maps drusen to druse, which .* does not have; it has hemorrhage"):
        elsewhere(run, theirs, tmp_path / "out", "labels={drusen: druse}")
    with pytest.raises(UserError, match="labels names exudate, which the run does not predict"):
        elsewhere(run, theirs, tmp_path / "out", "labels={exudate: soft_drusen}")
    with pytest.raises(UserError, match=r"grades=.* does not apply to findings"):
        elsewhere(run, theirs, tmp_path / "out", "grades=[0,1]")
    with pytest.raises(UserError, match="split=all cannot be scored on a run's own data"):
        evaluate(compose([f"run={run}", "split=all"], "evaluate"))
    with pytest.raises(UserError, match=r"labels=.* does not apply to the run's own data"):
        evaluate(compose([f"run={run}", "labels={drusen: x}"], "evaluate"))
    part = shutil.copytree(place / "other", tmp_path / "part")
    with (part / "prepared" / "prepared.yaml").open("a") as record:
        record.write("shard: 1/2\n")
    with pytest.raises(UserError, match=r"prepared is only part 1/2 of a prepared set; .*`fundusnet prepare merge="):
        elsewhere(run, part, tmp_path / "out")
    shutil.copytree(place / "other", tmp_path / "small")
    pixels = tmp_path / "small" / "prepared" / "pixels.npy"
    np.save(pixels, np.load(pixels)[:, ::2, ::2])
    with pytest.raises(UserError, match="holds pictures of 32 pixels, but the run was trained on 64"):
        elsewhere(run, tmp_path / "small", tmp_path / "out")
    with pytest.raises(UserError, match="is an evaluation; give the run it evaluates"):
        evaluate(compose([f"run={there}"], "evaluate"))


def test_a_finding_the_set_lacks_is_left_out_with_a_warning(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fundusnet.evaluation.faithfulness.IMAGES", 2)
    overrides = [word for word in tiny_overrides(place) if not word.startswith("finding=")]
    both = [
        "data.fractions=[0.5,0.25,0.25]",
        "finding=all",
        "finding.names=[drusen,hemorrhage]",
        "finding.dilations=[1,2]",
        "finding.pool=1",
    ]
    run = train(compose([*overrides, *both, f"run_dir={tmp_path}/run"])).run_dir
    theirs = renamed(place, tmp_path / "theirs", {"drusen": "soft_drusen"})
    with caplog.at_level(logging.WARNING):
        folder = elsewhere(run, theirs, tmp_path / "out", "evaluation.faithfulness=true")
    assert "has no label for drusen: left out" in caplog.text
    assert metrics(folder)["findings"] == ["hemorrhage"] and "auroc" in metrics(folder)["metrics"]
    table = pd.read_csv(folder / "predictions.csv")
    with np.load(folder / "maps.npz") as stored:
        # The map that is kept is that of the finding that is: its mean is the probability it goes with.
        maps = dict(zip(stored["image_id"].tolist(), stored["map"], strict=True))
    first = table.iloc[0]
    logit = np.log(maps[first["image_id"]][0].astype(float) / (1 - maps[first["image_id"]][0].astype(float)))
    assert 1 / (1 + np.exp(-logit.mean())) == pytest.approx(first["probability"], abs=5e-3)
    tested = metrics(folder)["faithfulness"]["hemorrhage"]
    assert tested["n_images"] == 2 < (table["label"] == 1).sum()
    assert (folder / "figures" / "faithfulness_hemorrhage.png").is_file()
    assert len(pd.read_csv(folder / "faithfulness.csv")) == tested["n_images"]
    shown = [row["1"].split()[0] for row in rows_under(folder / "report.html", "Faithfulness of the maps")]
    values = [entry["value"] for entry in tested["metrics"].values()]
    assert set(shown) <= {"–" if value is None else f"{value:.3f}" for value in values} and len(shown) > 3


def test_pictures_the_run_was_trained_on_are_counted(
    run: Path, place: Path, there: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert metrics(there)["also_in_training"] == {"image_ids": []}
    with caplog.at_level(logging.WARNING):
        same = elsewhere(run, place, tmp_path / "same")
    scored_before = set(pd.read_csv(run / "predictions.csv")["image_id"])
    everything = set(pd.read_csv(same / "predictions.csv")["image_id"])
    assert set(metrics(same)["also_in_training"]["image_ids"]) == everything - scored_before
    assert "are also in the training or validation split" in caplog.text
    stated = f"; {len(everything - scored_before)} of them also among the images it was trained on"
    assert stated in (same / "report.html").read_text()


def test_without_the_runs_own_set_the_check_gives_the_reason(run: Path, place: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    cfg = OmegaConf.load(moved / "config.yaml")
    cfg.data.folder = str(tmp_path / "gone")
    OmegaConf.save(cfg, moved / "config.yaml")
    results = metrics(elsewhere(moved, place / "other", tmp_path / "out"))
    assert results["also_in_training"]["image_ids"] is None and "gone" in results["also_in_training"]["reason"]


def test_subgroups_are_in_the_results_and_on_the_page(run: Path, place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("patient_id,site\n" + "".join(f"patient{i:02},{'north' if i % 2 else 'south'}\n" for i in range(12)))
    cfg = [f"run={run}", f"output={tmp_path}/out", "evaluation.bootstrap=20", "evaluation.subgroups=[site]"]
    folder = evaluate(compose([*cfg, f"evaluation.attributes={own}"], "evaluate"))
    rows = metrics(folder)["subgroups"]["drusen"]
    sites = pd.read_csv(folder / "predictions.csv")["patient_id"].map(lambda patient: int(patient[7:]) % 2)
    images = {value: int((sites == odd).sum()) for value, odd in (("north", 1), ("south", 0)) if (sites == odd).any()}
    assert {row["value"]: row["n_images"] for row in rows} == images
    for row in rows:
        assert row["small"] is True
        shown = row_of(folder / "report.html", "Subgroups", f"site: {row['value']} too few patients to be reliable")
        assert shown["Images"] == f"{row['n_images']} of {row['n_patients']} patients"


GRADES = [number // 2 % 3 for number in range(36)]


def test_the_results_of_a_run_are_not_written_over(run: Path, place: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match="is the folder of a run, whose results would be lost; give another folder"):
        elsewhere(run, place / "other", run)
    with pytest.raises(UserError, match="would be lost"):
        evaluate(compose([f"run={run}", "split=val", f"output={run}/../{run.name}"], "evaluate"))
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()} == before


def test_a_second_evaluation_removes_what_the_first_left(run: Path, place: Path, tmp_path: Path) -> None:
    elsewhere(run, place / "other", tmp_path / "out", "evaluation.faithfulness=true")
    stale = {tmp_path / "out" / "faithfulness.csv", *(tmp_path / "out" / "figures").iterdir()}
    assert len(stale) == 2 and all(file.is_file() for file in stale)
    elsewhere(run, place / "other", tmp_path / "out")
    assert not any(file.exists() for file in stale)
    assert "faithfulness" not in metrics(tmp_path / "out")


@pytest.fixture(scope="module")
def graded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graded")
    graded_set(folder, GRADES)
    tiny = [
        "experiment=paper_grading_ranking", "data=csv", f"data.root={folder}/raw", f"data.folder={folder}/prepared",
        "data.size=64", "data.batch_size=8", "data.num_workers=0", "model.network.backbone=test_resnet",
        "model.network.pretrained=false", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        "trainer.precision=32-true", "evaluation.bootstrap=20", f"run_dir={folder}/run", "model.network.hidden=null",
    ]  # fmt: skip
    return train(compose(tiny)).run_dir


def test_grades_of_another_scale_are_mapped(graded_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundusnet.evaluation.faithfulness.IMAGES", 2)
    # The other set has four steps; the run's middle one is their 1 and 2, and images of their 3 are left out.
    graded_set(tmp_path / "other", [0, 1, 2, 3] * 4, ("none", "mild", "moderate", "severe"))
    with pytest.raises(UserError, match=r"none, mild, moderate, severe, the run predicts normal, .*grades=\[0,1,2,2\]"):
        elsewhere(graded_run, tmp_path / "other", tmp_path / "out")
    with pytest.raises(UserError, match="needs one number for each of the set's 4"):
        elsewhere(graded_run, tmp_path / "other", tmp_path / "out", "grades=[0,1]")
    with pytest.raises(UserError, match="7 in grades is not 0 to 2"):
        elsewhere(graded_run, tmp_path / "other", tmp_path / "out", "grades=[0,1,1,7]")
    more = ["grades=[0,1,1,null]", "evaluation.faithfulness=true", "evaluation.subgroups=[grade]"]
    folder = elsewhere(graded_run, tmp_path / "other", tmp_path / "out", *more)
    results = metrics(folder)
    assert results["counts"] == {"normal": 4, "suspicious": 8, "glaucoma": 0}
    assert results["metrics"]["recall_glaucoma"]["value"] is None
    assert results["metrics"]["brier_gt_0"]["value"] is not None
    table = pd.read_csv(folder / "predictions.csv")
    assert sorted(set(table["grade"])) == [0, 1] and len(table) == 12
    assert results["faithfulness"]["grade"]["n_images"] == 2
    page = folder / "report.html"
    assert [row["Subgroup"].split(" too ")[0] for row in rows_under(page, "Subgroups")] == ["grade: 0", "grade: 1"]
    assert len(rows_under(page, "Faithfulness of the maps")) > 3
    assert "<h3>Above normal</h3>" in page.read_text() and "<h3>Above suspicious</h3>" in page.read_text()
