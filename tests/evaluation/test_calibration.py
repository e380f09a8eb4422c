"""Calibration against scikit-learn and SciPy, worked examples, and probabilities calibrated by construction."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from fundusnet.evaluation import calibration, intervals
from fundusnet.evaluation.intervals import Statistic

Floats = NDArray[np.float64]


def right(images: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Labels drawn with just the probabilities that stand beside them."""
    generator = np.random.default_rng(seed)
    p = expit(generator.normal(-0.5, 1.5, images))
    return (generator.random(images) < p).astype(np.float64), p


def whole(statistic: Statistic, images: int) -> float:
    return float(statistic.compute(np.ones((1, images)))[0])


def test_the_temperature_is_that_of_a_logistic_regression_without_intercept() -> None:
    label, p = right(400)
    found = calibration.fit_temperature(label, expit(2 * logit(p)))
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(2 * logit(p)[:, None], label)
    assert found.value == pytest.approx(1 / regression.coef_[0, 0], rel=1e-4)
    assert found.value == pytest.approx(2, rel=0.2)


def test_a_temperature_undoes_the_scaling_of_logits() -> None:
    p = np.array([0.02, 0.4, 0.5, 0.97])
    np.testing.assert_allclose(calibration.at_temperature(expit(2.5 * logit(p)), 2.5), p, rtol=1e-4)
    np.testing.assert_array_equal(calibration.at_temperature([0.5, 0.2], 1.7)[0], 0.5)
    assert np.isfinite(calibration.at_temperature([0.0, 1.0], 0.5)).all()
    assert np.isnan(calibration.at_temperature([0.5], None)).all()


def test_undecided_images_do_not_change_the_temperature() -> None:
    label, p = right(200)
    more = np.r_[label, np.full(50, np.nan)], np.r_[p, np.full(50, 0.999)]
    assert calibration.fit_temperature(*more) == calibration.fit_temperature(label, p)


@pytest.mark.parametrize(
    ("label", "p", "reason"),
    [
        ([1, 1, np.nan], [0.3, 0.6, 0.2], "no absent image"),
        ([0, 0], [0.3, 0.6], "no present image"),
        ([0, 1, 0, 1], [0.1, 0.7, 0.2, 0.6], "without an error"),
    ],
)
def test_where_no_temperature_fits_the_reason_is_given(label: list[float], p: list[float], reason: str) -> None:
    found = calibration.fit_temperature(label, p)
    assert found.value is None and reason in found.reason


def test_brier_equals_scikit_learn() -> None:
    label, p = right(100)
    known = np.r_[label, np.nan]
    assert whole(calibration.brier(known, np.r_[p, 0.5]), 101) == pytest.approx(brier_score_loss(label, p))
    assert whole(calibration.mean_gap([1, 0, np.nan], [0.9, 0.3, 0.7]), 3) == pytest.approx((-0.1 + 0.3) / 2)


def test_bins_are_those_of_scikit_learn() -> None:
    label, p = right(237)
    observed, mean = calibration_curve(label, p, n_bins=10, strategy="quantile")
    curve = calibration.reliability_curve(label, p, np.arange(237), n=50)
    np.testing.assert_allclose(curve["observed"], observed, atol=1e-5)
    np.testing.assert_allclose(curve["probability"], mean, atol=1e-5)
    assert sum(curve["images"]) == 237 and max(curve["images"]) - min(curve["images"]) <= 1
    shares = np.array(curve["images"]) / 237
    expected = float((shares * np.abs(observed - mean)).sum())
    assert whole(calibration.expected_error(label, p), 237) == pytest.approx(expected)
    squares = float((shares * (observed - mean) ** 2).sum())
    assert whole(calibration.squared_error(label, p), 237) == pytest.approx(squares)


def test_ties_and_few_images_make_fewer_bins() -> None:
    assert set(calibration.equal_mass_bins([0.5] * 40)) == {0}
    assert set(calibration.equal_mass_bins(np.linspace(0, 1, 35))) == {0, 1, 2}
    assert set(calibration.equal_mass_bins([0.1, 0.9])) == {0}
    assert set(calibration.equal_mass_bins([0.2] * 110 + [0.8] * 90)) == {0, 1}
    np.testing.assert_array_equal(calibration.equal_mass_bins([0.1] * 30 + [0.9] * 10), [0] * 30 + [1] * 10)


