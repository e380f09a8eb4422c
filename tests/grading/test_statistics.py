"""The numbers of S2.6, against scikit-learn and worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, confusion_matrix, recall_score, roc_auc_score

from fundusnet.grading.statistics import grading_metrics, read_grades, run_statistics

CLASSES = ("normal", "suspicious", "glaucoma")


def table(grade: list[int], predicted: list[int], p: list[list[float]], patients: list[str] | None = None) -> Any:
    return pd.DataFrame(
        {
            "image_id": [str(i) for i in range(len(grade))],
            "patient_id": patients or [""] * len(grade),
            "grade": grade,
            "predicted": predicted,
            "stage1_predicted": float("nan"),
            **{f"p_gt_{k}": [row[k] for row in p] for k in range(len(p[0]))},
        }
    )


@pytest.fixture
def predictions() -> pd.DataFrame:
    grade, predicted = [0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 2, 2, 2, 0]
    p = [[0.1, 0.0], [0.2, 0.1], [0.7, 0.2], [0.9, 0.3], [0.8, 0.6], [0.9, 0.8], [0.7, 0.6], [0.4, 0.6]]
    return table(grade, predicted, p, ["a", "a", "b", "b", "c", "c", "d", ""])


def values(document: dict[str, Any]) -> dict[str, float | None]:
    return {name: entry["value"] for name, entry in document["metrics"].items()}


def test_worked_by_hand(predictions: pd.DataFrame) -> None:
    document: dict[str, Any] = grading_metrics(predictions, CLASSES, n=50)
    found = values(document)
    assert found["accuracy"] == 5 / 8
    assert found["recall_normal"] == pytest.approx(2 / 3)
    assert found["recall_suspicious"] == 1 / 2
    assert found["recall_glaucoma"] == pytest.approx(2 / 3)
    assert found["mae"] == pytest.approx((1 + 1 + 2) / 8)
    assert found["rank_violations"] == 1 / 8  # the last one: no to "grade > 0", yes to "grade > 1"
    assert document["confusion"] == [[2, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert document["counts"] == {"normal": 3, "suspicious": 2, "glaucoma": 3}
    assert (document["n_images"], document["n_patients"]) == (8, 5)
    assert "stage1_accuracy" not in document["metrics"]
    json.dumps(document, allow_nan=False)


@given(data=st.data(), classes=st.integers(2, 5), size=st.integers(6, 40))
@settings(max_examples=60, deadline=None)
def test_equal_to_scikit_learn(data: st.DataObject, classes: int, size: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    grade = np.r_[np.arange(classes), rng.integers(0, classes, size)]
    predicted = np.r_[np.arange(classes)[::-1], rng.integers(0, classes, size)]
    # Falling thresholds: their differences are the softmax they were made of.
    softmax = rng.dirichlet(np.ones(classes), len(grade))
    p = softmax[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    names = [str(k) for k in range(classes)]
    rows = table(grade.tolist(), predicted.tolist(), p.tolist())
    once = np.ones((1, len(grade)))
    found = {name: statistic.compute(once)[0] for name, statistic in run_statistics(rows, names).items()}
    assert found["kappa_quadratic"] == pytest.approx(cohen_kappa_score(grade, predicted, weights="quadratic"))
    assert [found[f"recall_{name}"] for name in names] == pytest.approx(recall_score(grade, predicted, average=None))
    scores, options = (softmax[:, 1], {}) if classes == 2 else (softmax, {"multi_class": "ovr", "average": "macro"})
    assert found["auroc_macro"] == pytest.approx(roc_auc_score(grade, scores, **options))
    document = grading_metrics(rows, names, n=2)
    assert document["confusion"] == confusion_matrix(grade, predicted).tolist()
    assert found["rank_violations"] == 0


def test_weights_are_repeated_images(predictions: pd.DataFrame) -> None:
    """A resample in which an image was drawn three times is the table in which it stands three times."""
    weights = np.array([[1, 0, 3, 1, 2, 1, 0, 2]])
    repeated = predictions.loc[np.repeat(predictions.index, weights[0])].reset_index(drop=True)
    once = run_statistics(repeated, CLASSES)
    for name, statistic in run_statistics(predictions, CLASSES).items():
        expected = once[name].compute(np.ones((1, len(repeated))))
        assert statistic.compute(weights.astype(float)) == pytest.approx(expected), name


def test_a_grade_without_images_gives_a_reason(predictions: pd.DataFrame) -> None:
    metrics: Any = grading_metrics(predictions[predictions["grade"] != 1], CLASSES, n=20)["metrics"]
    assert metrics["recall_suspicious"]["value"] is None
    assert metrics["recall_suspicious"]["reason"] == "no images of grade suspicious"
    assert metrics["auroc_macro"]["value"] is None
    assert metrics["accuracy"]["value"] is not None


def test_one_grade_everywhere_leaves_kappa_undefined() -> None:
    metrics: Any = grading_metrics(table([0, 0], [0, 0], [[0.1], [0.2]]), ("no", "yes"), n=20)["metrics"]
    assert metrics["kappa_quadratic"]["value"] is None


def test_patients_and_not_images_are_drawn(predictions: pd.DataFrame) -> None:
    """Eight copies of an eye are one observation: the interval is that of the few patients."""
    many = pd.concat([predictions] * 8, ignore_index=True)
    few: Any = grading_metrics(predictions.assign(patient_id=[*"aabbccdd"]), CLASSES, n=500)["metrics"]
    same: Any = grading_metrics(many.assign(patient_id=[*"aabbccdd"] * 8), CLASSES, n=500)["metrics"]
    assert same["accuracy"]["ci95"] == pytest.approx(few["accuracy"]["ci95"])


def test_the_grade_of_the_first_stage_is_scored_too(predictions: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    predictions.assign(stage1_predicted=[0, 0, 0, 1, 1, 2, 2, 0], patient_id=["007"] * 8).to_csv(path, index=False)
    read = read_grades(path)["grade"]
    assert list(read["patient_id"]) == ["007"] * 8
    assert values(grading_metrics(read, CLASSES, n=20))["stage1_accuracy"] == 7 / 8
