"""ODIR-5K and RFMiD: diagnoses without regions, from keywords and from columns."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import picture, sheet, text, touch

from fundusnet.cli.main import main
from fundusnet.data.labels import finding_labels
from fundusnet.data.prepare import prepare
from fundusnet.data.sources import load_source
from fundusnet.data.sources.odir import finding_of, split_keywords
from fundusnet.errors import UserError

COMMA = "\uff0c"
COLUMNS = ["ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords"]
COLUMNS += ["Right-Diagnostic Keywords", "N", "D", "G", "C", "A", "H", "M", "O"]


def patient(number: int, left: str, right: str) -> list[object]:
    return [number, 60, "Female", f"{number}_left.jpg", f"{number}_right.jpg", left, right, 0, 1, 0, 0, 0, 0, 0, 0]


@pytest.fixture
def odir(tmp_path: Path) -> Path:
    sheet(
        tmp_path / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx",
        [
            COLUMNS,
            patient(0, "cataract", "normal fundus"),
            patient(1, f"moderate non proliferative retinopathy{COMMA}macular epiretinal membrane", " lens dust "),
            patient(2, "suspected glaucoma", f"lens dust{COMMA}drusen"),
            patient(3, "anterior segment image", "hypertensive retinopathy, white vessel"),
        ],
    )
    place = "ODIR-5K_Training_Images/ODIR-5K_Training_Dataset"
    touch(tmp_path, *(f"{place}/{number}_{eye}.jpg" for number in range(4) for eye in ("left", "right")))
    return touch(tmp_path, "A_reduced/0_left.jpg")


def test_each_eye_is_read_from_its_own_keywords(odir: Path) -> None:
    manifest = load_source("odir", odir)
    assert sorted(manifest.readings[["image_id", "finding"]].itertuples(index=False, name=None)) == [
        ("0_left", "cataract"), ("0_right", ""), ("1_left", "diabetic_retinopathy"), ("1_left", "membrane"),
        ("2_right", "drusen"), ("3_right", "hypertensive_retinopathy"), ("3_right", "white_vessel"),
    ]  # fmt: skip
    images = manifest.images.set_index("image_id")
    assert images.loc["0_left", ["patient_id", "eye"]].tolist() == ["0", "left"]
    assert images.loc["0_left", "path"].startswith("ODIR-5K_Training_Images/")


def test_suspected_findings_and_photographs_without_fundus_are_left_out(
    odir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        names = set(load_source("odir", odir).images["image_id"])
    assert names == {"0_left", "0_right", "1_left", "1_right", "2_right", "3_right"}
    assert "left out 1 photographs without a fundus and 1 of something suspected" in caplog.text
    assert "ODIR-5K: found 8, the published set has 7000" in caplog.text


def test_keywords_are_split_at_the_full_width_comma() -> None:
    assert split_keywords(f" Drusen{COMMA}optic disc  edema,{COMMA} ") == ["drusen", "optic disc edema"]


@pytest.mark.parametrize(
    ("keyword", "finding"),
    [
        ("mild nonproliferative retinopathy", "diabetic_retinopathy"),
        ("diabetic retinopathy", "diabetic_retinopathy"),
        ("wet age-related macular degeneration", "age_related_macular_degeneration"),
        ("myopic maculopathy", "pathological_myopia"),
        ("myopia retinopathy", "pathological_myopia"),
        ("epiretinal membrane over the macula", "membrane"),
        ("macular hole", "macular_hole"),
        ("retinitis pigmentosa", "retinitis_pigmentosa"),
        ("rhegmatogenous retinal detachment", "rhegmatogenous_retinal_detachment"),
    ],
)
def test_keywords_have_findings(keyword: str, finding: str) -> None:
    assert finding_of(keyword) == finding


def test_odir_elsewhere_or_doubled_is_refused(odir: Path) -> None:
    with pytest.raises(UserError, match=r"no table \*Training_Annotations\*.xlsx or data.xlsx in it"):
        load_source("odir", odir / "ODIR-5K_Training_Images")
    table = odir / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx"
    sheet(table, [COLUMNS, patient(0, "cataract", "cataract"), patient(0, "cataract", "cataract")])
    with pytest.raises(UserError, match=r"line 3: Left-Fundus '0_left.jpg' is not a photograph of this row only"):
        load_source("odir", odir)
    sheet(table, [COLUMNS, patient(9, "cataract", "cataract")])
    with pytest.raises(UserError, match=r"none of its photographs is in .*, found 0_left.jpg"):
        load_source("odir", odir)


def rfmid_tree(root: Path) -> Path:
    """Numbers begin at 1 in each part; a column has a trailing space."""
    header = "ID,Disease_Risk,DR,ARMD,MH ,DN,MHL,TV\n"
    tables = {
        "a. RFMiD_Training_Labels.csv": "1,1,1,0,1,0,0,0\n2,0,0,0,0,0,0,0\n3,1,0,0,0,0,1,1\n4,1,0,0,0,0,0,0\n",
        "b. RFMiD_Validation_Labels.csv": "1,0,0,0,0,0,0,0\n2,1,1,0,0,0,0,0\n",
        "c. RFMiD_Testing_Labels.csv": "1,1,1,0,0,1,0,0\n2,0,0,0,0,0,0,0\n",
    }
    for name, rows in tables.items():
        text(root / "2. Groundtruths" / name, "\ufeff" + header + rows)
    seed = 0
    for folder, count in (("a. Training Set", 4), ("b. Validation Set", 2), ("c. Testing Set", 2)):
        for number in range(1, count + 1):
            picture(root / "1. Original Images" / folder / f"{number}.png", seed := seed + 1)
    touch(root, "1. Original Images/a. Training Set/._1.png")
    return root


def test_columns_become_findings_of_each_part(tmp_path: Path) -> None:
    manifest = load_source("rfmid", rfmid_tree(tmp_path))
    assert sorted(manifest.readings[["image_id", "finding"]].itertuples(index=False, name=None)) == [
        ("test_1", "diabetic_retinopathy"), ("test_1", "drusen"), ("test_2", ""),
        ("train_1", "diabetic_retinopathy"), ("train_1", "media_haze"), ("train_2", ""),
        ("train_3", "macular_hole"), ("train_3", "tv"), ("train_4", "other"),
        ("val_1", ""), ("val_2", "diabetic_retinopathy"),
    ]  # fmt: skip
    images = manifest.images.set_index("image_id")
    assert images["split"].value_counts().to_dict() == {"train": 4, "val": 2, "test": 2}
    assert images.loc["test_1", "path"] == "1. Original Images/c. Testing Set/1.png"


def test_labels_are_known_and_cues_only_where_absent(tmp_path: Path) -> None:
    manifest = load_source("rfmid", rfmid_tree(tmp_path / "set"))
    prepared = prepare(manifest, tmp_path / "prepared", size=64, source="rfmid")
    labels = finding_labels(prepared, ["diabetic_retinopathy", "media_haze"], present=1)
    place = {name: at for at, name in enumerate(prepared.manifest.images["image_id"])}
    assert labels.label[place["train_1"]].tolist() == [1, 1]
    assert labels.label[place["train_2"]].tolist() == [0, 0]
    np.testing.assert_array_equal(labels.cue_known, labels.label == 0)


def test_the_nesting_of_a_copy_is_read_too(tmp_path: Path) -> None:
    text(tmp_path / "Training_Set/Training_Set/RFMiD_Training_Labels.csv", "ID,Disease_Risk,DR\n1,1,1\n")
    touch(tmp_path, "Training_Set/Training_Set/Training/1.png")
    assert load_source("rfmid", tmp_path).images["path"].tolist() == ["Training_Set/Training_Set/Training/1.png"]


def test_rfmid_elsewhere_or_with_other_cells_is_refused(tmp_path: Path) -> None:
    root = rfmid_tree(tmp_path)
    with pytest.raises(UserError, match=r"expects photographs in 'a. Training Set', .* found a. RFMiD_Training_Labels"):
        load_source("rfmid", root / "2. Groundtruths")
    text(root / "2. Groundtruths/a. RFMiD_Training_Labels.csv", "ID,Disease_Risk,DR\n1,1,2\n")
    with pytest.raises(UserError, match=r"a. RFMiD_Training_Labels.csv, line 2: DR '2' is not one of 0, 1"):
        load_source("rfmid", root)
    (root / "2. Groundtruths/a. RFMiD_Training_Labels.csv").unlink()
    with pytest.raises(UserError, match=r"no table \*RFMiD_Training_Labels.csv in it"):
        load_source("rfmid", root)


@pytest.mark.parametrize("model", ["unguided", pytest.param("guided", marks=pytest.mark.slow)])
def test_one_command_leads_from_the_folder_to_a_run_without_cues(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "data=rfmid", f"data.root={rfmid_tree(tmp_path / 'set')}", "finding=rfmid", f"model={model}"]
    words += ["finding.names=[diabetic_retinopathy]", "data.size=64", "data.workers=0", "data.num_workers=0"]
    words += ["data.batch_size=4", "model.network.width=4", "model.network.reductions=3", "run_dir=run"]
    words += ["model.network.pyramid_width=4", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    words += ["trainer.precision=32-true", "evaluation.bootstrap=20"]
    assert main(words) == 0
    table = pd.read_csv(tmp_path / "run/predictions.csv")
    assert table["image_id"].tolist() == ["test_1", "test_2"]
    assert table["label"].tolist() == [1, 0]
    assert np.isfinite(table["probability"]).all()
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())["metrics"]
    air = next(value for name, value in metrics.items() if name.endswith("air_tp"))
    assert air["value"] is None
    assert air["reason"] == "no true positives with a cue"
