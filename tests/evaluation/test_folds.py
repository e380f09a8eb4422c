"""Cross-validation from the sweep to the report: each image tested once, one table over all folds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from graded import graded_set
from pages import row_of
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score
from tiny_runs import tiny_overrides, tiny_place

from fundusnet.cli.main import main
from fundusnet.evaluation.folds import join_folds
from fundusnet.evaluation.runs import read_runs
from fundusnet.findings.statistics import FINDINGS
from fundusnet.grading.statistics import GRADING


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The runs of a cross-validation in three folds."""
    torch.set_num_threads(1)
    place = tiny_place(tmp_path_factory.mktemp("folds"))
    words = [*tiny_overrides(place), "sweep=folds", "data.folds=3", "data.fold=0,1,2", "evaluation.panels=1"]
    assert main(["train", "-m", *words, "data.fractions=[0.6,0.2,0.2]", f"hydra.sweep.dir={place}/sweep"]) == 0
    return sorted(place.glob("sweep/*/metrics.json"))


def test_every_image_is_predicted_once(findings: list[Path]) -> None:
    tables = [pd.read_csv(file.with_name("predictions.csv")) for file in findings]
    images = pd.concat(tables)["image_id"]
    assert len(findings) == 3 and images.is_unique and len(images) == 23  # one image is examined for nothing
    patients = [set(table["patient_id"]) for table in tables]
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_the_folds_are_one_run_over_all_images(findings: list[Path], tmp_path: Path) -> None:
    folders = [file.parent for file in findings]
    (whole,) = join_folds(read_runs(folders, FINDINGS), n=50)
    rows = pd.concat([pd.read_csv(folder / "predictions.csv") for folder in folders])
    metrics = whole.results["metrics"]
    assert metrics["auroc"]["value"] == pytest.approx(roc_auc_score(rows["label"], rows["probability"]))
    low, high = metrics["auroc"]["ci95"]
    assert low < metrics["auroc"]["value"] < high
    assert metrics["brier"]["value"] == pytest.approx(((rows["probability"] - rows["label"]) ** 2).mean())
    assert whole.results["n_images"] == len(rows)
    assert whole.label == "drusen λ=1, 3 folds"
    assert whole.results["counts"]["drusen"]["n_present"] == int(rows["label"].sum())
    assert set(whole.stored_maps("maps.npz", "map")) == set(rows["image_id"])
    page = tmp_path / "report.html"
    assert main(["report", f"runs=[{','.join(map(str, folders))}]", f"output={page}"]) == 0
    (shown,) = list(row_of(page, "Drusen", "AUROC").values())[1:]
    assert shown.startswith(f"{metrics['auroc']['value']:.3f} ")
    assert f"{len(rows)} images of" in page.read_text()


def test_missing_folds_are_named(findings: list[Path]) -> None:
    (part,) = join_folds(read_runs([file.parent for file in findings[:2]], FINDINGS), n=20)
    assert part.results["split"] == "test, 2 of 3 folds"
    (single,) = join_folds(read_runs([findings[0].parent], FINDINGS))
    assert single.results == json.loads(findings[0].read_text())


def test_other_settings_are_other_studies(findings: list[Path]) -> None:
    runs = read_runs([file.parent for file in findings], FINDINGS)
    runs[1].config["seed"] = 7
    assert [len(run.parts) for run in join_folds(runs, n=20)] == [2, 0]


def test_grades_of_all_folds(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    graded_set(tmp_path, [number // 2 % 3 for number in range(36)])
    words = [
        "experiment=paper_grading_ranking", "data=csv", "data.root=gone",
        f"data.folder={tmp_path}/prepared", "data.size=64",
        "data.num_workers=0", "data.batch_size=8", "model.network.backbone=test_resnet", "model.network.hidden=8",
        "model.network.pretrained=false", "model.head=multiclass", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        "trainer.precision=32-true", "evaluation.bootstrap=5", "data.folds=2", "data.fold=0,1",
        "data.fractions=[0.6,0.2,0.2]", f"hydra.sweep.dir={tmp_path}/sweep",
    ]  # fmt: skip
    assert main(["train", "-m", *words]) == 0
    folders = sorted(file.parent for file in tmp_path.glob("sweep/*/metrics.json"))
    (whole,) = join_folds(read_runs(folders, GRADING), n=20)
    rows = pd.concat([pd.read_csv(folder / "predictions.csv") for folder in folders])
    assert len(rows) == 36 and rows["image_id"].is_unique
    assert whole.results["metrics"]["accuracy"]["value"] == accuracy_score(rows["grade"], rows["predicted"])
    np.testing.assert_array_equal(whole.results["confusion"], confusion_matrix(rows["grade"], rows["predicted"]))
    assert main(["report", f"runs={tmp_path}/sweep", f"output={tmp_path}/page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Discrimination</h2>" in page, "all folds have curves, though none is calibrated with the others"
    for above in whole.results["classes"][:-1]:
        assert f'alt="ROC curve of Above {above}"' in page and f'alt="Precision-recall curve of Above {above}"' in page
