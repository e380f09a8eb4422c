"""Subgroups: each has the metrics of its own images; columns come from the manifest or the user's file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from answered import predictions
from sklearn.metrics import roc_auc_score

from fundusnet.data.manifest import images_table
from fundusnet.errors import UserError
from fundusnet.evaluation.subgroups import attributes_of, subgroup_rows
from fundusnet.findings.statistics import subgroup_statistics as finding_statistics
from fundusnet.grading.statistics import subgroup_statistics as grading_statistics


@pytest.fixture
def images() -> pd.DataFrame:
    rows = [
        {
            "image_id": f"{i:03}", "path": f"{i}.png", "patient_id": f"p{i // 2}", "grade": i % 3,
            "eye": "" if i == 119 else ("left", "right")[i % 2],
        }
        for i in range(120)
    ]  # fmt: skip
    return images_table(rows)


def test_a_subgroup_has_the_metrics_of_its_images(images: pd.DataFrame) -> None:
    table = predictions(0)
    rows = subgroup_rows(table, attributes_of(images, ["eye"]), finding_statistics, n=50)
    assert [(row["column"], row["value"], row["n_images"]) for row in rows] == [
        ("eye", "left", 60),
        ("eye", "right", 59),
        ("eye", "unknown", 1),
    ]
    left = table.iloc[::2].dropna(subset="label")
    metrics = rows[0]["metrics"]
    assert metrics["auroc"]["value"] == pytest.approx(roc_auc_score(left["label"], left["probability"]))
    assert metrics["sensitivity"]["value"] == pytest.approx(left.loc[left["label"] == 1, "predicted"].mean())
    assert "small" not in rows[0]


def test_a_small_subgroup_is_marked_and_an_empty_class_has_a_reason(images: pd.DataFrame) -> None:
    last = subgroup_rows(predictions(0), attributes_of(images, ["eye"]), finding_statistics, n=50)[-1]
    assert last["small"] is True and last["n_patients"] == 1
    assert last["metrics"]["auroc"]["value"] is None
    (image,) = predictions(0)["label"].tolist()[-1:]
    assert last["metrics"]["auroc"]["reason"] == ("no absent images" if image == 1 else "no present images")


def test_grades_by_a_file_of_patients(images: pd.DataFrame, tmp_path: Path) -> None:
    patients = [f"p{i}" for i in range(50)]
    pd.DataFrame({"patient_id": patients, "sex": ["f", "m"] * 25, "eye": "both"}).to_csv(
        tmp_path / "own.csv", index=False
    )
    attributes = attributes_of(images, ["sex", "grade"], tmp_path / "own.csv")
    assert attributes.loc["000"].tolist() == ["f", "0"] and attributes.loc["119"].tolist() == ["unknown", "2"]
    table = pd.DataFrame(
        {
            "image_id": images["image_id"], "patient_id": images["patient_id"], "grade": np.arange(120) % 3,
            "predicted": np.arange(120) % 2, "p_gt_0": 0.4, "p_gt_1": 0.2,
        }
    )  # fmt: skip
    statistics_of = partial(grading_statistics, classes=["a", "b", "c"])
    rows = {row["value"]: row for row in subgroup_rows(table, attributes[["sex"]], statistics_of, n=20)}
    assert set(rows) == {"f", "m", "unknown"} and rows["f"]["n_patients"] == 25 and rows["f"]["n_images"] == 50
    women = table[attributes["sex"].to_numpy() == "f"]
    metrics = rows["f"]["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx((women["grade"] == women["predicted"]).mean())
    assert list(metrics) == ["accuracy", "recall_a", "recall_b", "recall_c"] and metrics["recall_c"]["value"] == 0


def test_a_column_of_the_user_fills_what_the_set_does_not_know(images: pd.DataFrame, tmp_path: Path) -> None:
    """As a spreadsheet of Western Europe writes it."""
    file = tmp_path / "own.csv"
    file.write_bytes("image_id;Größe;eye\n000;klein;left\n001;groß;right\n002\n".encode("cp1252"))
    images = images.assign(eye=["", *images["eye"][1:]])
    attributes = attributes_of(images, ["Größe", "eye"], file)
    assert attributes.loc["000"].tolist() == ["klein", "left"]
    assert attributes.loc["001", "Größe"] == "groß"
    assert attributes.loc["002"].tolist() == ["unknown", images["eye"][2]]


@pytest.mark.parametrize(
    ("columns", "text", "message"),
    [
        (["eyes"], None, "no column eyes among .*did you mean eye?"),
        (["patient_id"], None, "patient_id has 60 values, too many"),
        (["sex"], "name,sex\na,f\n", "neither image_id nor patient_id"),
        (["sex"], "patient_id,sex\np1,f\np1,m\n", "patient_id p1 occurs twice"),
        (["sex"], "patient_id,sex\nq1,f\n", "none of its patient_id is in the set"),
        (["sex"], "patient_id,sex,sex\np1,f,f\n", "column 'sex' occurs twice"),
        (["sex"], 'patient_id,sex\np1,"f"\np2,"m" or f\n', "from line 3 on are not clear"),
        (["eye"], "image_id,eye\n000,both\n", "eye of 000 is 'both', and '.*' in the set; rename the column"),
    ],
)
def test_refused(images: pd.DataFrame, tmp_path: Path, columns: list[str], text: str | None, message: str) -> None:
    file = tmp_path / "own.csv"
    if text:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        attributes_of(images, columns, file if text else None)
    if text:
        with pytest.raises(UserError, match="does not exist"):
            attributes_of(images, columns, tmp_path / "missing.csv")
