"""Facts of the folds: every image in exactly one, with grades alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundusnet.errors import UserError
from fundusnet.grading.folds import assign_folds


@given(seed=st.integers(0, 10_000), folds=st.integers(2, 6))
@settings(max_examples=80, deadline=None)
def test_images_of_a_component_stay_together(seed: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    component = rng.integers(0, 30, 80)
    fold = assign_folds(rng.integers(0, 3, 80), component, folds, ("a", "b", "c"), seed)
    assert set(fold) == set(range(folds))
    for number in np.unique(component):
        assert len(set(fold[component == number])) == 1


def test_folds_are_alike_in_size_and_grades() -> None:
    grades = np.repeat([0, 1, 2], [200, 70, 30])
    fold = assign_folds(grades, np.arange(300), 5, ("a", "b", "c"))
    for grade, count in enumerate((40, 14, 6)):
        assert np.abs(np.bincount(fold[grades == grade], minlength=5) - count).max() <= 1


def test_the_seed_decides() -> None:
    grades = np.arange(60) % 3
    first, same, other = (assign_folds(grades, np.arange(60), 3, ("a", "b", "c"), seed) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("folds", [1, 5, 100])
def test_an_impossible_number_of_folds_is_refused(folds: int) -> None:
    with pytest.raises(UserError, match=f"folds={folds} is not possible with 4 patients"):
        assign_folds(np.arange(8) % 2, np.arange(8) // 2, folds, ("no", "yes"))


def test_a_grade_of_a_single_patient_is_refused() -> None:
    grades = np.array([0, 0, 0, 0, 1, 1])
    with pytest.raises(UserError, match=r"grade 1 \(glaucoma\) belong together.*folds=1"):
        assign_folds(grades, np.array([0, 1, 2, 3, 4, 4]), 2, ("normal", "glaucoma"))
