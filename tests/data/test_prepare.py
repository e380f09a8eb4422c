"""Preparation: the prepared frame, unreadable files, near-identical photographs, and resuming."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fundusnet.data.decode import Unreadable
from fundusnet.data.manifest import (
    LESION_COLUMNS,
    READING_COLUMNS,
    Manifest,
    images_table,
    read_manifest,
    write_manifest,
)
from fundusnet.data.prepare import prepare
from fundusnet.data.prepare_one import read_field
from fundusnet.data.prepared import open_prepared
from fundusnet.errors import UserError


def eye(seed: int, height: int = 240, width: int = 320, radius: int = 100) -> np.ndarray:
    """A lit disc with random vessels on black."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.uint8)
    cv2.circle(pixels, (width // 2, height // 2), radius, (170, 80, 40), -1)
    for _ in range(12):
        ends = rng.integers(-60, 60, (2, 2)) + np.array([width // 2, height // 2])
        cv2.line(pixels, ends[0].tolist(), ends[1].tolist(), (110, 30, 20), int(rng.integers(2, 6)))
    return pixels


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six good photographs (0 and 5 twins), each with points, one with masks."""
    root = tmp_path / "source"
    root.mkdir()
    rows: list[dict[str, object]] = []
    for number in range(6):
        Image.fromarray(eye(number % 5)).save(root / f"é{number}.jpg", quality=95 - number)
        points = {"disc_x": 110.0, "disc_y": 120.0, "fovea_x": 190.0, "fovea_y": 125.0}
        rows.append({"image_id": f"i{number}", "path": f"é{number}.jpg"} | points)
    mask = np.zeros((240, 320), np.uint8)
    mask[120, 110] = 255
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray(mask[:100]).save(root / "short.png")
    lesions = [
        ("i1", "hemorrhage", "mask.png"),
        ("i1", "drusen", ""),
        ("i2", "hemorrhage", "short.png"),
        ("i3", "hemorrhage", "nowhere.png"),
    ]
    return Manifest(root, images_table(rows), lesions=pd.DataFrame(lesions, columns=list(LESION_COLUMNS)))


def fingerprints(folder: Path) -> dict[str, str]:
    """Digest of every file of a prepared set."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_points_and_masks_move_with_the_pixels(manifest: Manifest, tmp_path: Path) -> None:
    prepared = prepare(manifest, tmp_path / "set", size=64)
    assert prepared.pixels.shape == (6, 64, 64, 3)
    images = prepared.manifest.images
    # The field is 201 pixels wide around (160, 120), so a pixel shrinks to 64 / 201.
    assert np.allclose(images["disc_x"], 31.5 + (110 - 160) * 64 / 201, atol=0.6)
    assert np.allclose(images["fovea_y"], 31.5 + (125 - 120) * 64 / 201, atol=0.6)
    mask = prepared.lesion_mask("i1", "hemorrhage")
    assert mask is not None and mask.sum() == 1, "a lesion of one pixel survives"
    y, x = np.argwhere(mask)[0]
    assert abs(x - images["disc_x"][1]) <= 0.51 and abs(y - images["disc_y"][1]) <= 0.51
    absent = prepared.lesion_mask("i1", "drusen")
    assert absent is not None and not absent.any()
    assert prepared.lesion_mask("i0", "hemorrhage") is None
    assert prepared.lesion_mask("i2", "hemorrhage") is None, "a mask of another size leaves the finding unknown"
    rejected = pd.read_csv(tmp_path / "set" / "rejected.csv").set_index("path")["reason"]
    assert "100" in rejected["short.png"] and "missing" in rejected["nowhere.png"]


def test_a_mask_of_a_photograph_with_a_long_name_has_a_file(manifest: Manifest, tmp_path: Path) -> None:
    long = "é" * 126
    for table in (manifest.images, manifest.lesions):
        table["image_id"] = table["image_id"].replace("i1", long)
    mask = prepare(manifest, tmp_path / "set", size=64).lesion_mask(long, "hemorrhage")
    assert mask is not None and mask.sum() == 1


def test_twins_are_grouped_and_others_are_not(manifest: Manifest, tmp_path: Path) -> None:
    prepared = prepare(manifest, tmp_path / "set", size=64)
    assert prepared.duplicate_group.tolist() == [0, -1, -1, -1, -1, 0]
    files = {file.name for file in (tmp_path / "set").iterdir()}
    assert files == {
        "manifest",
        "pixels.npy",
        "prepared.yaml",
        "rejected.csv",
        "duplicates.csv",
        "flagged.csv",
        "record.jsonl",
    }


def test_readings_come_in_the_order_of_their_photographs(manifest: Manifest, tmp_path: Path) -> None:
    readings = [("i4", "b", "drusen", ""), ("i1", "b", "", ""), ("i4", "a", "", ""), ("i1", "a", "drusen", "macula")]
    table = pd.DataFrame(readings, columns=list(READING_COLUMNS))
    prepared = prepare(replace(manifest, readings=table), tmp_path / "set", size=64)
    expected = [readings[1], readings[3], readings[0], readings[2]]
    assert list(prepared.manifest.readings.itertuples(index=False, name=None)) == expected


def test_bad_photographs_are_named_and_the_rest_is_prepared(manifest: Manifest, tmp_path: Path) -> None:
    root = manifest.root
    whole = (root / "é0.jpg").read_bytes()
    bad = {"half.jpg": whole[:2000], "empty.jpg": b"", "text.jpg": b"not found"}
    for name, content in bad.items():
        (root / name).write_bytes(content)
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(root / "black.png")
    rows = [{"image_id": name, "path": name} for name in [*bad, "black.png", "absent.jpg"]]
    rows.insert(2, {"image_id": "far", "path": "é1.jpg", "disc_x": 900.0, "disc_y": 5.0})
    images = pd.concat([images_table(rows), manifest.images], ignore_index=True)
    prepared = prepare(Manifest(root, images), tmp_path / "set", size=64)
    assert prepared.manifest.images["image_id"].tolist() == [f"i{n}" for n in range(6)]
    reasons = pd.read_csv(tmp_path / "set" / "rejected.csv").set_index("path")["reason"]
    words = {
        "half.jpg": "truncated",
        "empty.jpg": "empty",
        "text.jpg": "not a picture",
        "black.png": "black",
        "absent.jpg": "missing",
        "é1.jpg": "outside the photograph",
    }
    assert len(reasons) == len(words)
    for path, word in words.items():
        assert word in reasons[path]
    alone = prepare(manifest, tmp_path / "alone", size=64)
    assert np.array_equal(prepared.pixels, alone.pixels), "rows close up in order"


def test_nothing_left_is_an_error_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="file is empty"):
        prepare(Manifest(tmp_path, images_table([{"image_id": "a", "path": "a.jpg"}])), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_finished_set_is_opened_and_another_is_never_overwritten(manifest: Manifest, tmp_path: Path) -> None:
    prepare(manifest, tmp_path / "set", size=64)
    before = (tmp_path / "set" / "pixels.npy").stat().st_mtime_ns
    prepare(manifest, tmp_path / "set", size=64)
    assert (tmp_path / "set" / "pixels.npy").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other photographs or settings"):
        prepare(manifest, tmp_path / "set", size=32)
    with pytest.raises(UserError, match=r"prepared\.yaml"):
        open_prepared(tmp_path)


def test_workers_and_a_damaged_journal_end_in_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    prepare(manifest, tmp_path / "one", size=64, workers=2)
    whole = fingerprints(tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fundusnet.data.prepare._write_pixels", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(manifest, tmp_path / "two", size=64)
    partial = tmp_path / "two.partial"
    lines = (partial / "journal.jsonl").read_text().splitlines()
    (partial / "journal.jsonl").write_text("\n".join(lines[:5]) + "\n" + lines[5][:20])  # a torn last line
    with (partial / "rows.npy").open("r+b") as file:
        file.seek(128 + 64 * 64 * 3)  # row 1, which the journal calls done, never reached the disk
        file.write(b"\0" * 64)
    prepare(manifest, tmp_path / "two", size=64)
    assert fingerprints(tmp_path / "two") == whole
    assert not partial.exists()


def test_a_killed_preparation_resumes_to_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, manifest.root)
    code = (
        "import sys, time, fundusnet.data.prepare as p, fundusnet.data.manifest as m\n"
        "real = p.prepare_one\n"
        "p.prepare_one = lambda job: (time.sleep(0.5), real(job))[1]\n"
        "p.prepare(m.read_manifest(sys.argv[1]), sys.argv[2], size=64)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(manifest.root), str(tmp_path / "set")])
    journal = tmp_path / "set.partial" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and len(journal.read_text().splitlines()) >= 3):
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert journal.exists() and not (tmp_path / "set").exists()
    again = read_manifest(manifest.root)
    prepare(again, tmp_path / "set", size=64)
    prepare(again, tmp_path / "whole", size=64)
    assert fingerprints(tmp_path / "set") == fingerprints(tmp_path / "whole")


@pytest.mark.real
def test_idrid_and_its_twin_pictures(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "idrid"
    files = sorted(root.rglob("*.jpg"))
    rows = [{"image_id": f"{n}", "path": str(file.relative_to(root))} for n, file in enumerate(files)]
    prepared = prepare(Manifest(root, images_table(rows)), tmp_path / "set", size=128, workers=2)
    assert len(prepared) == len(files) == 221
    # 42 of the 50 pictures of part A stand in part B under another number.
    assert prepared.info["counts"]["duplicate_groups"] == 42
    assert np.asarray(prepared.pixels[:, 64, 64].max(axis=1) > 30).all()


@pytest.mark.real
def test_keh_crops_without_a_black_border_stay_whole(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "keh"
    files = sorted(root.rglob("*.png"))[:60]
    rows = [{"image_id": f"{n}", "path": str(file.relative_to(root))} for n, file in enumerate(files)]
    prepared = prepare(Manifest(root, images_table(rows)), tmp_path / "set", size=240)
    assert len(prepared) == 60
    assert (prepared.duplicate_group == -1).all()


def test_a_picture_of_a_few_pixels_is_rejected(tmp_path: Path) -> None:
    for side in (1, 15, 16):
        Image.fromarray(np.full((side, side + 3, 3), 200, np.uint8)).save(tmp_path / f"{side}.png")
    for side in (1, 15):
        with pytest.raises(Unreadable, match=f"picture is only {side + 3}x{side} pixels"):
            read_field(tmp_path / f"{side}.png", 32)
    assert read_field(tmp_path / "16.png", 32)[0].height == 16


def test_two_fields_in_a_picture_are_flagged(tmp_path: Path) -> None:
    y, x = np.mgrid[:200, :420]
    eyes = np.hypot(x - 105, y - 100) < 90
    Image.fromarray((np.stack([eyes * 180, eyes * 90, eyes * 40], axis=2)).astype(np.uint8)).save(tmp_path / "one.png")
    eyes |= np.hypot(x - 315, y - 100) < 90
    Image.fromarray((np.stack([eyes * 180, eyes * 90, eyes * 40], axis=2)).astype(np.uint8)).save(tmp_path / "two.png")
    assert read_field(tmp_path / "one.png", 64)[0].flags == ()
    assert read_field(tmp_path / "two.png", 64)[0].flags == ("several_fields",)


@pytest.mark.parametrize(
    ("orientation", "shape", "flag"), [(3, (80, 120), "upright_mask"), (6, (80, 120), "turned_mask")]
)
def test_a_mask_without_the_orientation_of_its_photograph_is_flagged(
    tmp_path: Path, orientation: int, shape: tuple[int, int], flag: str
) -> None:
    stored = np.full((80, 120, 3), 120, np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    mask = np.zeros(shape, np.uint8)
    mask[10:20, 30:50] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    images = images_table([{"image_id": "a", "path": "a.jpg"}])
    lesions = pd.DataFrame([("a", "drusen", "m.png")], columns=list(LESION_COLUMNS))
    prepared = prepare(Manifest(tmp_path, images, lesions=lesions), tmp_path / "set", size=120)
    flagged = pd.read_csv(tmp_path / "set" / "flagged.csv")
    assert flagged.to_numpy().tolist() == [["a.jpg", flag]] and prepared.info["counts"]["flagged"] == 1
    found = prepared.lesion_mask("a", "drusen")
    assert found is not None
    rows, columns = np.nonzero(found)
    # Turned by 90 degrees the mask lies elsewhere; by 180 it is taken as it is.
    box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert box == ((30, 40, 30, 50) if orientation == 3 else (30, 50, 80, 90))
