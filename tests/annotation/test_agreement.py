"""Kappa and alpha against an independent library, definitions, and cases computed by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats import inter_rater

from fundusnet.annotation.agreement import Agreement, Pattern, agreement

Image = tuple[int, int]  # readings, and how many of these marked the finding


def of_images(images: list[Image]) -> Agreement:
    """Agreement on images without regions."""
    patterns: Counter[Pattern] = Counter()
    for read, present in images:
        if present:
            patterns[read, present, (present, *[0] * 7)] += 1
    return agreement(patterns, Counter(read for read, _ in images))


def kappa_by_pairs(images: list[Image]) -> float | None:
    """By definition: how often two readings of an image agree, against two drawn from all."""
    ratings = [[True] * present + [False] * (read - present) for read, present in images if read >= 2]
    everything = [rating for row in ratings for rating in row]
    if len(set(everything)) < 2:
        return None
    within = [np.mean([a == b for i, a in enumerate(row) for j, b in enumerate(row) if i != j]) for row in ratings]
    chance = np.mean([[a == b for a in everything] for b in everything])
    return float((np.mean(within) - chance) / (1 - chance))


def alpha_by_coincidences(images: list[Image]) -> float | None:
    """Krippendorff's own computation, from the matrix of coincidences."""
    matrix = np.zeros((2, 2))
    for read, present in images:
        counts = (read - present, present)
        for a in range(2):
            for b in range(2):
                if read >= 2:
                    matrix[a, b] += counts[a] * (counts[b] - (a == b)) / (read - 1)
    total, sums = matrix.sum(), matrix.sum(axis=0)
    if not total or not sums.all():
        return None
    return float(1 - (total - 1) * matrix[0, 1] / (sums[0] * sums[1]))


IMAGES = st.lists(
    st.integers(1, 5).flatmap(lambda read: st.tuples(st.just(read), st.integers(0, read))), min_size=1, max_size=12
)


@settings(deadline=None)
@given(IMAGES)
def test_equal_the_definitions(images: list[Image]) -> None:
    found = of_images(images)
    assert found.images == sum(read >= 2 for read, _ in images)
    for value, expected in (
        (found.image.kappa, kappa_by_pairs(images)),
        (found.image.alpha, alpha_by_coincidences(images)),
    ):
        assert value == (None if expected is None else pytest.approx(expected, abs=1e-9))


@settings(deadline=None)
@given(st.integers(2, 6).flatmap(lambda n: st.lists(st.tuples(st.just(n), st.integers(0, n)), min_size=2, max_size=15)))
def test_kappa_equals_statsmodels(images: list[Image]) -> None:
    found = of_images(images)
    assert found.equal
    if found.image.kappa is not None:
        table = [(present, read - present) for read, present in images]
        assert found.image.kappa == pytest.approx(inter_rater.fleiss_kappa(table, method="fleiss"))


def test_two_by_two_by_hand() -> None:
    # Three raters: three say yes; two of three say yes. P = (1 + 1/3) / 2 = 2/3, yes 5/6, Pe = 26/36.
    assert of_images([(3, 3), (3, 2)]).image.kappa == pytest.approx((2 / 3 - 26 / 36) / (10 / 36))


def test_alpha_of_the_usual_worked_example() -> None:
    # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", A: two observers, ten units, alpha = 0.095.
    pairs = [(0, 1), (1, 1), (0, 1), (0, 0), (0, 0), (0, 1), (0, 0), (0, 0), (1, 0), (0, 0)]
    assert of_images([(2, a + b) for a, b in pairs]).image.alpha == pytest.approx(0.095, abs=0.0005)


@pytest.mark.parametrize("images", [[], [(1, 1)], [(3, 3), (3, 3)], [(3, 0)]])
def test_undefined_is_none(images: list[Image]) -> None:
    found = of_images(images).image
    assert (found.kappa, found.alpha, found.kappa_interval, found.alpha_interval) == (None,) * 4


def test_images_and_regions_by_hand() -> None:
    # Macula and temporal by one and macula by another of three; nobody; macula by all three; one reading alone.
    patterns = {
        (3, 2, (0, 0, 2, 1, 0, 0, 0, 0)): 1,
        (3, 3, (0, 0, 3, 0, 0, 0, 0, 0)): 1,
        (1, 1, (0, 0, 1, 0, 0, 0, 0, 0)): 1,
    }
    found = agreement(patterns, {3: 3, 1: 1})
    assert found.images == 3
    # Images: (2, 1), (0, 3), (3, 0). P = (1/3 + 1 + 1) / 3 = 7/9, yes 5/9, Pe = 25/81 + 16/81 = 41/81.
    assert found.image.kappa == pytest.approx((7 / 9 - 41 / 81) / (40 / 81))
    # Regions: 24 of them; macula (2, 1), (0, 3), (3, 0), temporal (1, 2), the 20 others (0, 3). Yes 6 of 72.
    observed, yes = (22 + 2 / 3) / 24, 6 / 72
    expected = yes**2 + (1 - yes) ** 2
    assert found.region.kappa == pytest.approx((observed - expected) / (1 - expected))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    # Readers who mark what is there with 0.8 and what is not with 0.1: kappa of endless images by two drawn readings.
    random = np.random.default_rng(1)
    yes, no = 0.8, 0.1
    agree = 0.5 * (yes**2 + (1 - yes) ** 2) + 0.5 * (no**2 + (1 - no) ** 2)
    share = 0.5 * (yes + no)
    truth = (agree - share**2 - (1 - share) ** 2) / (1 - share**2 - (1 - share) ** 2)
    covered = 0
    for _ in range(200):
        there = random.random(80) < 0.5
        images = [(3, int(each)) for each in random.binomial(3, np.where(there, yes, no))]
        low, high = of_images(images).image.kappa_interval or (0.0, 0.0)
        covered += low <= truth <= high
    assert 0.89 <= covered / 200 <= 0.99
