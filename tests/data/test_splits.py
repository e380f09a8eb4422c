"""No patient is in two splits, and splits are alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundusnet.data.splits import components, make_folds, make_splits, without_leaks
from fundusnet.errors import UserError


def table(patients: list[str], official: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"patient_id": patients, "split": official or [""] * len(patients)})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "b", "c", "d", "e"]),
            st.integers(-1, 4),
            st.sampled_from([0.0, 1.0, float("nan")]),
            st.sampled_from(["", "train", "val", "test"]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 5),
)
def test_no_patient_and_no_twin_is_in_two_splits(rows: list[tuple[str, int, float, str]], seed: int) -> None:
    patients, groups, labels, official = (list(column) for column in zip(*rows, strict=True))
    split = make_splits(table(patients, official), np.array(labels), np.array(groups), seed=seed)
    for keys in (patients, groups):
        for key in set(keys) - {"", -1}:
            assert len({s for s, k in zip(split, keys, strict=True) if k == key} - {""}) <= 1
    for got, wish in zip(split, official, strict=True):
        assert wish != "test" or got == "test"
        assert got in ("train", "val", "test", "")


def test_what_belongs_to_test_or_validation_is_not_trained_on() -> None:
    split = np.array(["train", "train", "train", "val", "val", "test", ""])
    found = without_leaks(split, np.array([0, 5, 3, 3, 5, 5, 0]))
    assert found.tolist() == ["train", "", "", "val", "", "test", ""]


def test_same_seed_same_split_and_another_differs() -> None:
    images, none = table([""] * 200), np.full(200, -1)
    labels = np.arange(200) % 3
    one = make_splits(images, labels, none, seed=1)
    assert np.array_equal(one, make_splits(images, labels, none, seed=1))
    assert not np.array_equal(one, make_splits(images, labels, none, seed=2))


def test_labels_are_balanced_although_rare_and_partly_unknown() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([rng.random(1000) < 0.05, rng.random(1000) < 0.4], axis=1).astype(float)
    labels[rng.random((1000, 2)) < 0.2] = np.nan
    patients = [f"p{n}" for n in rng.integers(0, 500, 1000)]
    split = make_splits(table(patients), labels, np.full(1000, -1), fractions=(0.6, 0.2, 0.2))
    for name, part in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert abs((split == name).mean() - part) < 0.02
        for column in labels.T:
            positives = (column == 1).sum()
            assert abs((column[split == name] == 1).sum() - part * positives) <= 2 + 0.02 * positives


def test_validation_is_drawn_from_official_training_only() -> None:
    official = ["train"] * 90 + ["test"] * 30
    split = make_splits(table([""] * 120, official), np.zeros(120), np.full(120, -1), fractions=(0.9, 0.1, 0.3))
    assert (split[90:] == "test").all()
    assert (split[:90] == "val").sum() == 9
    assert (split[:90] == "train").sum() == 81


def test_a_twin_of_a_test_picture_leaves_the_training_set() -> None:
    official = ["train", "train", "train", "train", "test", "val"]
    split = make_splits(table([""] * 6, official), np.zeros(6), np.array([7, -1, -1, -1, 7, -1]))
    assert split.tolist() == ["", "train", "train", "train", "test", "val"]


def test_by_image_separates_patients_but_never_twins() -> None:
    images = table(["a"] * 40)
    groups = np.repeat(np.arange(20), 2)
    assert set(make_splits(images, np.zeros(40), np.full(40, -1))) == {"train"}
    split = make_splits(images, np.zeros(40), groups, by="image")
    assert set(split) == {"train", "val", "test"}
    assert (split[::2] == split[1::2]).all()


@pytest.mark.parametrize("fractions", [(0, 0.5, 0.5), (0.5, -0.1, 0.6), (float("nan"), 1, 1)])
def test_invalid_fractions_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="fractions"):
        make_splits(table(["", ""]), np.zeros(2), np.full(2, -1), fractions=fractions)


@given(seed=st.integers(0, 1000), folds=st.integers(2, 6), val=st.sampled_from([0.0, 0.15]))
@settings(max_examples=25, deadline=None)
def test_every_image_is_tested_in_one_fold(seed: int, folds: int, val: float) -> None:
    rng = np.random.default_rng(seed)
    count = 60
    images = pd.DataFrame({"patient_id": rng.integers(0, 25, count).astype(str), "split": "train"})
    labels = (rng.random((count, 2)) < (0.5, 0.2)).astype(float)
    groups = np.where(rng.random(count) < 0.2, rng.integers(0, 5, count), -1)
    splits = [make_folds(images, labels, groups, folds=folds, fold=fold, val=val, seed=seed) for fold in range(folds)]
    assert (np.sum([split == "test" for split in splits], axis=0) == 1).all()
    together = components(images["patient_id"].tolist(), groups)
    for split in splits:
        rest = len(np.unique(together[split != "test"]))
        assert set(split) <= {"train", "val", "test"} and ("val" in split) == (val > 0 and rest > 1)
        for number in np.unique(together):
            assert len(set(split[together == number])) == 1


def test_folds_are_alike_in_size_and_labels() -> None:
    images = pd.DataFrame({"patient_id": "", "split": ""}, index=range(200))
    labels = np.r_[np.ones(40), np.zeros(160)]
    none = np.full(200, -1)
    for fold in range(5):
        split = make_folds(images, labels, none, folds=5, fold=fold, val=0.1)
        assert [int((split == name).sum()) for name in ("train", "val", "test")] == [140, 20, 40]
        assert [int(labels[split == name].sum()) for name in ("train", "val", "test")] == [28, 4, 8]


def test_folds_that_are_not_possible_are_refused() -> None:
    images = pd.DataFrame({"patient_id": ["a", "a", "b"], "split": ""})
    with pytest.raises(UserError, match=r"data\.folds=3 is not possible with 2 patients"):
        make_folds(images, np.zeros(3), np.full(3, -1), folds=3, fold=0, val=0.1)
    with pytest.raises(UserError, match=r"data\.fold=2 is not one of 2 folds; use 0 to 1"):
        make_folds(images, np.zeros(3), np.full(3, -1), folds=2, fold=2, val=0.0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.2), (0.8, 0.1, 0.1), (0.7, 0.15, 0.15)])
def test_three_images_of_a_label_are_enough_for_three_splits(seed: int, fractions: tuple[float, float, float]) -> None:
    labels = np.zeros((60, 2))
    labels[[7, 30, 51], 0] = 1  # rare
    labels[::3, 1] = 1
    split = make_splits(
        table([f"p{n // 2}" for n in range(60)]), labels, np.full(60, -1), fractions=fractions, seed=seed
    )
    for column in labels.T:
        for value in (0, 1):
            assert set(split[column == value]) == {"train", "val", "test"}
    folds = [make_folds(table([""] * 60), labels, np.full(60, -1), folds=3, fold=f, val=0.0) for f in range(3)]
    assert all((labels[fold == "test", 0] == 1).sum() == 1 for fold in folds)
