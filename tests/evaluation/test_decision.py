"""Net benefit by hand, and partial ROC curves against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from fundusnet.evaluation import decision, intervals
from fundusnet.evaluation.intervals import Statistic

Floats = NDArray[np.float64]


def scored(images: int = 300, seed: int = 0, steps: int = 0) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    label = (generator.random(images) < 0.4).astype(np.float64)
    p = 1 / (1 + np.exp(-(1.5 * label - 1 + generator.normal(size=images))))
    return label, np.round(p * steps) / steps if steps else p


def whole(statistic: Statistic, images: int) -> float:
    return float(statistic.compute(np.ones((1, images)))[0])


def test_net_benefit_by_hand() -> None:
    # At 0.25 a false positive costs a third: 2 found, 1 false alarm, of 5 images.
    label, p = [1, 1, 0, 0, 1, np.nan], [0.9, 0.25, 0.6, 0.1, 0.2, 0.9]
    assert whole(decision.net_benefit(label, p, 0.25), 6) == pytest.approx((2 - 1 / 3) / 5)
    curve = decision.decision_curve(label, p, np.arange(6), n=50)
    at = curve["threshold"].index(0.5)
    assert curve["model"][at] == pytest.approx((1 - 1) / 5, abs=1e-5)
    assert curve["all"][at] == pytest.approx(3 / 5 - 2 / 5, abs=1e-5)
    assert curve["low"][at] <= curve["model"][at] <= curve["high"][at]


def test_treating_all_and_none_are_limits_of_the_model() -> None:
    label, _ = scored()
    assert decision.decision_curve(label, np.ones(300), np.arange(300), n=10)["model"] == pytest.approx(
        decision.decision_curve(label, np.ones(300), np.arange(300), n=10)["all"]
    )
    assert set(decision.decision_curve(label, np.zeros(300), np.arange(300), n=10)["model"]) == {0.0}


@pytest.mark.parametrize("steps", [0, 12])
@pytest.mark.parametrize("seed", range(4))
def test_the_partial_area_equals_scikit_learn(steps: int, seed: int) -> None:
    label, p = scored(seed=seed, steps=steps)
    expected = roc_auc_score(label, p, max_fpr=0.1)
    assert whole(decision.partial_auroc(label, p), 300) == pytest.approx(expected)
    undecided = decision.partial_auroc(np.r_[label, np.nan], np.r_[p, 0.99])
    assert whole(undecided, 301) == pytest.approx(expected)


def test_a_weight_equals_repeated_images() -> None:
    label, p = scored(40, steps=15)
    weights = np.random.default_rng(0).integers(0, 4, 40)
    again = np.repeat(np.arange(40), weights)
    for make in (decision.partial_auroc, lambda y, s: decision.roc_sensitivity(y, s, 0.85)):
        repeated = whole(make(label[again], p[again]), len(again))
        assert make(label, p).compute(weights[None].astype(float))[0] == pytest.approx(repeated)


@pytest.mark.parametrize("specificity", [0.85, 0.95])
@pytest.mark.parametrize("steps", [0, 12])
def test_the_sensitivity_read_off_the_curve(specificity: float, steps: int) -> None:
    label, p = scored(steps=steps)
    false_alarms, hits, _ = roc_curve(label, p, drop_intermediate=False)
    expected = hits[false_alarms <= 1 - specificity + 1e-9].max()
    assert whole(decision.roc_sensitivity(label, p, specificity), 300) == pytest.approx(expected)


@pytest.mark.parametrize("specificity", [0.85, 0.95])
def test_a_threshold_holds_its_specificity_and_a_lower_one_does_not(specificity: float) -> None:
    label, p = scored(seed=3)
    threshold = decision.threshold_at_specificity(label, p, specificity)
    assert threshold is not None
    absent, lower = p[label == 0], p[p < threshold].max()
    assert (absent < threshold).mean() >= specificity > (absent < lower).mean()
    assert whole(decision.specificity_at(label, p, threshold), 300) == (absent < threshold).mean()
    # Where it was chosen it yields what is read off the curve.
    read = whole(decision.roc_sensitivity(label, p, specificity), 300)
    assert whole(decision.sensitivity_at(label, p, threshold), 300) == read


def test_thresholds_at_the_edge() -> None:
    # One of four absent images lies on top: three quarters are had, no more, short of calling nothing present.
    label, p = [0, 0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9, 0.8]
    assert decision.threshold_at_specificity(label, p, 0.75) == 0.8
    above = decision.threshold_at_specificity(label, p, 0.95)
    assert above is not None and above > 0.9
    assert decision.threshold_at_specificity([1, 1], [0.2, 0.3], 0.95) is None


def test_one_class_is_undefined_with_its_reason() -> None:
    for make in (decision.partial_auroc, lambda y, s: decision.roc_sensitivity(y, s, 0.85)):
        interval = intervals.bootstrap(make([1, 1, np.nan], [0.2, 0.7, 0.1]), ["a", "b", "c"], n=10)
        assert interval.value is None and interval.reason == "no absent images"
        redrawn = intervals.bootstrap(make([1, 0, 0, 1], [0.2, 0.7, 0.1, 0.4]), ["a", "b", "c", "d"], n=100)
        assert redrawn.redrawn > 0 and redrawn.low is not None


def test_a_perfect_and_a_useless_model() -> None:
    label = np.repeat([0.0, 1.0], 50)
    assert whole(decision.partial_auroc(label, label), 100) == 1
    assert whole(decision.partial_auroc(label, np.full(100, 0.5)), 100) == pytest.approx(0.5)
    assert decision.decision_figure({"m": decision.decision_curve(label, label, np.arange(100), n=5)}).axes
