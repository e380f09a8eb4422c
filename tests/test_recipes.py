"""Every recommended recipe and baseline, from photographs to metrics, on tiny inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from graded import graded_set
from tiny import tiny_prepared

import fundusnet
from fundusnet.data.features import FeatureStore
from fundusnet.runs.checkpoints import load_checkpoint

TINY = [
    *(
        "data=csv",
        "data.root=gone",
        "data.size=64",
        "data.batch_size=4",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
    ),
    *("evaluation.bootstrap=5", "evaluation.panels=0"),
]
BACKBONE = ["model.network.backbone=test_resnet", "model.network.pretrained=false"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(place: Path, experiment: str, *words: str) -> Path:
    own = [] if experiment.startswith("colors") else BACKBONE
    where = [f"data.folder={place}/prepared", f"run_dir={place}/{experiment}"]
    cfg = fundusnet.compose([f"experiment={experiment}", *TINY, *own, *where, *words])
    return fundusnet.train(cfg).run_dir


@pytest.mark.parametrize("experiment", ["findings", "probe_findings", "colors_findings"])
def test_recipes_of_findings(experiment: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_prepared(place)
    written: list[tuple[int, int]] = []
    write = FeatureStore.write

    def counting(store: FeatureStore, keys: Any, features: Any) -> None:
        written.extend(keys)
        write(store, keys, features)

    monkeypatch.setattr(FeatureStore, "write", counting)
    run = train(place, experiment, "finding=drusen", "data.fractions=[0.6,0.2,0.2]")
    network = load_checkpoint(run / "checkpoints" / "best.ckpt")["hyper_parameters"]["network"]
    assert network["freeze"] == "all"
    views = set(range(7)) if experiment == "findings" else {0}  # baselines see photographs as they are
    assert len(written) == len(set(written)) and {view for _, view in written} == views
    maps = np.load(run / "maps.npz")["map"]
    assert maps.shape[-1] == (1 if experiment == "colors_findings" else 4)  # cells of 16 pixels
    assert "auroc" in json.loads((run / "metrics.json").read_text())["metrics"]
    # What is predicted of an image is what was scored, from its stored features in 16 bits.
    table = pd.read_csv(run / "predictions.csv").set_index("image_id")["probability"]
    raw = {f"image{number:02d}": place / "raw" / f"{number:02d}.png" for number in range(24)}
    predictor = fundusnet.load(run)
    for image_id, expected in table.items():
        found = predictor.predict(raw[str(image_id)])
        assert found.probability["drusen"] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("experiment", ["grading", "probe_grading", "colors_grading"])
def test_recipes_of_grading(experiment: str, place: Path) -> None:
    graded_set(place, [number // 2 % 3 for number in range(36)])
    run = train(place, experiment)
    parameters = load_checkpoint(run / "checkpoints" / "best.ckpt")["hyper_parameters"]
    assert parameters["network"]["freeze"] == "all" and not parameters["flips"]
    pooled = {
        "grading": {
            "pooling": "mean_std_correlation",
            "standardize": "maps",
            "shrink": [1, 2],
            "decision": "most_probable",
        },
        "probe_grading": {"pooling": "mean_std", "standardize": True, "shrink": [1]},  # a baseline stays what it is
        "colors_grading": {"pooling": "mean", "standardize": True, "shrink": [1]},
    }
    assert parameters["network"].items() >= pooled[experiment].items()
    table = pd.read_csv(run / "predictions.csv")
    above = np.c_[np.ones(len(table)), table[["p_gt_0", "p_gt_1"]], np.zeros(len(table))]
    assert table["predicted"].tolist() == (above[:, :-1] - above[:, 1:]).argmax(axis=1).tolist()
    (store,) = (place / "prepared" / "features").iterdir()
    assert {file.name for file in store.iterdir()} == {"0.npy", "filled.npy"}  # once for all sub-classifiers
    views = np.load(store / "filled.npy").sum(axis=0)
    assert (views > 0).tolist() == [True] + [True] * 4 * (experiment == "grading")


def test_two_stages_on_frozen_features(place: Path) -> None:
    graded_set(place, [number // 2 % 3 for number in range(36)])
    run = train(place, "grading_two_stage", "model.stage1.max_epochs=1", "model.stage1.folds=2")
    assert {folder.name for folder in (run / "stages").iterdir() if folder.is_dir()} == {
        "stage1",
        "stage2",
        "fold_0",
        "fold_1",
        "features",
    }
    table = pd.read_csv(run / "predictions.csv")
    assert table["stage1_predicted"].notna().all() and table["p_gt_0"].between(0, 1).all()
    assert table["predicted"].tolist() == (table[["p_gt_0", "p_gt_1"]] > 0.5).sum(axis=1).tolist()
