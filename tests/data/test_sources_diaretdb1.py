"""DIARETDB1: the confidence of four experts together, read from the grey levels of the official masks."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import mask, picture, text, touch

from fundusnet.data.labels import finding_labels
from fundusnet.data.prepare import prepare
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

FOLDERS = ("hardexudates", "softexudates", "hemorrhages", "redsmalldots")
# Brightest grey level of each photograph's hard exudates: nothing, one who guesses, three and four who are certain.
LEVELS = {1: 0, 2: 21, 3: 189, 4: 252}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "diaretdb1_v_1_1/resources"
    for number, level in LEVELS.items():
        picture(base / f"images/ddb1_fundusimages/image00{number}.png", number)
        for folder in FOLDERS:
            grey = level if folder == "hardexudates" else 0
            mask(base / f"images/ddb1_groundtruth/{folder}/image00{number}.png", grey)
    touch(base, "images/ddb1_fundusimages/Thumbs.db", "images/ddb1_groundtruth/hardexudates/._image001.png")
    text(base / "traindatasets/trainset.txt", "\ufeffimage001.png\r\nimage002.png \r\nimage077.png\r\n\r\n")
    text(base / "testdatasets/testset.txt", "image003.png\nimage004.png\n")
    return base.parent


def labels(root: Path, **options: object) -> dict[str, str]:
    """Image → present, absent or undecided, of hard exudates."""
    manifest = load_source("diaretdb1", root, options)
    rows = manifest.lesions[manifest.lesions["finding"] == "hard_exudate"].set_index("image_id")["path"]
    return {
        name: ("present" if rows[name] else "absent") if name in rows else "undecided"
        for name in manifest.images["image_id"]
    }


@pytest.mark.parametrize(
    ("confidence", "present"), [(0, {2, 3, 4}), (1 / 12, {2, 3, 4}), (0.5, {3, 4}), (0.75, {3, 4}), (1, {4})]
)
def test_less_confidence_than_asked_for_leaves_a_finding_undecided(
    root: Path, confidence: float, present: set[int]
) -> None:
    expected = {f"image00{number}": "present" if number in present else "undecided" for number in LEVELS}
    assert labels(root, confidence=confidence) == expected | {"image001": "absent"}
    if confidence == 0.75:
        assert labels(root) == labels(root, confidence=confidence)


@pytest.mark.parametrize("step", range(13))
def test_every_twelfth_counts_from_its_own_confidence_on(root: Path, step: int) -> None:
    mask(root / "resources/images/ddb1_groundtruth/hardexudates/image004.png", 21 * step)
    for asked in range(1, 13):
        expected = "present" if step >= asked else "undecided" if step else "absent"
        assert labels(root, confidence=asked / 12)["image004"] == expected


def test_the_prepared_mask_holds_only_pixels_that_enough_experts_marked(root: Path, tmp_path: Path) -> None:
    file = root / "resources/images/ddb1_groundtruth/hardexudates/image004.png"
    pixels = np.zeros((96, 96), np.uint8)
    pixels[20:60, 20:60] = 63
    pixels[30:50, 30:50] = 252
    cv2.imwrite(str(file), pixels)
    shares = {}
    for confidence in (0, 0.5):
        manifest = load_source("diaretdb1", root, {"confidence": confidence})
        prepared = prepare(manifest, tmp_path / f"prepared{confidence}", size=96, source="diaretdb1")
        lesion = prepared.lesion_mask("image004", "hard_exudate")
        assert lesion is not None
        shares[confidence] = int(lesion.sum())
        assert finding_labels(prepared, ["hard_exudate"], cue="pixels").cue_known[:, 0].sum() == 4 - (confidence > 0)
    assert shares[0] / shares[0.5] == pytest.approx(4, rel=0.1)
    # The prepared set is a plain manifest: whatever is not zero is lesion.
    assert prepared.manifest.lesion_above == 0


def test_other_options_make_another_preparation(root: Path, tmp_path: Path) -> None:
    prepare(load_source("diaretdb1", root, {"confidence": 0.75}), tmp_path / "prepared", size=64, source="diaretdb1")
    with pytest.raises(UserError, match="was prepared from other photographs or settings"):
        prepare(load_source("diaretdb1", root, {"confidence": 1.0}), tmp_path / "prepared", size=64, source="diaretdb1")


def test_splits_are_the_official_ones_and_a_subset_is_logged(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        images = load_source("diaretdb1", root).images.set_index("image_id")
    assert images["split"].to_dict() == {"image001": "", "image002": "", "image003": "test", "image004": "test"}
    assert "DIARETDB1 trainset: found 2, the published set has 28" in caplog.text
    assert images.loc["image001", "path"] == "resources/images/ddb1_fundusimages/image001.png"
    inside = load_source("diaretdb1", root / "resources").images
    assert inside["path"].iloc[0] == "images/ddb1_fundusimages/image001.png"


def test_missing_and_broken_masks_are_unknown_not_absent(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    masks = root / "resources/images/ddb1_groundtruth/hardexudates"
    (masks / "image001.png").unlink()
    (masks / "image004.png").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        found = labels(root)
    assert found == {
        "image001": "undecided", "image002": "undecided", "image003": "present", "image004": "undecided",
    }  # fmt: skip
    assert "1 masks are missing" in caplog.text
    assert "image004.png: file is not a picture" in caplog.text


def test_wrong_roots_lists_and_options_are_refused(root: Path) -> None:
    with pytest.raises(
        UserError, match=r"expects a folder images/ddb1_fundusimages, found in .*: testdatasets/, traind"
    ):
        (root / "resources/images").rename(root / "pictures")
        load_source("diaretdb1", root)
    (root / "pictures").rename(root / "resources/images")
    for confidence in (-0.1, 1.5):
        with pytest.raises(UserError, match=f"confidence={confidence} is not 0 to 1"):
            load_source("diaretdb1", root, {"confidence": confidence})
    (root / "resources/images/ddb1_groundtruth/redsmalldots").rename(root / "put_away")
    with pytest.raises(UserError, match=r"expects a folder images/ddb1_groundtruth/redsmalldots"):
        load_source("diaretdb1", root)
    (root / "put_away").rename(root / "resources/images/ddb1_groundtruth/redsmalldots")
    (root / "resources/testdatasets/testset.txt").unlink()
    with pytest.raises(UserError, match=r"testset.txt is missing, found in .*: nothing"):
        load_source("diaretdb1", root)
