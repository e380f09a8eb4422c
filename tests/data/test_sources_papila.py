"""PAPILA: a miniature in the official layout, with its two header rows, stray copies and codes out of order."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from layouts import picture, sheet, text, touch

from fundusnet.cli.main import main
from fundusnet.data.manifest import read_manifest, write_manifest
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

# The second header row names what the first leaves to merged cells; the third is bare.
HEADER = [
    [None, "Age", "Gender", "Diagnosis", "Refractive_Defect", None, "VF_MD"],
    [None, "Age", "Gender", "Diagnosis", "dioptre_1", "dioptre_2", "VF_MD"],
    ["ID", None, None, None, None, None, None],
]


def clinical(root: Path, letters: str, diagnoses: dict[str, object]) -> None:
    rows = [[name, 60, 0, code, 0.5, None, None] for name, code in diagnoses.items()]
    sheet(root / f"ClinicalData/patient_data_{letters}.xlsx", [*HEADER, *rows])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    clinical(tmp_path, "od", {"#002": 2, "#004": 1, "#250": 0})
    clinical(tmp_path, "os", {"#002": 0, "#004": 1, "#250": None})
    touch(
        tmp_path, "FundusImages/RET002OD.jpg", "FundusImages/RET002OS.jpg", "FundusImages/RET004OD.jpg",
        "FundusImages/RET250OD.jpg", "FundusImages/RET250OS.jpg", "FundusImages/._RET002OD.jpg",
        "FundusImages/Thumbs.db",
    )  # fmt: skip
    contours = tmp_path / "ExpertsSegmentations/Contours"
    text(contours / "RET002OD_disc_exp1.txt", "10 20\n30 20\n30 40\n10 40\n")  # centre (20, 30)
    # Twice as many points on one side: the centre of the area, not of the points.
    text(contours / "RET002OD_disc_exp2.txt", "20 20\n30 20\n40 20\n40 40\n20 40\n")  # centre (30, 30)
    text(contours / "RET002OD_disc_exp1 2.txt", "900 900\n901 900\n901 901\n")
    text(contours / "RET002OS_disc_exp1 2.txt", "900 900\n901 900\n901 901\n")
    text(contours / "RET002OD_cup_exp1.txt", "0 0\n1 0\n1 1\n")
    return tmp_path


def test_codes_are_put_in_order_of_severity_and_both_eyes_share_a_patient(root: Path) -> None:
    manifest = load_source("papila", root)
    images = manifest.images.set_index("image_id")
    assert manifest.classes == ("healthy", "suspect", "glaucoma")
    assert images["grade"].to_dict() == {"RET002OD": 1, "RET002OS": 0, "RET004OD": 2, "RET250OD": 0}
    assert images["patient_id"].to_dict() == {
        "RET002OD": "002", "RET002OS": "002", "RET004OD": "004", "RET250OD": "250",
    }  # fmt: skip
    assert images["eye"].to_dict() == {
        "RET002OD": "right",
        "RET002OS": "left",
        "RET004OD": "right",
        "RET250OD": "right",
    }
    assert images.loc["RET002OD", "path"] == "FundusImages/RET002OD.jpg"


def test_disc_is_the_mean_of_the_experts_areas_without_stray_copies(root: Path) -> None:
    images = load_source("papila", root).images.set_index("image_id")
    assert images.loc["RET002OD", ["disc_x", "disc_y"]].tolist() == pytest.approx([25, 30])
    assert images.loc["RET002OS", ["disc_x", "fovea_x"]].isna().all()


def test_a_subset_is_logged_not_refused(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_source("papila", root)
    assert "PAPILA healthy: found 2, the published set has 333" in caplog.text
    assert "RET004OS has a diagnosis and no photograph" in caplog.text


def test_the_manifest_survives_the_checks_of_a_written_one(root: Path, tmp_path: Path) -> None:
    manifest = load_source("papila", root)
    write_manifest(manifest, tmp_path / "manifest")
    read = read_manifest(tmp_path / "manifest", manifest.classes)
    pd.testing.assert_frame_equal(read.images, manifest.images, check_dtype=False, atol=1e-3)


def test_wrong_roots_codes_and_contours_say_what_is_wrong(root: Path) -> None:
    with pytest.raises(UserError, match=r"expects folders FundusImages and ClinicalData, found RET002OD.jpg"):
        load_source("papila", root / "FundusImages")
    text(root / "ExpertsSegmentations/Contours/RET002OD_disc_exp1.txt", "10 20\n30\n")
    with pytest.raises(UserError, match=r"RET002OD_disc_exp1.txt is not a table of x and y"):
        load_source("papila", root)
    text(root / "ExpertsSegmentations/Contours/RET002OD_disc_exp1.txt", "10 20 30\n")
    with pytest.raises(UserError, match=r"RET002OD_disc_exp1.txt is not a table of x and y: it has shape \(1, 3\)"):
        load_source("papila", root)
    (root / "ExpertsSegmentations/Contours/RET002OD_disc_exp1.txt").unlink()
    clinical(root, "od", {"#002": 3})
    with pytest.raises(UserError, match=r"patient_data_od.xlsx, line 4: Diagnosis '3' is not one of 0, 2, 1"):
        load_source("papila", root)
    (root / "ClinicalData/patient_data_od.xlsx").unlink()
    with pytest.raises(UserError, match=r"patient_data_od.xlsx is missing, found in .*: patient_data_os.xlsx"):
        load_source("papila", root)


def test_photographs_of_other_names_are_not_taken_for_an_empty_set(root: Path) -> None:
    for file in (root / "FundusImages").glob("RET*.jpg"):
        file.rename(file.with_name(file.name.replace("RET", "eye")))
    with pytest.raises(UserError, match=r"no photograph named in ClinicalData .* found Thumbs.db, eye002OD.jpg"):
        load_source("papila", root)


def test_one_command_leads_from_the_folder_to_a_graded_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for letters, shift in (("od", 0), ("os", 1)):
        clinical(tmp_path / "set", letters, {f"#{number:03d}": (number + shift) % 3 for number in range(1, 25)})
        for number in range(1, 25):
            file = tmp_path / f"set/FundusImages/RET{number:03d}{letters.upper()}.jpg"
            picture(file, 100 * number + shift)
    words = [
        "train",
        "experiment=paper_grading_ranking",
        "data=papila",
        "data.root=set",
        "data.size=64",
        "data.workers=0",
    ]
    words += ["data.num_workers=0", "data.batch_size=8", "data.fractions=[0.5,0.25,0.25]", "run_dir=run"]
    words += ["model.network.backbone=test_resnet", "model.network.hidden=8", "model.network.pretrained=false"]
    words += ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "evaluation.bootstrap=20"]
    assert main(words) == 0
    results = json.loads((tmp_path / "run/metrics.json").read_text())
    assert results["metrics"]["recall_suspect"]["value"] is not None
    table = pd.read_csv(tmp_path / "run/predictions.csv", dtype={"patient_id": str})
    assert set(table["grade"]) == {0, 1, 2}
    assert (table.groupby("patient_id").size() == 2).all(), "both eyes of a patient are in one split"