def test_an_error_worked_by_hand() -> None:
    # Two bins of ten: 0.2 said and 0.4 seen, 0.8 said and 0.7 seen.
    p = np.repeat([0.2, 0.8], 10)
    label = np.r_[np.ones(4), np.zeros(6), np.ones(7), np.zeros(3)]
    statistic, square = calibration.expected_error(label, p), calibration.squared_error(label, p)
    assert whole(statistic, 20) == pytest.approx((0.2 + 0.1) / 2)
    assert whole(square, 20) == pytest.approx((0.04 + 0.01) / 2)
    weights = np.r_[np.full(10, 3.0), np.ones(10)][None]
    assert statistic.compute(weights)[0] == pytest.approx((3 * 0.2 + 0.1) / 4)
    assert square.compute(weights)[0] == pytest.approx((3 * 0.04 + 0.01) / 4)


def test_the_error_of_a_calibrated_model_is_zero_up_to_noise() -> None:
    squares, covered = [], 0
    for seed in range(40):
        label, p = right(300, seed)
        interval = intervals.bootstrap(calibration.squared_error(label, p), np.arange(300), n=200)
        draws = np.random.default_rng(seed).multinomial(300, np.full(300, 1 / 300), size=200).astype(float)
        statistic = calibration.squared_error(label, p)
        squares.append((whole(statistic, 300), 2 * whole(statistic, 300) - statistic.compute(draws).mean()))
        covered += interval.low == 0
    plain, debiased = np.mean(squares, axis=0)
    assert plain > 5 * abs(debiased)
    assert covered >= 36
    wrong = intervals.bootstrap(calibration.squared_error(label, p**3), np.arange(300), n=200)
    assert wrong.low is not None and wrong.low > 0.1


def test_a_known_error_is_found_without_the_noise() -> None:
    # Always 0.15 too sure, on either side: the root mean square is 0.15, whatever the noise adds.
    found = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        p = np.where(generator.random(200) < 0.5, 0.2, 0.8)
        label = (generator.random(200) < np.where(p < 0.5, p + 0.15, p - 0.15)).astype(float)
        found.append(intervals.bootstrap(calibration.squared_error(label, p), np.arange(200), n=200).value)
    assert np.mean(found) == pytest.approx(0.15, abs=0.01)


def test_the_noise_is_subtracted_over_seeds_as_over_patients() -> None:
    label, p = right(200)
    statistic = calibration.squared_error(label, p)
    pooled = intervals.pooled([statistic, statistic], [np.arange(200)] * 2, n=200)
    assert pooled.value is not None and 0 <= pooled.value < whole(statistic, 200) ** 0.5
    alone = intervals.bootstrap(statistic, np.zeros(200), n=20)
    assert alone.low is None and alone.value == pytest.approx(whole(statistic, 200) ** 0.5)


def test_means_of_many_columns_equal_those_of_each_column() -> None:
    generator = np.random.default_rng(0)
    patients = generator.integers(0, 25, 80)
    values, among = generator.random((80, 3)), generator.random((80, 3)) < 0.6
    among[:, 2] = False
    mean, low, high = intervals.bootstrap_means(values, among, patients, n=300)
    for column in range(2):
        one = intervals.bootstrap(intervals.mean(values[:, column], among[:, column], "some"), patients, n=300)
        np.testing.assert_allclose([mean[column], low[column], high[column]], [one.value, one.low, one.high])
    assert np.isnan([mean[2], low[2], high[2]]).all()


def test_patients_widen_the_intervals_of_the_curve() -> None:
    label, p = right(60)
    twice = np.tile(label, 4), np.tile(p, 4)
    alone = calibration.reliability_curve(*twice, np.arange(240), n=400)
    clustered = calibration.reliability_curve(*twice, np.tile(np.arange(60), 4), n=400)
    assert clustered["observed"] == alone["observed"]
    width = [np.nanmean(np.subtract(curve["high"], curve["low"])) for curve in (alone, clustered)]
    assert width[1] > 1.5 * width[0]


def test_without_decided_images_there_is_no_curve_and_no_value() -> None:
    label = np.full(5, np.nan)
    assert calibration.reliability_curve(label, np.full(5, 0.5), np.arange(5))["images"] == []
    missing = intervals.bootstrap(calibration.squared_error(label, np.full(5, 0.5)), np.arange(5), n=20)
    assert missing.value is None and missing.reason == "no decided images"
    assert calibration.reliability_figure({"raw": calibration.reliability_curve([1.0], [0.5], ["a"], n=5)}).axes
