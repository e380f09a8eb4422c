"""DeLong's test against its definition, computed pair by pair, and against simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from answered import run
from numpy.typing import NDArray
from scipy.stats import norm

from fundusnet.evaluation.binary_tasks_report import delong_rows
from fundusnet.evaluation.delong import delong, placements
from fundusnet.evaluation.groups import group_runs
from fundusnet.evaluation.runs import read_runs
from fundusnet.findings.statistics import FINDINGS

Floats = NDArray[np.float64]


def pairwise(label: Floats, first: Floats, second: Floats) -> tuple[float, float]:
    """Difference and its variance from the definition: every pair of a present and an absent image, in plain loops."""
    present, absent = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    m, n = len(present), len(absent)
    psi = np.zeros((2, m, n))
    for r, score in enumerate((first, second)):
        for a, i in enumerate(present):
            for b, j in enumerate(absent):
                psi[r, a, b] = 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
    area = psi.mean(axis=(1, 2))
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    s10 = sum(np.outer(v10[:, a] - area, v10[:, a] - area) for a in range(m)) / (m - 1)
    s01 = sum(np.outer(v01[:, b] - area, v01[:, b] - area) for b in range(n)) / (n - 1)
    contrast = np.array([-1.0, 1.0])
    return float(contrast @ area), float(contrast @ (s10 / m + s01 / n) @ contrast)


def scores(images: int, seed: int, steps: int = 0) -> tuple[Floats, Floats, Floats]:
    generator = np.random.default_rng(seed)
    label = (np.arange(images) % 3 == 0).astype(np.float64)
    common = label + generator.normal(size=images)
    first, second = (common + generator.normal(size=images) for _ in range(2))
    if steps:
        first, second = np.round(first * steps), np.round(second * steps)
    return label, first, second


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_definition(seed: int, steps: int) -> None:
    label, first, second = scores(50, seed, steps)
    difference, variance = pairwise(label, first, second)
    found = delong(label, first, second)
    assert found.difference == pytest.approx(difference)
    assert found.low == pytest.approx(difference - 1.959964 * variance**0.5)
    assert found.high == pytest.approx(difference + 1.959964 * variance**0.5)
    assert found.p == pytest.approx(2 * norm.sf(abs(difference) / variance**0.5))


def test_worked_by_hand() -> None:
    # Present 3 and 1, absent 2 and 0: of four pairs one is the wrong way round.
    above, below = placements(np.array([[3.0, 1.0]]), np.array([[2.0, 0.0]]))
    assert above.tolist() == [[1.0, 0.5]] and below.tolist() == [[0.5, 1.0]]
    # Against the perfect order: V10 differs by (0, .5), V01 by (.5, 0); each has variance 1/8, over two images.
    found = delong([1, 1, 0, 0], [3, 1, 2, 0], [3, 2, 1, 0])
    assert found.difference == pytest.approx(0.25)
    assert found.p == pytest.approx(2 * norm.sf(0.25 / (1 / 8 / 2 + 1 / 8 / 2) ** 0.5))


def test_it_is_antisymmetric_and_leaves_undecided_images_out() -> None:
    label, first, second = scores(60, 1)
    there, back = delong(label, first, second), delong(label, second, first)
    assert there.difference == -back.difference and there.p == back.p and there.low == -back.high
    assert delong(np.r_[label, np.nan], np.r_[first, 9], np.r_[second, -9]) == there


def test_equal_models_are_rejected_at_the_nominal_level() -> None:
    values = [delong(*scores(90, seed)).p for seed in range(400)]
    rejected = np.mean([value is not None and value < 0.05 for value in values])
    assert 0.02 < rejected < 0.09


def test_an_undefined_test_gives_the_reason() -> None:
    assert delong([1, 0, 0], [1, 0, 0], [0, 1, 0]).reason == "fewer than two present images"
    same = delong([1, 1, 0, 0], [3, 1, 2, 0], [30, 10, 20, 0])
    assert same.p is None and same.difference == 0 and "rank the images the same way" in same.reason


def test_two_runs_on_the_page(tmp_path: Path) -> None:
    runs = read_runs([run(tmp_path / "a", 0, "guided"), run(tmp_path / "b", 0, "other")], FINDINGS)
    noise = np.random.default_rng(0).normal(0, 0.2, 120)
    rows = runs[1].predictions["drusen"]
    rows["probability"] = (rows["probability"] + noise).clip(0, 1)
    rows.index = pd.Index(["x1", "x2", "x3", "x4", *rows.index[4:]])
    (row,) = delong_rows(group_runs(runs), "drusen", "drusen")
    first, second = (one.predictions["drusen"] for one in runs)
    shared = first.index.intersection(second.index)
    found = delong(first.loc[shared, "label"], first.loc[shared, "probability"], second.loc[shared, "probability"])
    assert found.difference is not None and found.difference < 0 and found.p is not None and found.p > 0.001
    numbers = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}), p = {found.p:.3f}"
    assert row["text"] == f"other against guided: {numbers}, 116 images of 58 patients."
    assert row["clustered"]


def test_runs_over_several_seeds_are_not_tested(tmp_path: Path) -> None:
    groups = group_runs(read_runs([run(tmp_path / str(seed), seed) for seed in range(2)], FINDINGS))
    assert len(groups) == 1 and not list(delong_rows(groups, "drusen", "drusen"))
