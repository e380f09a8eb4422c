"""REFUGE: a miniature of the three parts, nested as the archives unpack."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import sheet, touch

from fundusnet.data.sources import load_source
from fundusnet.errors import UserError


def disc_cup(file: Path, disc: tuple[int, int], cup: tuple[int, int]) -> None:
    """255 background, 128 disc, 0 cup: the cup lies in the disc, off its middle."""
    pixels = np.full((60, 80), 255, np.uint8)
    cv2.rectangle(pixels, (disc[0] - 8, disc[1] - 8), (disc[0] + 8, disc[1] + 8), 128, -1)
    cv2.rectangle(pixels, (cup[0] - 3, cup[1] - 3), (cup[0] + 3, cup[1] + 3), 0, -1)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), pixels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(
        tmp_path, "REFUGE-Training400/Training400/Glaucoma/g0001.jpg",
        "REFUGE-Training400/Training400/Non-Glaucoma/n0001.jpg", "REFUGE-Training400/Training400/AMD/A0001.jpg",
        "__MACOSX/Training400/Glaucoma/g0009.jpg", "REFUGE-Training400/Training400/Glaucoma/Thumbs.db",
        "REFUGE-Validation400/REFUGE-Validation400/V0001.jpg", "REFUGE-Validation400/REFUGE-Validation400/V0002.jpg",
        "Test400/T0001.jpg", "Test400/T0002.jpg",
    )  # fmt: skip
    truth = tmp_path / "Annotation-Training400/Annotation-Training400"
    disc_cup(truth / "Disc_Cup_Masks/Glaucoma/g0001.bmp", (60, 30), (63, 33))
    disc_cup(truth / "Disc_Cup_Masks/Non-Glaucoma/n0001.bmp", (20, 30), (20, 30))
    sheet(
        truth / "Fovea_location.xlsx",
        [["ID", "ImgName", "Fovea_X", "Fovea_Y"], [1, "g0001.jpg", 30.5, 31], [2, "n0001.jpg", 50, 32]],
    )
    truth = tmp_path / "REFUGE-Validation400-GT"
    disc_cup(truth / "Disc_Cup_Masks/V0001.bmp", (60, 30), (60, 30))
    sheet(
        truth / "Fovea_locations.xlsx",
        [
            ["ID", "ImgName", "Glaucoma Label", "Fovea_X", "Fovea_Y"],
            [1, "V0001.jpg", 1, 30, 31],
            [2, "V0002.jpg", 0, 50, 32],
            [3, "V0003.jpg", 0, 50, 32],
        ],
    )
    sheet(
        tmp_path / "REFUGE-Test-GT/Glaucoma_label_and_Fovea_location.xlsx",
        [
            ["ID", "ImgName", "Label(Glaucoma=1)", "Fovea_X", "Fovea_Y"],
            [1, "T0001.jpg", 0, 30, 31],
            [2, "T0002.jpg", 1, 50, 32],
        ],
    )
    disc_cup(tmp_path / "REFUGE-Test-GT/Disc_Cup_Masks/G/T0002.bmp", (20, 30), (20, 30))
    return tmp_path


def test_labels_come_from_folders_in_training_and_from_tables_elsewhere(root: Path) -> None:
    manifest = load_source("refuge", root)
    images = manifest.images.set_index("image_id")
    assert images["grade"].to_dict() == {"g0001": 1, "n0001": 0, "V0001": 1, "V0002": 0, "T0001": 0, "T0002": 1}
    assert images["split"].to_dict() == {
        "g0001": "train", "n0001": "train", "V0001": "val", "V0002": "val", "T0001": "test", "T0002": "test",
    }  # fmt: skip
    assert manifest.classes == ("non_glaucoma", "glaucoma")
    assert images.loc["g0001", "path"] == "REFUGE-Training400/Training400/Glaucoma/g0001.jpg"


def test_the_disc_includes_its_cup_and_with_the_fovea_tells_the_eye(root: Path) -> None:
    images = load_source("refuge", root).images.set_index("image_id")
    assert images.loc["g0001", ["disc_x", "disc_y", "fovea_x", "fovea_y"]].tolist() == [60, 30, 30.5, 31]
    assert images["eye"].to_dict() == {
        "g0001": "right", "n0001": "left", "V0001": "right", "V0002": "", "T0001": "", "T0002": "left",
    }  # fmt: skip
    assert images.loc["V0002", ["disc_x", "disc_y"]].isna().all()


def test_folders_that_are_neither_class_are_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        images = load_source("refuge", root).images
    assert "A0001" not in set(images["image_id"])
    assert "A0001.jpg left out, it is in neither Glaucoma nor Non-Glaucoma" in caplog.text
    assert "REFUGE train: found 2, the published set has 400" in caplog.text


def test_one_part_alone_is_read_and_a_part_without_labels_refused(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(root / "REFUGE-Validation400")
    (root / "Annotation-Training400/Annotation-Training400/Fovea_location.xlsx").unlink()
    with caplog.at_level(logging.WARNING):
        images = load_source("refuge", root).images.set_index("image_id")
    assert set(images["split"]) == {"train", "test"}
    assert images.loc["g0001", "grade"] == 1
    assert images.loc["g0001", ["fovea_x"]].isna().all()
    assert "foveas stay unknown" in caplog.text
    (root / "REFUGE-Test-GT/Glaucoma_label_and_Fovea_location.xlsx").unlink()
    with pytest.raises(UserError, match=r"no table Glaucoma_label_and_Fovea_location.xlsx in it"):
        load_source("refuge", root)


def test_a_wrong_root_or_label_says_what_was_expected(root: Path) -> None:
    with pytest.raises(
        UserError, match=r"expects photographs in Training400, REFUGE-Validation400, Test400, found AMD/"
    ):
        load_source("refuge", root / "REFUGE-Training400/Training400")
    sheet(
        root / "REFUGE-Test-GT/Glaucoma_label_and_Fovea_location.xlsx",
        [["ID", "ImgName", "Label(Glaucoma=1)", "Fovea_X", "Fovea_Y"], [1, "T0001.jpg", 2, 30, 31]],
    )
    with pytest.raises(UserError, match=r"line 2: Glaucoma Label '2' is not one of 0, 1"):
        load_source("refuge", root)
