"""AIROGS and JustRAIGS: referable glaucoma, the graders' reasons, and the fellow eye."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import text, touch

from fundusnet.data.consensus import consensus
from fundusnet.data.manifest import Manifest
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

FEATURES = ("ANRS", "ANRI", "RNFLDS", "RNFLDI", "BCLVS", "BCLVI", "NVT", "DH", "LD", "LC")
GRADERS = ("G1", "G2", "G3")


def test_airogs_grades_by_class_wherever_the_photographs_are(tmp_path: Path) -> None:
    text(tmp_path / "train_labels.csv", "challenge_id,class\nTRAIN000000,NRG\nTRAIN000001,RG\n")
    touch(tmp_path, "0/TRAIN000000.jpg", "1/TRAIN000001.JPG")
    manifest = load_source("airogs", tmp_path)
    assert manifest.images.set_index("path")["grade"].to_dict() == {"0/TRAIN000000.jpg": 0, "1/TRAIN000001.JPG": 1}
    assert manifest.classes == ("no_referable_glaucoma", "referable_glaucoma")
    text(tmp_path / "train_labels.csv", "challenge_id,class\nTRAIN000000,U\n")
    with pytest.raises(UserError, match=r"train_labels.csv, line 2: class 'U' is not one of NRG, RG"):
        load_source("airogs", tmp_path)
    with pytest.raises(UserError, match=r"no table train_labels.csv or .* in it, found TRAIN000000.jpg"):
        load_source("airogs", tmp_path / "0")


def eye(name: str, final: str, fellow: str, **graders: tuple[str, str]) -> str:
    """One line: each grader's label and the features that they checked."""
    labels = [graders.get(grader, ("", ""))[0] for grader in GRADERS]
    marks = []
    for grader in GRADERS:
        label, checked = graders.get(grader, ("", ""))
        marks += [("1" if feature in checked.split() else "0") if label == "RG" else "" for feature in FEATURES]
    return ";".join([name, final, fellow, "60", *labels, *marks])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    header = ["Eye ID", "Final Label", "Fellow Eye ID", "Age", *(f"Label {grader}" for grader in GRADERS)]
    header += [f"{grader} {feature}" for grader in GRADERS for feature in FEATURES]
    lines = [
        eye("TRAIN000000", "RG", "TRAIN000001", G1=("RG", "RNFLDS LC"), G2=("RG", "RNFLDI DH")),
        eye("TRAIN000001", "NRG", "TRAIN000000", G1=("NRG", ""), G2=("NRG", "")),
        eye("TRAIN000002", "RG", "", G1=("RG", "LC"), G2=("NRG", ""), G3=("RG", "LC NVT")),
        eye("TRAIN000003", "NRG", "TRAIN000009", G1=("RG", "LC"), G2=("NRG", ""), G3=("NRG", "")),
        eye("TRAIN000004", "RG", "", G1=("RG", ""), G2=("RG", "ANRI")),
        eye("TRAIN000005", "UR", "", G1=("UR", ""), G2=("UR", "")),
    ]
    text(tmp_path / "JustRAIGS_Train_labels.csv", "\ufeff" + "\r\n".join([";".join(header), *lines]) + "\r\n")
    return touch(tmp_path, *(f"train/{number}/TRAIN00000{number}.JPG" for number in range(6)))


def load(root: Path, **options: object) -> Manifest:
    return load_source("justraigs", root, options)


def test_fellow_eyes_share_a_patient_and_the_rest_are_alone(root: Path) -> None:
    images = load(root, task="grading").images.set_index("image_id")
    assert images["grade"].to_dict() == {
        "TRAIN000000": 1, "TRAIN000001": 0, "TRAIN000002": 1, "TRAIN000003": 0, "TRAIN000004": 1,
    }  # fmt: skip
    assert images.loc["TRAIN000000", "patient_id"] == images.loc["TRAIN000001", "patient_id"]
    assert images["patient_id"].nunique() == 4


def test_grading_needs_none_of_the_graders_columns(root: Path) -> None:
    text(root / "JustRAIGS_Train_labels.csv", "Eye ID;Final Label\nTRAIN000000;RG\nTRAIN000001;NRG\n")
    assert load(root, task="grading").images["grade"].tolist() == [1, 0]
    with pytest.raises(UserError, match="no column 'Label G1', found Eye ID, Final Label"):
        load(root)


def test_each_grader_who_called_it_referable_gives_a_reading(root: Path) -> None:
    readings = load(root).readings
    rows = set(readings[["image_id", "annotator_id", "finding"]].itertuples(index=False, name=None))
    assert rows == {
        ("TRAIN000000", "G1", "rnfl_defect"), ("TRAIN000000", "G1", "large_cup"),
        ("TRAIN000000", "G2", "rnfl_defect"), ("TRAIN000000", "G2", "disc_hemorrhage"),
        ("TRAIN000002", "G1", "large_cup"), ("TRAIN000002", "G3", "large_cup"),
        ("TRAIN000002", "G3", "nasalisation_of_vessel_trunk"),
        ("TRAIN000004", "G1", ""), ("TRAIN000004", "G2", "neuroretinal_rim_change"),
    }  # fmt: skip
    table = consensus(readings).set_index(["image_id", "finding"])["label"]
    assert table["TRAIN000000", "rnfl_defect"] == "present"  # superior for one, inferior for the other
    assert table["TRAIN000000", "disc_hemorrhage"] == "undecided"
    assert table["TRAIN000004", "large_cup"] == "absent"


def test_not_referable_counts_as_no_feature_if_asked_for(root: Path) -> None:
    manifest = load(root, negatives="both")
    assert len(manifest.images) == 5
    rows = manifest.readings.set_index("image_id")
    assert rows.loc["TRAIN000001", "finding"].tolist() == ["", ""]
    assert rows.loc["TRAIN000003", ["annotator_id", "finding"]].to_numpy().tolist() == [
        ["G1", "large_cup"], ["G2", ""], ["G3", ""],
    ]  # fmt: skip


def test_wrong_options_and_folders_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match="task=features is not valid; use findings or grading"):
        load(root, task="features")
    with pytest.raises(UserError, match="negatives=all is not valid; use within or both"):
        load(root, negatives="all")
    (root / "train").rename(root.parent / "put_away")
    with pytest.raises(UserError, match="none of its 5 photographs such as 'TRAIN000000' is in"):
        load(root)
