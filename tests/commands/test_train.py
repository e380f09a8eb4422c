"""One training from nothing to a scored run folder, on drawn pictures small enough for a minute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fundusnet import compose, evaluate, train
from fundusnet.commands.prepare import prepare_once
from fundusnet.errors import UserError

TINY = [
    "experiment=quickstart",
    "data.size=64",
    "data.options.images=60",
    "data.workers=0",
    "data.batch_size=8",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "model.network.width=4",
    "model.loss.warmup_epochs=2",
    "model.network.pyramid_width=4",
    "evaluation.bootstrap=50",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    cfg = compose([*TINY, f"data.root={place}/eyes", f"data.folder={place}/prepared", f"run_dir={place}/run"])
    return train(cfg).run_dir


def test_the_run_folder_holds_what_others_rely_on(run: Path) -> None:
    names = ("config.yaml", "history.csv", "predictions.csv", "metrics.json", "status.json", "report.html")
    assert [name for name in names if not (run / name).is_file()] == []
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "findings" and metrics["split"] == "test"
    assert {"air_tp", "cue_fraction", "lift_tp", "lesion_energy"} < set(metrics["metrics"])
    table = pd.read_csv(run / "predictions.csv")
    present = table["label"] == 1
    for name, expected in (
        ("auroc", roc_auc_score(table["label"], table["probability"])),
        ("sensitivity", table.loc[present, "predicted"].mean()),
        ("specificity", 1 - table.loc[~present, "predicted"].mean()),
        ("air_tp", table.loc[present & (table["predicted"] == 1), "air"].mean()),
    ):
        value = metrics["metrics"][name]["value"]
        assert np.isnan(expected) if value is None else value == pytest.approx(expected)
    assert "NaN" not in (run / "metrics.json").read_text()


def test_the_two_loss_terms_are_kept_apart(run: Path) -> None:
    history = pd.read_csv(run / "history.csv")
    assert len(history) == 2
    # A warm-up of two epochs to a weight of 2; validation always uses the whole weight.
    for epoch, weight in enumerate((0, 1)):
        row = history.iloc[epoch]
        assert row["train/loss"] == pytest.approx(
            row["train/classification"] + weight * row["train/guidance"], rel=1e-4
        )
        assert row["val/loss"] == pytest.approx(row["val/classification"] + 2 * row["val/guidance"], rel=1e-4)


def test_the_checkpoint_holds_plain_values_and_what_prediction_needs(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    stored = content["fundusnet"]
    assert stored["findings"] == ["hard_exudate"] and stored["size"] == 64
    assert 0 <= stored["operating_points"]["hard_exudate"] <= 1


def test_the_operating_point_is_chosen_on_validation(run: Path) -> None:
    from fundusnet.evaluation import operating_point

    validation = pd.read_csv(run / "predictions_val.csv").dropna(subset=["label"])
    expected = operating_point(validation["label"].to_numpy(), validation["probability"].to_numpy()).threshold
    predictions = pd.read_csv(run / "predictions.csv")
    np.testing.assert_array_equal(predictions["predicted"], (predictions["probability"] >= expected).astype(int))


def test_no_patient_stands_in_two_splits(run: Path) -> None:
    test, val = (set(pd.read_csv(run / name)["patient_id"]) for name in ("predictions.csv", "predictions_val.csv"))
    assert test and val and not test & val


def test_a_finished_run_is_never_overwritten(run: Path) -> None:
    with pytest.raises(UserError, match="already holds a run"):
        train(compose([*TINY, f"run_dir={run}"]))


def test_scoring_a_run_again_gives_the_same_metrics(run: Path, tmp_path: Path) -> None:
    folder = evaluate(
        compose([f"run={run}", "split=test", f"output={tmp_path}/again", "evaluation.bootstrap=50"], "evaluate")
    )
    first, again = (json.loads((place / "metrics.json").read_text()) for place in (run, folder))
    assert again == first


def test_a_set_of_another_size_is_said_before_anything_is_fitted(run: Path, place: Path) -> None:
    cfg = compose([*TINY, "data.size=128", f"data.root={place}/eyes", f"data.folder={place}/prepared"])
    with pytest.raises(UserError, match=r"holds pictures of 64 pixels, and data.size=128; use data.size=64"):
        prepare_once(cfg)
