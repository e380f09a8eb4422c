"""DDR: graded and segmented parts in miniature, with a folder of another name and the ungradable grade."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from layouts import text, touch

from fundusnet.data.manifest import Manifest
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

LETTERS = ("EX", "HE", "MA", "SE")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    graded = tmp_path / "DR_grading"
    text(graded / "train.txt", "\ufeff007-0001-000.jpg 0\r\n007-0002-000.jpg 4 \r\n007-0003-000.jpg 5\r\n\r\n")
    text(graded / "valid.txt", "007-0004-000.jpg 1\n007-9999-000.jpg 2\n")
    text(graded / "test.txt", "007-0005-000.jpg 0\n")
    touch(
        graded, "train/007-0001-000.jpg", "train/007-0002-000.jpg", "train/007-0003-000.jpg",
        "train/._007-0001-000.jpg", "valid/007-0004-000.jpg", "test/007-0005-000.jpg",
    )  # fmt: skip
    base = tmp_path / "lesion_segmentation"
    for part, label, number in (("train", "label", 11), ("valid", "segmentation label", 12), ("test", "label", 11)):
        touch(base, f"{part}/image/007-00{number}-100.jpg")
        touch(base, *(f"{part}/{label}/{letters}/007-00{number}-100.tif" for letters in LETTERS))
    (base / "test/label/SE/007-0011-100.tif").unlink()
    return tmp_path


def load(root: Path, **options: object) -> Manifest:
    return load_source("ddr", root, options)


def test_grading_leaves_the_ungradable_out_and_keeps_the_official_splits(root: Path) -> None:
    manifest = load(root, task="grading")
    images = manifest.images.set_index("image_id")
    assert images["grade"].to_dict() == {
        "G_train_007-0001-000": 0, "G_train_007-0002-000": 4, "G_val_007-0004-000": 1, "G_test_007-0005-000": 0,
    }  # fmt: skip
    assert images["split"].tolist() == ["train", "train", "val", "test"]
    assert manifest.classes == ("none", "mild", "moderate", "severe", "proliferative")


def test_masks_are_found_in_either_folder_and_a_missing_one_is_undecided(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = load(root)
    assert manifest.images["image_id"].tolist() == ["S_train_007-0011-100", "S_val_007-0012-100", "S_test_007-0011-100"]
    found = {(row.image_id, row.finding): row.path for row in manifest.lesions.itertuples()}
    assert found["S_val_007-0012-100", "cotton_wool_patch"] == (
        "lesion_segmentation/valid/segmentation label/SE/007-0012-100.tif"
    )
    assert ("S_test_007-0011-100", "cotton_wool_patch") not in found
    assert len(found) == 11
    assert "1 of 1 masks are missing" in caplog.text
    assert "DDR lesion_segmentation train: found 1, the published set has 383" in caplog.text


def test_healthy_eyes_lack_every_finding_if_asked_for(root: Path) -> None:
    manifest = load(root, negatives="both")
    healthy = manifest.lesions[manifest.lesions["image_id"].str.startswith("G_")]
    assert set(healthy["image_id"]) == {"G_train_007-0001-000", "G_test_007-0005-000"}
    assert len(healthy) == 8
    assert set(healthy["path"]) == {""}
    assert len(manifest.images) == 5


def test_either_part_does_without_the_other(root: Path) -> None:
    (root / "DR_grading").rename(root / "put_away")
    assert len(load(root).images) == 3
    with pytest.raises(UserError, match=r"expects a folder DR_grading, found lesion_segmentation/, put_away/"):
        load(root, task="grading")
    (root / "lesion_segmentation").rename(root / "put_away_too")
    with pytest.raises(UserError, match=r"expects a folder lesion_segmentation"):
        load(root)


def test_wrong_lists_masks_and_options_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"source=ddr: data\.options\.task=grade is not valid; use findings or grading"):
        load(root, task="grade")
    with pytest.raises(UserError, match="negatives=grade0 is not valid; use within or both"):
        load(root, negatives="grade0")
    text(root / "DR_grading/train.txt", "007-0001-000.jpg 0\n007-0002-000.jpg 01\n")
    with pytest.raises(UserError, match=r"train.txt, line 2: '007-0002-000.jpg 01' is not a file and a grade"):
        load(root, task="grading")
    (root / "lesion_segmentation/train/label").rename(root / "lesion_segmentation/train/labels")
    with pytest.raises(UserError, match=r"no folder label or segmentation label with the masks, found image/, labels/"):
        load(root)
