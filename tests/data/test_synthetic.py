"""The synthetic eye: its labels, readings and masks match the drawn photograph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fundusnet.data.eye.lesions import FINDINGS
from fundusnet.data.manifest import Manifest
from fundusnet.data.regions import cue_mask
from fundusnet.data.sources import synthetic
from fundusnet.data.sources.synthetic import CUP_TO_DISC, load
from fundusnet.errors import UserError


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Forty small photographs whose readers never err."""
    return load(tmp_path_factory.mktemp("set") / "eyes", images=40, size=96, miss=0, false_mark=0)


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def _mask(manifest: Manifest, path: str) -> np.ndarray:
    return cv2.imread(str(manifest.root / path), cv2.IMREAD_UNCHANGED)


def test_same_seed_same_files_whatever_the_processes(tmp_path: Path) -> None:
    load(tmp_path / "one", images=6, size=64, workers=0)
    load(tmp_path / "two", images=6, size=64, workers=2)
    load(tmp_path / "other", images=6, size=64, seed=1)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert _bytes(tmp_path / "one") != _bytes(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "two"]  # no building folder left


def test_equal_parameters_are_reused_and_others_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path / "eyes", images=2, size=64)
    with pytest.raises(UserError, match=r"images 2 instead of 4.*delete it"):
        load(tmp_path / "eyes", images=4, size=64)
    monkeypatch.setattr(synthetic, "draw_photograph", None)  # drawing again would fail
    assert len(load(tmp_path / "eyes", images=2, size=64).images) == 2


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="no synthetic eyes"):
        load(tmp_path, images=2, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("wrong", [{"prevalence": 1.5}, {"findings": ["cataract"]}, {"findings": []}, {"size": 8}])
def test_wrong_parameters_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        load(tmp_path / "eyes", **wrong)  # type: ignore[arg-type]


def test_lesion_pixels_lie_in_the_regions_read(eyes: Manifest) -> None:
    points = eyes.images.set_index("image_id")
    present = eyes.lesions[eyes.lesions["path"] != ""]
    assert set(present["finding"]) == set(FINDINGS)
    for row in present.itertuples():
        mask = _mask(eyes, str(row.path)) > 0
        photograph = eyes.readings[(eyes.readings["image_id"] == row.image_id)]
        cells = photograph.loc[photograph["finding"] == row.finding, "regions"]
        place = points.loc[row.image_id]
        disc, fovea = (place["disc_x"], place["disc_y"]), (place["fovea_x"], place["fovea_y"])
        assert mask.any()
        assert len(cells) == 3
        for cell in cells:
            assert not (mask & ~cue_mask(mask.shape, disc, fovea, cell.split(";"))).any()


def test_absent_findings_are_examined_and_unmarked(eyes: Manifest) -> None:
    assert len(eyes.lesions) == len(eyes.images) * len(FINDINGS)
    absent = eyes.lesions[eyes.lesions["path"] == ""]
    marked = set(zip(eyes.readings["image_id"], eyes.readings["finding"], strict=True))
    assert not marked & set(zip(absent["image_id"], absent["finding"], strict=True))
    assert eyes.readings.groupby("image_id")["annotator_id"].nunique().eq(3).all()


def test_lesions_change_the_photograph_only_near_their_pixels(tmp_path: Path) -> None:
    healthy = load(tmp_path / "healthy", images=2, size=128, findings=["hemorrhage"], prevalence=0)
    bleeding = load(tmp_path / "bleeding", images=2, size=128, findings=["hemorrhage"], prevalence=1)
    for name, path in zip(healthy.images["path"], bleeding.lesions["path"], strict=True):
        before, after = (cv2.imread(str(which.root / name)).astype(int) for which in (healthy, bleeding))
        near = cv2.dilate(_mask(bleeding, path), np.ones((15, 15))) > 0
        change = np.abs(after - before).max(-1)
        assert change[_mask(bleeding, path) > 0].mean() > 25
        assert change[~near].mean() < 1


def test_both_eyes_of_a_patient_share_the_split_and_mirror(eyes: Manifest) -> None:
    images = eyes.images
    assert set(images["eye"]) == {"left", "right"}
    assert images.groupby("patient_id")["split"].nunique().eq(1).all()
    assert images.groupby("patient_id")["eye"].nunique().eq(2).all()
    assert images["split"].value_counts().to_dict() == {"train": 28, "val": 4, "test": 8}
    # In a photograph of the right eye the disc is on the right of the fovea.
    assert ((images["disc_x"] > images["fovea_x"]) == (images["eye"] == "right")).all()


def test_cup_grows_with_the_grade(eyes: Manifest) -> None:
    truth = pd.read_csv(eyes.root / "truth.csv").merge(eyes.images, on="image_id")
    means = truth.groupby("grade")["cup_to_disc"].mean()
    assert list(means.index) == [0, 1, 2]
    assert means.is_monotonic_increasing
    assert np.allclose(means, CUP_TO_DISC, atol=0.08)


def test_shortcut_follows_the_label_in_train_alone(tmp_path: Path) -> None:
    eyes = load(tmp_path / "eyes", images=100, size=64, findings=["hemorrhage"], shortcut=1.0, annotators=0)
    rows = eyes.images.merge(eyes.lesions, on="image_id").merge(pd.read_csv(eyes.root / "truth.csv"), on="image_id")
    agrees = (rows["mark"] == 1) == (rows["path_y"] != "")
    seen = rows["split"] != "test"
    assert agrees[seen].all()
    assert 0.3 < agrees[~seen].mean() < 0.75  # by chance 0.4² + 0.6² = 0.52
    assert 0.2 < rows.loc[~seen, "mark"].mean() < 0.6


def test_the_surround_is_black_and_the_field_is_not(eyes: Manifest) -> None:
    picture = cv2.imread(str(eyes.root / eyes.images["path"][0]))
    assert picture.shape == (96, 96, 3)
    assert picture[:4, :4].max() < 12
    assert picture[40:56, 40:56].mean() > 40
