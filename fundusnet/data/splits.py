"""Training, validation and test images (S1.5), without a patient or a near-identical photograph in two splits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fundusnet.data.duplicates import connected
from fundusnet.data.manifest import SPLITS
from fundusnet.errors import UserError


def make_splits(
    images: pd.DataFrame,
    labels: npt.NDArray[np.floating],
    groups: npt.NDArray[np.integer],
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    by: Literal["patient", "image"] = "patient",
) -> npt.NDArray[np.str_]:
    """Split of each image: "train", "val", "test", or "" for one that must be left out.

    Official splits are kept. A split without an official one is drawn from the official training images (and the
    images without an official split) by ``fractions``; images without an official split never enter an official
    validation or test set. If a patient or a near-identical pair is in several *official* splits, the images in test
    (then val, then train) are kept and the others are left out.

    Args:
        images: Rows of ``images.csv`` with ``patient_id`` ("" = unknown) and ``split`` ("" = no official one).
        labels: ``(N,)`` or ``(N, C)`` to balance over the splits; NaN = unknown, not counted.
        groups: ``(N,)``, near-identical photographs have one number, -1 = unlike any other; they always stay together.
        fractions: Shares of train, val and test, at least 0, train above 0; need not sum to 1.
        by: "patient" keeps a patient's images together, "image" does not.

    Raises:
        UserError: ``fractions`` or ``by`` is invalid.
    """
    share = np.asarray(fractions, dtype=float)
    if share.shape != (3,) or not np.isfinite(share).all() or (share < 0).any() or share[0] <= 0:
        raise UserError(f"fractions={tuple(fractions)}: give three numbers of at least 0, the first (train) above 0")
    if by not in ("patient", "image"):
        raise UserError(f"by={by!r} is not valid; use 'patient' or 'image'")
    official = images["split"].to_numpy(dtype=object).astype(str)
    component = components(images["patient_id"].tolist() if by == "patient" else [""] * len(images), groups)

    split = official.astype("<U5")
    open_names = [name for name in SPLITS if name == "train" or name not in official]
    # Test goes last and wins: results are reported on it, so it keeps its images.
    taken = np.full(len(images), "", dtype="<U5")
    for name in ("train", "val", "test"):
        taken[np.isin(component, component[official == name])] = name
    fixed = np.isin(taken, [name for name in SPLITS if name not in open_names])
    split[fixed] = np.where(official[fixed] == taken[fixed], taken[fixed], "")
    loose = ~fixed
    if loose.any():
        targets = {name: part for name, part in zip(SPLITS, share, strict=True) if name in open_names and part > 0}
        given = deal(component[loose], labels[loose], np.array([*targets.values()]), seed)
        split[loose] = np.array([*targets], dtype="<U5")[given]
    return split


def make_folds(
    images: pd.DataFrame,
    labels: npt.NDArray[np.floating],
    groups: npt.NDArray[np.integer],
    *,
    folds: int,
    fold: int,
    val: float,
    seed: int = 0,
    by: Literal["patient", "image"] = "patient",
) -> npt.NDArray[np.str_]:
    """Split of each image in cross-validation: fold ``fold`` is "test", a part of the others "val", the rest "train".

    Official splits are ignored. The folds depend on ``seed`` and ``folds`` alone, so that over all ``fold`` each image
    is tested once.

    Args:
        images, labels, groups, seed, by: As in ``make_splits``.
        folds: Number of folds, at least 2.
        fold: The one that is tested, 0 … ``folds`` - 1.
        val: Share of all images for validation; 0 = none.

    Raises:
        UserError: There are fewer patients or groups than folds, or there is no such fold.
    """
    component = components(images["patient_id"].tolist() if by == "patient" else [""] * len(images), groups)
    if not 2 <= folds <= len(np.unique(component)):
        raise UserError(
            f"data.folds={folds} is not possible with {len(np.unique(component))} patients or images that belong "
            "together; use a number from 2 to that, or null for a single split"
        )
    if not 0 <= fold < folds:
        raise UserError(f"data.fold={fold} is not one of {folds} folds; use 0 to {folds - 1}")
    tested = deal(component, labels, np.ones(folds), seed) == fold
    split = np.where(tested, "test", "train").astype("<U5")
    if val > 0:
        rest = 1 - 1 / folds
        part = deal(component[~tested], labels[~tested], np.array([max(rest - val, 0.05), val]), seed)
        split[np.flatnonzero(~tested)[part == 1]] = "val"
    return split


def components(patients: list[str], groups: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """One number for images that must stay together: joined by patient, by duplicate, or by a chain of both."""
    first: dict[tuple[str, object], int] = {}
    pairs: list[tuple[int, int]] = []
    for row, (patient, group) in enumerate(zip(patients, groups.tolist(), strict=True)):
        keys: list[tuple[str, object]] = [("patient", patient)] if patient else []
        keys += [("group", group)] if group >= 0 else []
        pairs += [(first.setdefault(key, row), row) for key in keys]
    return connected(len(patients), pairs)


def without_leaks(split: npt.NDArray[np.str_], component: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """The split without training images that belong to images in val or test, and val images that belong to test.

    Args:
        split: ``(N,)``, as ``make_splits`` and ``make_folds`` return it.
        component: ``(N,)``, images with the same number belong together.
    """
    kept = split.copy()
    kept[(split == "val") & np.isin(component, component[split == "test"])] = ""
    kept[(split == "train") & np.isin(component, component[np.isin(split, ("val", "test"))])] = ""
    return kept


def deal(
    component: npt.NDArray[np.int64], labels: npt.NDArray[np.floating], share: npt.NDArray[np.floating], seed: int
) -> npt.NDArray[np.int64]:
    """Part 0 … P-1 of each image: whole components, so that each part gets its share of the images and of each label.

    Greedy: the rarest and largest components first, each to the part whose counts it brings closest to its share.

    Args:
        component: ``(N,)``, images with the same number stay together.
        labels: ``(N,)`` or ``(N, C)`` to balance over the parts; NaN = unknown, not counted.
        share: ``(P,)`` shares of the parts, above 0; need not sum to 1.
    """
    share = share / share.sum()
    features = _features(labels)
    members, group = np.unique(component, return_inverse=True)
    counts = np.zeros((len(members), features.shape[1]))
    np.add.at(counts, group, features)
    total = np.maximum(counts.sum(axis=0), 1)
    counts /= total
    target = share[:, None] * (counts.sum(axis=0) > 0)

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(members))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    have = np.zeros_like(target)
    choice = np.zeros(len(members), dtype=int)
    for item in order:
        # Growth of the squared distance to the target, relative to the part's size as in a chi-square.
        missing = target - have
        growth = ((missing - counts[item]) ** 2 - missing**2).sum(axis=1) / share
        choice[item] = int(np.argmin(growth))
        have[choice[item]] += counts[item]
    if len(members) >= len(share):
        _fill_empty(choice, counts[:, 0], len(share))
    _spread_rare(choice, counts, len(share))
    return choice[group]


def _features(labels: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """What to balance: a column of ones for the images, and a column for each value of each label."""
    table = np.asarray(labels, dtype=float)
    table = table.reshape(len(table), -1)
    columns = [np.ones(len(table))]
    for label in table.T:
        columns += [(label == value).astype(float) for value in np.unique(label[~np.isnan(label)])]
    return np.stack(columns, axis=1)


def _spread_rare(choice: npt.NDArray[np.int64], counts: npt.NDArray[np.float64], parts: int) -> None:
    """Give each part a component with each label, where there are as many as parts; the rarest label comes last."""
    held = counts > 0
    for label in np.argsort(-held.sum(axis=0), kind="stable"):
        have = np.bincount(choice[held[:, label]], minlength=parts)
        if have.sum() < parts:
            continue
        for part in np.flatnonzero(have == 0):
            richest = have.argmax()
            # The one with the least of everything disturbs the other labels least.
            candidates = np.flatnonzero((choice == richest) & held[:, label])
            choice[candidates[np.argmin(counts[candidates].sum(axis=1))]] = part
            have[richest] -= 1
            have[part] += 1


def _fill_empty(choice: npt.NDArray[np.int64], sizes: npt.NDArray[np.float64], count: int) -> None:
    """Give each empty part the smallest component of the part with the most components."""
    for part in range(count):
        if not (choice == part).any():
            richest = np.bincount(choice, minlength=count).argmax()
            candidates = np.flatnonzero(choice == richest)
            choice[candidates[np.argmin(sizes[candidates])]] = part
