"""Fleiss' kappa against worked examples, an independent library, and cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.stats import inter_rater

from fundusnet.annotation.agreement import agreement, fleiss_kappa

# The worked example of the method's usual account: 10 subjects, 14 raters, 5 categories, kappa 0.210.
WORKED = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def by_pairs(counts: np.ndarray) -> float | None:
    """Kappa by definition: how often two ratings of a subject agree, against two ratings drawn from all."""
    ratings = [[category for category, n in enumerate(row) for _ in range(n)] for row in counts]
    ratings = [row for row in ratings if len(row) >= 2]
    everything = [category for row in ratings for category in row]
    if not everything:
        return None
    within = [
        np.mean([row[i] == row[j] for i in range(len(row)) for j in range(len(row)) if i != j]) for row in ratings
    ]
    chance = np.mean([[a == b for a in everything] for b in everything])
    return None if chance == 1 else float((np.mean(within) - chance) / (1 - chance))


def test_worked_example() -> None:
    assert fleiss_kappa(WORKED) == pytest.approx(0.20993, abs=5e-6)


def test_two_by_two_by_hand() -> None:
    # Three raters: three say yes; two of three say yes. P = (1 + 1/3) / 2 = 2/3, yes 5/6, Pe = 26/36.
    assert fleiss_kappa([[3, 0], [2, 1]]) == pytest.approx((2 / 3 - 26 / 36) / (10 / 36))


@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(2, 4)), elements=st.integers(0, 4)))
def test_kappa_equals_pairwise_agreement(counts: np.ndarray) -> None:
    expected = by_pairs(counts)
    assert fleiss_kappa(counts) == (None if expected is None else pytest.approx(expected, abs=1e-9))


@given(st.integers(2, 5), st.integers(2, 12), st.randoms(use_true_random=False))
def test_equals_statsmodels(raters: int, subjects: int, random: object) -> None:
    counts = np.zeros((subjects, 3), int)
    for row in counts:
        for _ in range(raters):
            row[random.randrange(3)] += 1  # type: ignore[attr-defined]
    assume((counts.sum(axis=0) > 0).sum() > 1)
    assert fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts, method="fleiss"))


@pytest.mark.parametrize("counts", [[], [[1, 0]], [[3, 0], [3, 0]], np.zeros((0, 2))])
def test_undefined_kappa_is_none(counts: object) -> None:
    assert fleiss_kappa(counts) is None  # type: ignore[arg-type]


def test_subjects_with_one_rating_are_left_out() -> None:
    assert fleiss_kappa([*WORKED, [1, 0, 0, 0, 0]]) == fleiss_kappa(WORKED)


def test_images_and_regions_by_hand() -> None:
    images = [
        [{"drusen": ["macula", "temporal"]}, {"drusen": ["macula"]}, {}],
        [{}, {}, {}],
        [{"drusen": ["macula"]}, {"drusen": ["macula"]}, {"drusen": ["macula"]}],
        [{"drusen": ["macula"]}],
    ]
    found = agreement(images, "drusen")
    assert found.images == 3  # the last was read once
    # Images: (2, 1), (0, 3), (3, 0). P = (1/3 + 1 + 1) / 3 = 7/9, yes 5/9, Pe = 25/81 + 16/81 = 41/81.
    assert found.image == pytest.approx((7 / 9 - 41 / 81) / (40 / 81))
    # Regions: 24 of them; macula (2, 1), (0, 3), (3, 0), temporal (1, 2), the 20 others (0, 3). Yes 6 of 72.
    observed, yes = (22 + 2 / 3) / 24, 6 / 72
    expected = yes**2 + (1 - yes) ** 2
    assert found.region == pytest.approx((observed - expected) / (1 - expected))


def test_a_finding_nobody_marks_has_no_kappa() -> None:
    found = agreement([[{}, {"drusen": ["macula"]}]], "hemorrhage")
    assert (found.image, found.region, found.images) == (None, None, 1)
