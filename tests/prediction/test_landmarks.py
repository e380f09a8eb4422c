"""Disc and fovea by the network of the package: ``checkpoint=landmarks``."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fundusnet
from fundusnet.cli.main import main
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError
from fundusnet.landmarks.localizer import shipped
from fundusnet.prediction.inputs import find_checkpoint
from fundusnet.prediction.landmarks import LandmarksPredictor

LEFT, ABOVE = 200, 30  # black border around a drawn eye, so that its frame differs from the photograph's


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn eyes with a border, and a disc of noise that shows neither point."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("landmarks")
    manifest = load_source("synthetic", place / "eyes", {"images": 2, "size": 384, "seed": 3})
    folder = place / "photographs"
    folder.mkdir()
    for row in manifest.images.itertuples():
        drawn = cv2.imread(str(manifest.root / row.path))
        cv2.imwrite(str(folder / f"{row.image_id}.png"), np.pad(drawn, ((ABOVE, 60), (LEFT, 10), (0, 0))))
    y, x = np.mgrid[:300, :300]
    noise = np.random.default_rng(0).integers(40, 200, (300, 300, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise * (np.hypot(x - 150, y - 150) < 140)[..., None].astype(np.uint8))
    return folder


def test_points_are_where_they_were_drawn_in_pixels_of_the_photograph(photographs: Path, tmp_path: Path) -> None:
    output = tmp_path / "points"
    assert main(["predict", "checkpoint=landmarks", f"input={photographs}", f"output={output}", "workers=0"]) == 0
    rows = {(row["image_id"], row["landmark"]): row for row in csv.DictReader((output / "predictions.csv").open())}
    assert len(rows) == 6
    eyes = load_source("synthetic", photographs.parent / "eyes", {"images": 2, "size": 384, "seed": 3}).images
    for eye in eyes.itertuples():
        radius = np.hypot(eye.disc_x - eye.fovea_x, eye.disc_y - eye.fovea_y) / 5
        for name, true in (("disc", (eye.disc_x, eye.disc_y)), ("fovea", (eye.fovea_x, eye.fovea_y))):
            row = rows[eye.image_id, name]
            assert row["predicted"] == "1" and 0.5 < float(row["probability"]) <= 1
            assert np.hypot(float(row["x"]) - true[0] - LEFT, float(row["y"]) - true[1] - ABOVE) < radius
    for name in ("disc", "fovea"):
        assert (rows["noise", name]["predicted"], rows["noise", name]["x"]) == ("0", "")
    page = (output / "report.html").read_text()
    assert (
        "Disc and fovea</h2>" in page
        and "Comes with fundusnet" in page
        and "activation" not in page.split("<style>")[0]
    )
    regions = {file.name for file in (output / "report").glob("*regions*.svg")}
    assert len(regions) == 2 and not any("noise" in name for name in regions)
    assert not (output / "heatmaps").exists()


def test_it_is_the_localiser_of_the_package(photographs: Path) -> None:
    predictor = fundusnet.load("landmarks", device="cpu")
    assert isinstance(predictor, LandmarksPredictor)
    paths = sorted(photographs.iterdir())
    for path, result in zip(paths, predictor.predict(paths), strict=True):
        alone = shipped()(cv2.imread(str(path))[:, :, ::-1])
        for found, expected in ((result.landmarks.disc, alone.disc), (result.landmarks.fovea, alone.fovea)):
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert (found.x, found.y) == pytest.approx((expected.x, expected.y), abs=0.01)
                assert found.confidence == pytest.approx(expected.confidence, abs=1e-4)


def test_a_file_of_the_users_own_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "landmarks").write_bytes(b"weights")
    assert find_checkpoint(Path("landmarks")) == Path("landmarks")


def test_what_has_no_meaning_for_points_is_refused(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="predict with one of them"):
        fundusnet.load(["landmarks", "landmarks"])
    words = ["predict", "checkpoint=landmarks", f"input={photographs}", f"output={tmp_path}/points", "dicom=true"]
    assert main(words) == 2
    assert "this network finds disc and fovea" in capsys.readouterr().err
