"""Every metric against scikit-learn, with the weights of a resample, and the reasons of undefined ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as sklearn

from fundusnet.evaluation.intervals import bootstrap
from fundusnet.grading.metrics import (
    auroc_macro,
    confusion_matrix,
    grading_statistics,
    kappa_quadratic,
    recall,
    violation_rate,
)
from fundusnet.grading.ranking import class_probabilities

Floats = NDArray[np.float64]


@pytest.fixture(params=[2, 3, 5])
def graded(request: pytest.FixtureRequest) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Grades of 80 images, predictions that lean towards them, probabilities, and the weights of 6 resamples."""
    classes = request.param
    rng = np.random.default_rng(classes)
    grade = rng.integers(0, classes, 80)
    predicted = np.clip(grade + rng.integers(-1, 2, 80), 0, classes - 1)
    signal = grade[:, None] - np.arange(classes - 1) - 0.5 + rng.normal(0, 1.5, (80, classes - 1))
    p = np.round(1 / (1 + np.exp(-signal)), 2)  # rounded: ties occur
    return grade, predicted, p, rng.integers(0, 4, (6, 80)).astype(np.float64)


def test_against_scikit_learn(graded) -> None:  # type: ignore[no-untyped-def]
    grade, predicted, p, weights = graded
    classes = p.shape[1] + 1
    names = [f"g{k}" for k in range(classes)]
    values = {name: s.compute(weights) for name, s in grading_statistics(grade, predicted, p, names).items()}
    each = class_probabilities(torch.tensor(p)).numpy()
    for r, w in enumerate(weights):
        expected = {
            "accuracy": sklearn.accuracy_score(grade, predicted, sample_weight=w),
            "mae": sklearn.mean_absolute_error(grade, predicted, sample_weight=w),
            "kappa_quadratic": sklearn.cohen_kappa_score(grade, predicted, weights="quadratic", sample_weight=w),
            "auroc_macro": np.mean(
                [sklearn.roc_auc_score(grade == k, each[:, k], sample_weight=w) for k in range(classes)]
            ),
        }
        recalls = sklearn.recall_score(grade, predicted, average=None, sample_weight=w)
        expected |= {f"recall_g{k}": value for k, value in enumerate(recalls)}
        for k in range(classes):
            of_grade, called = grade == k, predicted == k
            undefined = {"sample_weight": w, "zero_division": np.nan}
            expected[f"ppv_g{k}"] = sklearn.precision_score(of_grade, called, **undefined)
            expected[f"npv_g{k}"] = sklearn.precision_score(~of_grade, ~called, **undefined)
            expected[f"f1_g{k}"] = sklearn.f1_score(of_grade, called, **undefined)
        for name, value in expected.items():
            assert values[name][r] == pytest.approx(value, abs=1e-9, nan_ok=True), name
        matrix = confusion_matrix(grade, predicted, classes, weights)[r]
        np.testing.assert_array_equal(matrix, sklearn.confusion_matrix(grade, predicted, sample_weight=w))
    assert set(values) == {*expected, "rank_violations"}


def test_macro_auroc_equals_scikit_learn_one_against_rest() -> None:
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 4, 60)
    p = np.sort(rng.uniform(0, 1, (60, 3)))[:, ::-1]
    value = auroc_macro(grade, p, list("abcd")).compute(np.ones((1, 60)))[0]
    each = class_probabilities(torch.tensor(p.copy())).numpy()
    assert value == pytest.approx(sklearn.roc_auc_score(grade, each, multi_class="ovr", average="macro"))


def test_a_weight_is_a_repetition(graded) -> None:  # type: ignore[no-untyped-def]
    grade, predicted, p, weights = graded
    names = [f"g{k}" for k in range(p.shape[1] + 1)]
    times = weights[0].astype(int)
    once = grading_statistics(grade, predicted, p, names)
    repeated = grading_statistics(
        np.repeat(grade, times), np.repeat(predicted, times), np.repeat(p, times, axis=0), names
    )
    for name in once:
        assert once[name].compute(weights[:1])[0] == pytest.approx(
            repeated[name].compute(np.ones((1, times.sum())))[0]
        ), name


