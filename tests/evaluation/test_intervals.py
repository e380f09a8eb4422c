"""The bootstrap against scikit-learn, brute force and known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from fundusnet.evaluation.intervals import Interval, auroc, bootstrap, exact_bound, mean, paired_difference, pooled


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3)), min_size=4, max_size=40))
def test_weighted_auroc_equals_scikit_learn_on_repeated_rows(rows: list[tuple[int, int, int]]) -> None:
    label, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    [value] = auroc(label, score).compute(weight[None].astype(float))
    repeated = np.repeat(label, weight)
    if len(np.unique(repeated)) < 2:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(roc_auc_score(repeated, np.repeat(score, weight)))


def test_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(size=400)
    interval = bootstrap(mean(values, np.ones(400, bool), "images"), np.arange(400))
    half = 1.96 * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.012)
    assert not interval.unreliable
    assert interval.redrawn == 0


def test_about_95_of_100_intervals_cover_the_truth_when_patients_have_several_images() -> None:
    generator = np.random.default_rng(2)
    covered = {"patients": 0, "images": 0}
    for _ in range(200):
        values = np.repeat(generator.normal(size=40), 4)  # four identical images a patient
        statistic = mean(values, np.ones(160, bool), "images")
        for unit, identities in {"patients": np.arange(160) // 4, "images": np.arange(160)}.items():
            interval = bootstrap(statistic, identities, n=300)
            assert interval.low is not None and interval.high is not None
            covered[unit] += interval.low <= 0 <= interval.high
    assert 180 <= covered["patients"] <= 199
    assert covered["images"] < 160  # drawing images pretends to four times the evidence


def test_one_class_resamples_are_redrawn_counted_and_marked_unreliable() -> None:
    interval = bootstrap(auroc([1, 0, 0, 0], [0.9, 0.1, 0.2, 0.95]), ["a", "b", "c", "d"], n=500)
    # P(no draw of patient a) = 0.75^4 = 0.316, and 1/256 of the draws hold only a: 0.32 of all draws are
    # redrawn.
    assert interval.redrawn == pytest.approx(500 * 0.32 / 0.68, rel=0.25)
    assert interval.unreliable


def test_unreliable_below_ten_patients_of_a_class_however_many_images() -> None:
    label = np.r_[np.ones(90), np.zeros(90)]
    score = np.random.default_rng(0).random(180)
    nine = np.r_[np.arange(90) % 9, 100 + np.arange(90)]
    ten = np.r_[np.arange(90) % 10, 100 + np.arange(90)]
    assert bootstrap(auroc(label, score), nine, n=50).unreliable
    assert not bootstrap(auroc(label, score), ten, n=50).unreliable


def test_an_undefined_statistic_has_a_reason_and_no_number() -> None:
    interval = bootstrap(auroc([1, 1], [0.1, 0.2]), ["a", "b"])
    assert interval == Interval(None, None, None, reason="no absent images")
    assert interval.as_metric() == {"value": None, "ci95": [None, None], "reason": "no absent images"}
    assert bootstrap(auroc([], []), []).value is None


def test_one_patient_gives_a_value_without_an_interval() -> None:
    interval = bootstrap(mean([0.25, 0.75], np.ones(2, bool), "images"), ["a", "a"])
    assert (interval.value, interval.low, interval.high) == (0.5, None, None)
    assert "one patient" in interval.reason


def test_without_an_error_a_share_has_an_exact_bound() -> None:
    """The bound of scipy's exact interval of a binomial share, for patients, not images."""
    every = np.ones(40, bool)
    patients = np.arange(40) // 2
    exact = binomtest(20, 20).proportion_ci(method="exact")
    right = bootstrap(mean(np.ones(40), every, "images"), patients)
    assert (right.value, right.low, right.high) == (1, pytest.approx(exact.low), 1)
    wrong = bootstrap(mean(np.zeros(40), every, "images"), patients)
    assert (wrong.value, wrong.low, wrong.high) == (0, 0, pytest.approx(1 - exact.low))
    several = pooled([mean(np.ones(40), every, "images")] * 3, [patients] * 3)
    assert (several.value, several.low, several.high) == (1, pytest.approx(exact.low), 1)
    # Two resamples with one error among forty differ.
    one = bootstrap(mean(np.r_[0, np.ones(39)], every, "images"), patients)
    assert one.low is not None and one.low > 0.9


def test_perfect_separation_has_the_bound_of_the_smaller_class() -> None:
    interval = bootstrap(auroc(np.r_[np.ones(12), np.zeros(50)], np.r_[np.ones(12), np.zeros(50)]), np.arange(62))
    assert (interval.low, interval.high) == (pytest.approx(binomtest(12, 12).proportion_ci(method="exact").low), 1)


def test_the_bound_of_an_auroc_holds() -> None:
    """A class of two kinds, the worse of which lies below all others: no other AUROC is seen as 1 more often."""
    generator, size, truth = np.random.default_rng(3), 12, exact_bound(12) - 0.02
    seen = 0
    for _ in range(4000):
        present = np.where(generator.random(size) < truth, 1.0, -1.0)
        seen += (present > 0).all()  # against any number of absent images at 0
    assert seen / 4000 < 0.025


def test_what_is_no_share_is_unreliable_where_all_resamples_agree() -> None:
    same = mean(np.full(30, 2.5), np.ones(30, bool), "images")
    assert bootstrap(same, np.arange(30)) == Interval(2.5, 2.5, 2.5, unreliable=True)
    assert paired_difference(same, same, np.arange(30)) == Interval(0, 0, 0, unreliable=True)


def test_a_paired_difference_cancels_what_both_models_share() -> None:
    shared = np.random.default_rng(3).normal(size=100)
    everywhere = np.ones(100, bool)
    first, second = mean(shared, everywhere, "images"), mean(shared + 0.1, everywhere, "images")
    interval = paired_difference(first, second, np.arange(100), n=200)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_seed_sets_the_resamples_and_the_block_size_drops_none() -> None:
    statistic = auroc([1, 0] * 30, np.random.default_rng(4).random(60))
    assert bootstrap(statistic, np.arange(60), seed=1) == bootstrap(statistic, np.arange(60), seed=1)
    assert bootstrap(statistic, np.arange(60), seed=1) != bootstrap(statistic, np.arange(60), seed=2)
