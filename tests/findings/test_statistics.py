"""The numbers of Table 1, worked by hand on seven images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fundusnet.errors import UserError
from fundusnet.findings.statistics import (
    METRIC_NAMES,
    findings_metrics,
    operating_points,
    read_findings,
    with_predicted,
)

NAN = float("nan")


@pytest.fixture
def predictions() -> pd.DataFrame:
    columns = [
        "image_id",
        "patient_id",
        "label",
        "probability",
        "predicted",
        "air",
        "cue_fraction",
        "pointing_hit",
    ]
    rows = [
        ("1", "a", 1, 0.9, 1, 0.8, 0.2, 1),
        ("2", "a", 1, 0.8, 1, 0.4, 0.1, 0),
        ("3", "b", 1, 0.3, 0, 0.5, 0.3, 1),
        ("4", "b", 1, 0.7, 1, NAN, NAN, NAN),  # present, nobody said where
        ("5", "c", 0, 0.6, 1, NAN, 0.0, NAN),
        ("6", "", 0, 0.2, 0, NAN, 0.0, NAN),
        ("7", "", NAN, 0.5, 0, NAN, NAN, NAN),  # undecided
    ]
    return pd.DataFrame(rows, columns=columns).assign(finding="hemorrhage")


def test_worked_by_hand(predictions: pd.DataFrame) -> None:
    document = findings_metrics(predictions, n=50)
    metrics = document["metrics"]
    assert isinstance(metrics, dict)
    values = {name: metrics[name]["value"] for name in METRIC_NAMES}
    assert values == {
        "auroc": pytest.approx(7 / 8),
        "sensitivity": 0.75,
        "specificity": 0.5,
        "ppv": 0.75,  # three of four that are predicted present; the undecided one does not count
        "npv": 0.5,
        "f1": 0.75,
        "air_tp": pytest.approx(0.6),  # images 1 and 2; image 4 has no cue
        "air_fn": pytest.approx(0.5),
        "cue_fraction": pytest.approx(0.2),
        "lift_tp": pytest.approx(0.6 / 0.15),
        "pointing_game": pytest.approx(2 / 3),
        "lesion_energy": None,
        "region_auroc": None,  # no image has known regions
        "region_auroc_present": None,
        "region_sensitivity": None,
        "region_specificity": None,
    }
    assert metrics["lesion_energy"]["reason"] == "no present images with lesion pixels"
    assert metrics["region_sensitivity"]["reason"] == "no marked regions"
    assert document["regions"] == {"hemorrhage": {}}
    assert metrics["auroc"]["unreliable"] is True
    assert document["counts"] == {"hemorrhage": {"n_present": 4, "n_absent": 2, "n_undecided": 1, "n_without_cue": 1}}
    # Patients a, b, c, and two images of unknown patients, each on its own.
    assert (document["n_images"], document["n_patients"], document["n_without_patient"]) == (7, 5, 2)
    json.dumps(document, allow_nan=False)


def test_several_findings_prefix_their_names(predictions: pd.DataFrame) -> None:
    both = pd.concat([predictions, predictions.assign(finding="drusen")])
    metrics = findings_metrics(both, n=20)["metrics"]
    assert isinstance(metrics, dict)
    assert set(metrics) == {f"{finding}/{name}" for finding in ("hemorrhage", "drusen") for name in METRIC_NAMES}
    assert metrics["drusen/auroc"] == metrics["hemorrhage/auroc"]


def test_predicted_is_inclusive_at_the_threshold(predictions: pd.DataFrame) -> None:
    assert list(with_predicted(predictions, {"hemorrhage": 0.7})["predicted"]) == [1, 1, 0, 1, 0, 0, 0]


def test_operating_points_name_the_finding_that_has_one_class(predictions: pd.DataFrame) -> None:
    assert operating_points(predictions)["hemorrhage"].threshold == 0.7
    with pytest.raises(UserError, match="hemorrhage"):
        operating_points(predictions[predictions["label"] == 1])


def test_a_written_table_reads_back(predictions: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    written = predictions.assign(patient_id=["007", "007", "NA", "1", "2", "", ""])
    written.to_csv(path, index=False)
    table = read_findings(path)["hemorrhage"]
    assert list(table["patient_id"]) == list(written["patient_id"])
    assert np.allclose(table["air"], predictions["air"], equal_nan=True)


@pytest.mark.parametrize(("text", "cause"), [("image_id\n1\n", "lacks"), (None, "missing")])
def test_a_table_that_cannot_be_used_is_refused(text: str | None, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=cause):
        read_findings(path)