def test_the_papers_rates() -> None:
    """Table 1's rates of the two-stage network fit 75, 41 and 83 images of the grades."""
    right, images = (72, 40, 79), (75, 41, 83)
    grade = np.repeat(np.arange(3), images)
    predicted = np.concatenate(
        [np.where(np.arange(n) < r, k, (k + 1) % 3) for k, (r, n) in enumerate(zip(right, images, strict=True))]
    )
    p = np.stack([predicted > 0, predicted > 1], axis=1) * 0.9
    statistics = grading_statistics(grade, predicted, p, ["normal", "suspicious", "glaucoma"])
    percent = {name: 100 * s.compute(np.ones((1, 199)))[0] for name, s in statistics.items()}
    assert percent["recall_normal"] == pytest.approx(96.00, abs=0.005)
    assert percent["recall_suspicious"] == pytest.approx(97.56, abs=0.005)
    assert percent["recall_glaucoma"] == pytest.approx(95.18, abs=0.005)
    assert percent["accuracy"] == pytest.approx(95.98, abs=0.005)


def test_violations() -> None:
    p = [[0.9, 0.1], [0.1, 0.9], [0.2, 0.3], [0.4, 0.6]]
    assert violation_rate(p).compute(np.array([[1, 1, 1, 1], [3, 1, 0, 0.0]])).tolist() == [0.5, 0.25]


def test_undefined_metrics_have_reasons() -> None:
    grade, predicted, p = [0, 0, 1, 1], [0, 1, 1, 1], [[0.1, 0.0], [0.8, 0.1], [0.6, 0.2], [0.9, 0.3]]
    statistics = grading_statistics(grade, predicted, p, ["normal", "suspicious", "glaucoma"])
    entries = {name: bootstrap(s, list("abcd"), n=50).as_metric() for name, s in statistics.items()}
    assert entries["recall_glaucoma"]["value"] is None
    assert entries["recall_glaucoma"]["reason"] == "no images of grade glaucoma"
    assert entries["auroc_macro"]["value"] is None
    assert entries["auroc_macro"]["reason"] == "no images of grade glaucoma"
    assert entries["accuracy"]["value"] == 0.75
    assert entries["accuracy"]["unreliable"]
    numbers = [x for e in entries.values() for x in (e["value"], *e["ci95"]) if x is not None]  # type: ignore[misc]
    assert not any(math.isnan(x) for x in numbers)


def test_kappa_of_a_single_grade_is_undefined() -> None:
    assert np.isnan(kappa_quadratic([1, 1, 1], [1, 1, 1], 3).compute(np.ones((1, 3)))[0])
    assert bootstrap(kappa_quadratic([1, 1, 1], [1, 1, 1], 3), [1, 2, 3]).value is None
    # All right, over two grades: full agreement.
    assert kappa_quadratic([0, 1, 1], [0, 1, 1], 3).compute(np.ones((1, 3)))[0] == 1
    # A resample that misses a grade is told from one that has it.
    values = recall([0, 0, 1], [0, 1, 1], 1, "b").compute(np.array([[1, 1, 1], [2, 1, 0.0]]))
    assert values[0] == 1 and np.isnan(values[1])


def test_a_resample_without_a_grade_has_no_macro_auroc() -> None:
    p = [[0.1, 0.0], [0.8, 0.1], [0.6, 0.2], [0.9, 0.7]]
    values = auroc_macro([0, 0, 1, 2], p, list("abc")).compute(np.array([[1, 1, 1, 1], [2, 1, 1, 0.0]]))
    assert np.isfinite(values[0]) and np.isnan(values[1])


def test_confusion_matrix_has_the_truth_in_its_rows() -> None:
    assert confusion_matrix([0, 0, 2], [0, 1, 1], 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]
