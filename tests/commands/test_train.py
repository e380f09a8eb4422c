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
from fundusnet.commands.train import headline
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


def test_it_begins_with_counts_and_ends_with_the_main_figures(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = [*TINY, "trainer.max_epochs=1", f"data.root={place}/eyes", f"data.folder={place}/prepared"]
    with caplog.at_level("INFO", "fundusnet"):
        result = train(compose([*words, f"run_dir={place}/said"]))
    said = caplog.messages
    start = next(at for at, line in enumerate(said) if line.split() == ["train", "val", "test"])
    counts = {" ".join(words[:-3]): list(map(int, words[-3:])) for words in map(str.split, said[start + 1 : start + 5])}
    table = pd.read_csv(result.run_dir / "predictions.csv")
    assert counts["photographs"][2] == len(table) and counts["patients"][2] == table["patient_id"].nunique()
    assert counts["hard_exudate"][2] == (table["label"] == 1).sum()
    assert counts["no hard_exudate"][2] == (table["label"] == 0).sum()
    assert next(at for at, line in enumerate(said) if line.startswith("epoch 1 of 1")) > start
    assert said[-1] == f"report: {result.run_dir / 'report.html'}"
    auroc = result.metrics["metrics"]["auroc"]  # type: ignore[index]
    figures = next(line for line in said if line.startswith(f"hard_exudate, {len(table)} test photographs: "))
    assert f": AUROC {auroc['value']:.2f} (" in figures
    assert "Sensitivity" in figures and "Specificity" in figures


def test_the_figures_of_several_findings_and_of_grades() -> None:
    def entry(value: float | None) -> dict[str, object]:
        return {"value": value, "ci95": [0.1, 0.9]}

    several = {f"{name}/auroc": entry(0.5 if name == "a" else None) for name in "ab"}
    found = {"findings": ["a", "b"], "n_images": 7, "split": "test", "metrics": several}
    assert headline(found, str.upper) == [
        "a, 7 test photographs: AUROC 0.50 (0.10 to 0.90)",
        "b, 7 test photographs: AUROC undefined",
    ]
    graded = {"n_images": 7, "split": "test", "metrics": {"accuracy": entry(0.75), "kappa_quadratic": entry(0.5)}}
    said = "grade, 7 test photographs: KAPPA_QUADRATIC 0.50 (0.10 to 0.90), ACCURACY 0.75 (0.10 to 0.90)"
    assert headline(graded, str.upper) == [said]
    graded["metrics"] = {"accuracy": entry(0.75) | {"unreliable": True}}
    said = "grade, 7 test photographs: ACCURACY 0.75 (0.10 to 0.90) †"
    assert headline(graded, str.upper) == [
        said,
        "† unreliable: from fewer than 10 patients, or the same in all resamples",
    ]


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
