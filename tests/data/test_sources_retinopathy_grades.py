"""APTOS 2019 and Messidor-2: retinopathy grades from a table, pictures from wherever they were unpacked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from layouts import text, touch

from fundusnet.data.sources import load_source
from fundusnet.errors import UserError


@pytest.fixture
def aptos(tmp_path: Path) -> Path:
    text(tmp_path / "train.csv", "\ufeffid_code,diagnosis\r\n000c1434d8d7, 2\r\n001639a390f0,4\r\n0024cdab0c1e,0\r\n")
    text(tmp_path / "test.csv", "id_code\n0005cfc8afb6\n")
    return touch(
        tmp_path, "train_images/000c1434d8d7.png", "train_images/001639a390f0.png", "test_images/0005cfc8afb6.png"
    )


def test_aptos_reads_the_training_part_alone(aptos: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = load_source("aptos", aptos)
    assert manifest.images.set_index("path")["grade"].to_dict() == {
        "train_images/000c1434d8d7.png": 2, "train_images/001639a390f0.png": 4,
    }  # fmt: skip
    assert set(manifest.images["patient_id"]) == {""}
    assert manifest.classes == ("none", "mild", "moderate", "severe", "proliferative")
    assert "1 of 3 rows left out" in caplog.text
    assert "APTOS 2019: found 2, the published set has 3662" in caplog.text


def test_aptos_elsewhere_or_with_other_grades_is_refused(aptos: Path) -> None:
    with pytest.raises(UserError, match=r"no table train.csv in it, found 000c1434d8d7.png"):
        load_source("aptos", aptos / "train_images")
    text(aptos / "train.csv", "id_code,diagnosis\n000c1434d8d7,5\n")
    with pytest.raises(UserError, match=r"train.csv, line 2: diagnosis '5' is not one of 0, 1, 2, 3, 4"):
        load_source("aptos", aptos)


@pytest.fixture
def messidor(tmp_path: Path) -> Path:
    text(
        tmp_path / "messidor_data.csv",
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
        "20051020_43808_0100_PP.png,0,0,1\n20051020_43832_0100_PP.png,3,1,1\nIM000001.jpg,2,,0\nIM000002.jpg,1.0,0,1\n",
    )
    text(
        tmp_path / "messidor-2.csv",
        '"left";"right"\r\n"20051020_43808_0100_PP.png";"20051020_43832_0100_PP.png"\r\nIM000001.jpg;IM000002.jpg\r\n',
    )
    return touch(
        tmp_path, "IMAGES/20051020_43808_0100_PP.png", "IMAGES/20051020_43832_0100_PP.png", "IMAGES/IM000001.JPG",
        "IMAGES/IM000002.JPG",
    )  # fmt: skip


def test_messidor2_leaves_the_ungradable_out_and_pairs_the_eyes_of_a_patient(messidor: Path) -> None:
    images = load_source("messidor2", messidor).images.set_index("image_id")
    assert images["grade"].to_dict() == {"20051020_43808_0100_PP": 0, "20051020_43832_0100_PP": 3, "IM000002": 1}
    assert images.loc["20051020_43808_0100_PP", "patient_id"] == images.loc["20051020_43832_0100_PP", "patient_id"]
    assert images["patient_id"].nunique() == 2
    assert images.loc["IM000002", "path"] == "IMAGES/IM000002.JPG"


def test_messidor2_knows_the_other_spelling_and_warns_without_pairs(
    messidor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text(
        messidor / "messidor_data.csv",
        "id_code,diagnosis,adjudicated_dme,adjudicated_gradable\n20051020_43808_0100_PP.png,2,0,1\n",
    )
    (messidor / "messidor-2.csv").unlink()
    with caplog.at_level(logging.WARNING):
        images = load_source("messidor2", messidor).images
    assert images["grade"].tolist() == [2]
    assert images["patient_id"].tolist() == [""]
    assert "the two eyes of a patient may fall into different splits" in caplog.text


def test_messidor2_without_grades_says_which_table_is_missing(messidor: Path) -> None:
    (messidor / "messidor_data.csv").unlink()
    with pytest.raises(UserError, match=r"no table messidor_data.csv in it, found IMAGES/, messidor-2.csv"):
        load_source("messidor2", messidor)
