"""The operating point against a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundusnet.errors import UserError
from fundusnet.evaluation import operating_point

case = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(case)
def test_no_threshold_has_a_better_harmonic_mean_and_no_lower_one_an_equal_one(
    rows: list[tuple[int, int]],
) -> None:
    point = operating_point([label for label, _ in rows], [score / 8 for _, score in rows])
    means = {}
    for threshold in range(9):
        hits = sum(score >= threshold for label, score in rows if label == 1)
        rejections = sum(score < threshold for label, score in rows if label == 0)
        sensitivity = hits / sum(label for label, _ in rows)
        specificity = rejections / sum(1 - label for label, _ in rows)
        total = sensitivity + specificity
        means[threshold / 8] = 2 * sensitivity * specificity / total if total else 0.0
        if threshold / 8 == point.threshold:
            assert (point.sensitivity, point.specificity) == pytest.approx((sensitivity, specificity))
    assert point.threshold in {score / 8 for _, score in rows}
    assert means[point.threshold] == pytest.approx(max(means.values()))
    lower = [means[score / 8] for _, score in rows if score / 8 < point.threshold]
    assert all(mean < means[point.threshold] - 1e-12 for mean in lower)


def test_worked_by_hand() -> None:
    # At 0.6: 2 of 3 present found, 2 of 2 absent rejected, harmonic mean 0.8. At 0.2: 1 and 1/2, mean 2/3.
    point = operating_point([1, 1, 1, 0, 0], [0.9, 0.6, 0.2, 0.4, 0.1])
    assert point.threshold == 0.6
    assert (point.sensitivity, point.specificity) == pytest.approx((2 / 3, 1.0))


def test_undecided_images_are_left_out() -> None:
    decided = operating_point([1, 0], [0.7, 0.3])
    assert operating_point([1, 0, np.nan], [0.7, 0.3, 0.99]) == decided


@pytest.mark.parametrize("labels", [[1, 1], [0, 0], [np.nan, 1]])
def test_one_class_is_refused(labels: list[float]) -> None:
    with pytest.raises(UserError, match="both classes"):
        operating_point(labels, [0.1, 0.2])


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        operating_point([1, 0], [np.nan, 0.2])
