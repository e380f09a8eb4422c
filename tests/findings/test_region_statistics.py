"""Sensitivity, specificity and AUROC by region: six images worked by hand, and scikit-learn on many."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fundusnet.data.regions import REGIONS
from fundusnet.findings.region_statistics import MARKED, MEANS, NAMED, region_metrics, statistics_of_all_regions
from fundusnet.findings.statistics import findings_metrics

NAMES = list(REGIONS.values())
NAN = float("nan")


def table(rows: list[tuple[float, str, str, dict[str, float] | None]]) -> pd.DataFrame:
    """Label, named regions, marked regions, mean activation by region (None = the eye's points are unknown)."""
    columns = []
    for number, (label, named, marked, means) in enumerate(rows):
        found = [NAN if means is None else means.get(name, 0.0) for name in NAMES]
        about = {"image_id": str(number), "patient_id": f"p{number}", "finding": "drusen", "label": label}
        about |= {"probability": 0.5, "predicted": int(named != ""), NAMED: named, MARKED: marked}
        columns.append(about | dict(zip(MEANS, found, strict=True)))
    return pd.DataFrame(columns)


@pytest.fixture
def rows() -> pd.DataFrame:
    return table(
        [
            (1, "macula;temporal", "macula", {"macula": 0.7, "temporal": 0.3}),
            (1, "temporal", "macula;temporal", {"temporal": 0.8}),
            (1, "", "macula", {"macula": 0.3}),  # missed: nothing is named
            (0, "macula", "", {"macula": 0.3, "temporal": 0.2}),
            (0, "", "", {"macula": 0.1}),
            (1, "macula", "", {"macula": 1.0}),  # present, but nobody knows where
            (1, "", "macula", None),
            (NAN, "macula", "macula", {"macula": 1.0}),  # undecided
        ]
    )


def test_worked_by_hand(rows: pd.DataFrame) -> None:
    found = region_metrics(rows, n=20)
    macula, temporal = found["macula"], found["temporal"]
    assert (macula["n_marked"], macula["n_unmarked"]) == (3, 2)
    assert macula["sensitivity"]["value"] == pytest.approx(1 / 3)
    assert macula["specificity"]["value"] == 0.5
    # 0.7, 0 and 0.3 where it is marked, 0.3 and 0.1 where it is not.
    assert macula["auroc"]["value"] == pytest.approx((2 + 0 + 1.5) / 6)
    assert macula["auroc_present"]["value"] is None  # it is marked in every image with the finding
    assert macula["auroc_present"]["reason"] == "no present images without a mark in macula"
    assert (temporal["n_marked"], temporal["n_unmarked"]) == (1, 4)
    assert temporal["sensitivity"]["value"] == 1
    assert temporal["specificity"]["value"] == 0.75
    assert temporal["auroc"]["value"] == 1  # 0.8 against 0.3, 0, 0.2 and 0
    assert temporal["auroc_present"]["value"] == 1
    nowhere = found["superonasal"]
    assert nowhere["sensitivity"] == {
        "value": None, "ci95": [None, None], "reason": "no images with a mark in superonasal"
    }  # fmt: skip
    assert nowhere["specificity"]["value"] == 1


def test_all_regions_together_worked_by_hand(rows: pd.DataFrame) -> None:
    document = findings_metrics(rows, n=20)
    metrics = document["metrics"]
    assert metrics["region_sensitivity"]["value"] == pytest.approx(2 / 4)  # macula 1 of 3, temporal 1 of 1
    assert metrics["region_specificity"]["value"] == pytest.approx(1 - 2 / 36)  # of 5 x 8 pairs, 4 are marked
    assert set(document["regions"]["drusen"]) == set(NAMES)
    json.dumps(document, allow_nan=False)


def random_rows(images: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(images):
        label = float(rng.random() < 0.6)
        where = [name for name in NAMES if rng.random() < 0.4] or ["macula"]
        named = ";".join(name for name in NAMES if rng.random() < 0.4)
        means = {name: float(rng.random()) + 0.3 * label * (name in where) for name in NAMES}
        rows.append((label, named, ";".join(where) if label else "", means))
    return table(rows)


def test_aurocs_are_those_of_scikit_learn() -> None:
    rows = random_rows(80, seed=3)
    truth = np.array([[name in cell.split(";") for name in NAMES] for cell in rows[MARKED]])
    score = rows[list(MEANS)].to_numpy()
    found = region_metrics(rows, n=5)
    present = rows["label"].to_numpy() == 1
    for place, name in enumerate(NAMES):
        assert found[name]["auroc"]["value"] == pytest.approx(roc_auc_score(truth[:, place], score[:, place]))
        alone = roc_auc_score(truth[present, place], score[present, place])
        assert found[name]["auroc_present"]["value"] == pytest.approx(alone)
    marks = truth.sum(axis=0)
    for key, metric in (("auroc", "region_auroc"), ("auroc_present", "region_auroc_present")):
        mean = np.average([found[name][key]["value"] for name in NAMES], weights=marks)
        assert statistics_of_all_regions(rows)[metric].compute(np.ones((1, 80)))[0] == pytest.approx(mean)


def test_naming_the_region_where_a_finding_always_is_says_nothing() -> None:
    """Every present image is marked in the macula and every answer is macula: chance, not skill."""
    rng = np.random.default_rng(0)
    rows = table([(i % 2, "macula", "macula" if i % 2 else "", {"macula": float(rng.random())}) for i in range(400)])
    metrics = findings_metrics(rows, n=5)["metrics"]
    assert metrics["region_auroc"]["value"] == pytest.approx(0.5, abs=0.08)
    assert metrics["region_auroc_present"]["reason"] == "no regions marked in some of the present images"


def test_an_image_drawn_twice_counts_twice_in_every_region() -> None:
    rows = random_rows(30, seed=5)
    weights = np.random.default_rng(0).integers(0, 3, (150, 30)).astype(float)
    for name, statistic in statistics_of_all_regions(rows).items():
        found = statistic.compute(weights)
        for resample in (0, 70, 149):
            again = rows.loc[np.repeat(np.arange(30), weights[resample].astype(int))].reset_index(drop=True)
            whole = statistics_of_all_regions(again)[name]
            assert found[resample] == pytest.approx(whole.compute(np.ones((1, len(again))))[0]), name


def test_tables_without_regions_have_none() -> None:
    old = random_rows(12, seed=1).drop(columns=[NAMED, MARKED, *MEANS])
    assert region_metrics(old, n=5) == {}
    assert findings_metrics(old, n=5)["metrics"]["region_auroc"]["reason"] == "no regions marked in some of the images"
