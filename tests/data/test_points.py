"""Points that a source does not give and that are found while its photographs are prepared."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fundusnet.data.manifest import Manifest, images_table, read_manifest, write_manifest
from fundusnet.data.prepare import prepare, prepare_jobs
from fundusnet.data.prepared import open_prepared
from fundusnet.data.versions import Record

SIZE = 64
BRIGHT, DARK = (250, 250, 120), (60, 20, 20)


def locate(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """The brightest spot is the disc, and a fovea is never found."""
    y, x = np.unravel_index(int(pixels.sum(axis=2).argmax()), pixels.shape[:2])
    return float(x), float(y), math.nan, math.nan


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Three eyes of 128 pixels whose disc is at (90, 50): without points, with a fovea, with both points."""
    rows = []
    for number in range(3):
        picture = np.full((128, 128, 3), 90, dtype=np.uint8)
        picture[:, :, 0] += np.uint8(30 * number)
        cv2.circle(picture, (90, 50), 5, BRIGHT, -1)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture[..., ::-1])
        rows.append({"image_id": f"eye{number}", "path": f"{number}.png"})
    rows[1] |= {"fovea_x": 40.0, "fovea_y": 60.0}
    rows[2] |= {"disc_x": 20.0, "disc_y": 20.0, "fovea_x": 40.0, "fovea_y": 60.0}
    readings = pd.DataFrame(
        [("eye0", "a", "drusen", "macula"), ("eye2", "a", "drusen", "macula")],
        columns=["image_id", "annotator_id", "finding", "regions"],
    )
    return Manifest(tmp_path, images_table(rows), readings=readings)  # type: ignore[arg-type]


def test_only_missing_points_are_found_and_said_to_be(manifest: Manifest, tmp_path: Path) -> None:
    made = prepare(manifest, tmp_path / "set", size=SIZE, locate=locate)
    images = made.manifest.images
    assert images["disc_origin"].tolist() == ["localised", "localised", "given"]
    assert images["fovea_origin"].tolist() == ["", "given", "given"]
    assert made.localised.tolist() == [[True, False], [True, False], [False, False]]
    assert np.allclose(images[["disc_x", "disc_y"]].iloc[:2], (90 / 2, 50 / 2), atol=3)
    assert images["disc_x"][2] == pytest.approx(20 / 2, abs=0.5)
    assert images["fovea_x"].isna().tolist() == [True, False, False]
    assert images["eye"].tolist() == ["", "right", "left"], "the disc is nasal of the fovea"
    assert np.allclose(made.scale, SIZE / 128)
    counts = made.info["counts"]
    assert (counts["localised"], counts["readings_on_localised"]) == (2, 1)


def test_without_a_localiser_points_stay_unknown(manifest: Manifest, tmp_path: Path) -> None:
    made = prepare(manifest, tmp_path / "set", size=SIZE)
    assert made.manifest.images["disc_x"].isna().tolist() == [True, True, False]
    assert not made.localised.any()


def test_a_set_made_without_one_is_no_source_of_its_rows(manifest: Manifest, tmp_path: Path) -> None:
    """Else photographs taken over would keep their unknown points."""
    without = Record(prepare(manifest, tmp_path / "set", size=SIZE))
    jobs = prepare_jobs(manifest, tmp_path, SIZE)
    assert without.is_current(jobs)
    assert not without.is_current([replace(job, locate=locate) for job in jobs])


def test_found_points_are_taken_over_with_their_photographs(manifest: Manifest, tmp_path: Path) -> None:
    earlier = prepare(manifest, tmp_path / "set", size=SIZE, locate=locate)
    cv2.imwrite(str(tmp_path / "3.png"), np.full((128, 128, 3), 70, dtype=np.uint8))
    more = pd.concat([manifest.images, images_table([{"image_id": "eye3", "path": "3.png"}])], ignore_index=True)
    later = prepare(replace(manifest, images=more), tmp_path / "later", size=SIZE, locate=locate, earlier=earlier)
    columns = ["disc_x", "disc_y", "disc_origin", "fovea_origin", "scale"]
    assert later.manifest.images[columns].iloc[:3].equals(earlier.manifest.images[columns])


def test_an_origin_that_a_source_gives_is_kept(manifest: Manifest, tmp_path: Path) -> None:
    images = manifest.images.assign(disc_origin=["", "", "placed"], fovea_origin=["", "placed", ""])
    write_manifest(replace(manifest, images=images), tmp_path)
    read = read_manifest(tmp_path)
    assert read.images["disc_origin"].tolist() == ["", "", "placed"]
    made = prepare(read, tmp_path / "set", size=SIZE, locate=locate)
    assert made.manifest.images["disc_origin"].tolist() == ["localised", "localised", "placed"]
    assert made.manifest.images["fovea_origin"].tolist() == ["", "placed", "given"]


def test_sets_from_before_open(manifest: Manifest, tmp_path: Path) -> None:
    made = prepare(manifest, tmp_path / "set", size=SIZE)
    file = made.folder / "manifest" / "images.csv"
    old = pd.read_csv(file, dtype=str, keep_default_na=False)
    old.drop(columns=["disc_origin", "fovea_origin", "scale"]).to_csv(file, index=False)
    record = made.folder / "record.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    for line in lines:
        del line["result"]["localised"], line["result"]["scale"]
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    opened = open_prepared(made.folder)
    assert not opened.localised.any() and np.isnan(opened.scale).all()
    assert Record(opened).is_current(prepare_jobs(manifest, tmp_path, SIZE))
