"""Through the real commands: whatever lies in a folder works or is named, and the rest of the run is unharmed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_dicom import write_dicom

from fundusnet.cli.main import main
from fundusnet.data.crop import crop_square, find_field
from fundusnet.data.decode import Photograph
from fundusnet.data.prepared import open_prepared

SIZE = 64
POINTS = {"disc_x": 70.0, "disc_y": 48.0, "fovea_x": 40.0, "fovea_y": 50.0}
PREPARE = ("prepare", f"data.size={SIZE}", "data.workers=0", "data.folder=set")
NETWORK = ("model.network.reductions=3", "model.network.width=4", "model.network.pyramid_width=4")
TRAIN = (
    *("train", "data=csv", "data.root=photographs", f"data.size={SIZE}", "data.workers=0", "data.num_workers=0"),
    *("data.folder=set", "data.batch_size=4", "finding=drusen", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
    *("evaluation.bootstrap=20", "run_dir=run", *NETWORK),
)
Photographs = dict[str, np.ndarray]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run commands in, with ``photographs/`` and ``mine/`` in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("photographs", "mine/experiment", "mine/finding", "mine/data"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def eye(seed: int) -> np.ndarray:
    """A round field with coarse noise in it, (96, 96, 3)."""
    yy, xx = np.mgrid[:96, :96]
    field = (xx - 47.5) ** 2 + (yy - 47.5) ** 2 < 46**2
    noise = np.random.default_rng(seed).integers(60, 255, (8, 8, 3), dtype=np.uint8)
    whole = cv2.resize(noise, (96, 96), interpolation=cv2.INTER_CUBIC)
    return np.where(field[..., None], np.maximum(whole, 50), 0).astype(np.uint8)


def write_good(folder: Path) -> Photographs:
    """Files of every kind that has to work, by name, with what they show once upright and in 8-bit RGB."""
    shown = {name: eye(seed) for seed, name in enumerate(("plain.png", "mit Ä und 眼.png", "two  spaces.png"))}
    for name, pixels in shown.items():
        Image.fromarray(pixels).save(folder / name)
    pixels = eye(10)
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg", quality=98)
    shown["cmyk.jpg"] = pixels
    pixels = eye(11)
    cv2.imwrite(str(folder / "sixteen.png"), pixels[..., ::-1].astype(np.uint16) * 257)
    shown["sixteen.png"] = pixels
    pixels = eye(12)
    Image.fromarray(pixels[..., 1]).save(folder / "grey.png")
    shown["grey.png"] = pixels[..., [1, 1, 1]]
    pixels = eye(13)
    Image.fromarray(np.dstack([pixels, np.full((96, 96), 7, np.uint8)])).save(folder / "alpha.png")
    shown["alpha.png"] = pixels
    pixels = eye(14)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: stored a quarter turn against the clock
    Image.fromarray(np.rot90(pixels).copy()).save(folder / "rotated.jpg", quality=98, exif=exif)
    shown["rotated.jpg"] = pixels
    return shown


def write_bad(folder: Path) -> dict[str, str]:
    """Files that cannot work, by name, with a word of the reason."""
    Image.fromarray(eye(20)).save(folder / "half.jpg", quality=95)
    whole = (folder / "half.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>404 not found</html>")
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(folder / "black.png")
    return {"half.jpg": "truncated", "zero.jpg": "empty", "text.jpg": "not a picture", "black.png": "black"}


def rejected(folder: Path) -> dict[str, str]:
    """``rejected.csv`` as path → reason."""
    table = pd.read_csv(folder / "rejected.csv")
    return dict(zip(table["path"], table["reason"], strict=True))


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The last line of standard error of a command that exits with 2 and shows no traceback."""
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    line = error.splitlines()[-1]
    assert line.startswith("fundusnet: ")
    return line


def test_a_folder_of_every_kind_of_file(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = write_good(place / "photographs"), write_bad(place / "photographs")
    assert main([*PREPARE, "data=folder", "data.root=photographs"]) == 0
    reasons = rejected(place / "set")
    assert reasons.keys() == bad.keys()
    assert all(word in reasons[name] for name, word in bad.items())
    assert f"prepared {len(good)} photographs; rejected: {len(bad)}, see set/rejected.csv" in caplog.text
    prepared = open_prepared(place / "set")
    paths = prepared.manifest.images["path"].tolist()
    assert sorted(paths) == sorted(good)
    for path, pixels in zip(paths, prepared.pixels, strict=True):
        shown = Photograph(good[path], 96, 96, 1)
        expected, _ = crop_square(shown, find_field(shown.pixels), SIZE)
        assert np.abs(pixels.astype(int) - expected).mean() <= (6 if path.endswith(".jpg") else 0), path


def test_where_all_is_well_no_file_of_rejected_ones_is_named(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(eye(1)).save(place / "photographs" / "a.png")
    assert main([*PREPARE, "data=folder", "data.root=photographs"]) == 0
    assert "prepared 1 photographs; none was rejected" in caplog.text


@pytest.mark.parametrize("source", ["folder", "csv"])
def test_dicom_is_prepared_as_any_photograph(place: Path, source: str) -> None:
    root = place / "photographs"
    Image.fromarray(eye(1)).save(root / "a.png")
    write_dicom(root / "b", eye(1))
    write_dicom(root / "c.dcm", eye(2), NumberOfFrames=3)
    if source == "csv":
        (root / "images.csv").write_text("image_id,path,patient_id\na,a.png,P-1\nb,b,P-1\nc,c.dcm,P-2\n")
    assert main([*PREPARE, f"data={source}", "data.root=photographs"]) == 0
    assert rejected(place / "set").keys() == {"c.dcm"} and "3 frames" in rejected(place / "set")["c.dcm"]
    prepared = open_prepared(place / "set")
    np.testing.assert_array_equal(*prepared.pixels)
    images = prepared.manifest.images
    known = list(zip(images["image_id"], images["patient_id"], images["eye"], strict=True))
    assert known == (
        [("a", "", ""), ("b", "P-0007", "left")] if source == "folder" else [("a", "P-1", ""), ("b", "P-1", "")]
    )


def test_nothing_but_bad_files_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "photographs" / "zero.jpg").write_bytes(b"")
    line = refusal(capsys, *PREPARE, "data=folder", "data.root=photographs")
    assert "no photograph" in line and "file is empty" in line
    assert not (place / "set").exists()
    assert "no such folder" in refusal(capsys, *PREPARE, "data=folder", "data.root=photograph")


def write_manifest(folder: Path, rows: list[str], line_end: str = "\n", start: str = "") -> None:
    header = "image_id,path,patient_id,disc_x,disc_y,fovea_x,fovea_y"
    text = start + line_end.join([header, *rows]) + line_end
    (folder / "images.csv").write_bytes(text.encode())


def test_a_spreadsheets_csv_with_points_outside(place: Path) -> None:
    for number in range(3):
        Image.fromarray(eye(number)).save(place / "photographs" / f"ä {number}.png")
    rows = ["a,ä 0.png,p,70,48,40,50", "b,ä 1.png,p,700,48,40,50", "c,ä 2.png,q,70,48,40,-3"]
    write_manifest(place / "photographs", rows, "\r\n", "\ufeff")
    assert main([*PREPARE, "data=csv", "data.root=photographs"]) == 0
    reasons = rejected(place / "set")
    assert reasons.keys() == {"ä 1.png", "ä 2.png"}
    assert "optic disc (700, 48) lies outside the photograph of 96x96 pixels" in reasons["ä 1.png"]
    assert "fovea (40, -3) lies outside" in reasons["ä 2.png"]
    assert open_prepared(place / "set").manifest.images["image_id"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,0.png,p,,,,", "a,1.png,p,,,,"], "images.csv, line 3"),
        (["a,0.png,p,7O,48,40,50"], "images.csv, line 2"),
        (["a,../0.png,p,,,,"], "images.csv, line 2"),
        (["a,0.png,p,70,48,40,50,51"], "images.csv, line 2"),
    ],
    ids=["same id twice", "a letter for a digit", "a path that leaves", "too many cells"],
)
def test_a_broken_manifest_is_named_by_line(
    place: Path, capsys: pytest.CaptureFixture[str], rows: list[str], message: str
) -> None:
    write_manifest(place / "photographs", rows)
    assert message in refusal(capsys, *PREPARE, "data=csv", "data.root=photographs")


def test_a_training_set_with_bad_files_trains_on_the_rest(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = place / "photographs"
    rows, lesions = [], ["image_id,finding,path"]
    mask = np.zeros((96, 96), np.uint8)
    mask[40:49, 40:49] = 255
    Image.fromarray(mask).save(root / "mask.png")
    (root / "broken mask.png").write_bytes(b"no picture")
    for number in range(24):
        Image.fromarray(eye(number)).save(root / f"{number}.png")
        rows.append(f"{number},{number}.png,p{number},70,48,40,50")
        lesions.append(f"{number},drusen,{'mask.png' if number % 2 else ''}")
    for name in write_bad(root):
        rows.insert(3, f"{name},{name},p{name},70,48,40,50")
        lesions.append(f"{name},drusen,mask.png")
    lesions[1] = "0,drusen,broken mask.png"
    write_manifest(root, rows)
    (root / "lesions.csv").write_text("\n".join(lesions) + "\n")

    assert main(TRAIN) == 0
    assert json.loads((place / "run" / "status.json").read_text())["state"] == "done"
    assert len(rejected(place / "set")) == 5
    images = set(open_prepared(place / "set").manifest.images["image_id"])
    assert images == {str(number) for number in range(24)}
    predictions = pd.read_csv(place / "run" / "predictions.csv", dtype={"image_id": str})
    assert set(predictions["image_id"]) <= images - {"0"}, "a finding whose mask is broken is unknown"


def test_what_a_prepared_set_cannot_give_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        Image.fromarray(eye(number)).save(place / "photographs" / f"{number}.png")
    write_manifest(place / "photographs", [f"{number},{number}.png,p{number},70,48,40,50" for number in range(6)])
    lesions = "\n".join(f"{number},drusen," for number in range(6))
    (place / "photographs" / "lesions.csv").write_text(f"image_id,finding,path\n{lesions}\n")
    command = [*PREPARE, "data=csv", "data.root=photographs"]
    assert main(command) == 0
    size = refusal(capsys, *command, "data.size=32")
    assert "set holds pictures of 64 pixels, and data.size=32; use data.size=64" in size
    for number, (override, message) in enumerate(
        (
            ("data.fractions=[0.7,0.1]", "data.fractions=[0.7, 0.1] is not valid: use a list of 3 values"),
            ("data.augment.warp.scale=[2,1]", "augment: scale=[2, 1] is not a range"),
            ("finding=membrane", "has a label of 'membrane'; it has labels of drusen"),
            ("seed=0", "has no positive image of 'drusen'"),
        )
    ):
        assert message in refusal(capsys, *TRAIN, override, f"run_dir=run{number}")


def test_findings_of_a_set_with_grades_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate("ab"):
        (place / "photographs" / name).mkdir()
        Image.fromarray(eye(number)).save(place / "photographs" / name / "1.png")
    line = refusal(capsys, *TRAIN, "data=folder", "data.options.classes=[a,b]")
    assert "has labels of no finding; to learn grades use experiment=grading" in line


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("experiment/own.yaml", "trainer:\n  max_epocs: 3", "unknown key trainer.max_epocs; did you mean trainer.max_"),
        ("experiment/own.yaml", "model:\n  loss:\n    wieght: 3", "did you mean model.loss.weight?"),
        (
            "experiment/own.yaml",
            "model:\n  loss:\n    weight: -3",
            "model.loss.weight=-3 is not valid: use a value",
        ),
        ("experiment/own.yaml", "finding:\n  names: [drusn]", "unknown finding drusn; did you mean drusen?"),
        (
            "experiment/own.yaml",
            "finding:\n  dilations: [1, 0]",
            "finding.dilations=[1, 0] is not valid: use",
        ),
        ("experiment/own.yaml", "data:\n  size: 500", "data.size=500 is not a multiple of 32"),
        ("experiment/own.yaml", "data:\n  size: large", "data.size=large is not valid: use an integer"),
        ("experiment/own.yaml", "data:\n  size: [512", "own.yaml, line 4: expected ',' or ']'"),
        ("experiment/own.yaml", "data:\n\tsize: 512", "own.yaml, line 3: found character '\\t'"),
        ("experiment/own.yaml", "defaults:\n  - override /model: guidde", "did you mean guided?"),
        ("finding/own.yaml", "names: [own]\ndilatoins: [1]\npool: 1", "did you mean finding.dilations?"),
        ("data/own.yaml", "defaults: [synthetic]\nroot: here\nroots: there", "did you mean data.root?"),
    ],
)
def test_a_users_own_file_is_checked_as_ours_are(
    place: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, message: str
) -> None:
    header = "# @package _global_\n" if file.startswith("experiment") else ""
    (place / "mine" / file).write_text(header + content + "\n")
    group = file.partition("/")[0]
    assert message in refusal(capsys, "train", "--config-dir", "mine", f"{group}=own")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=synthetic", "data.options.images=many"), "data.options.images=many is not a number"),
        (("data=folder", "data.root=photographs", "data.options.classes=a"), "data.options.classes=a is not a list"),
        (("data=folder", "data.root=photographs", "+data.options.clases=[a]"), "no option 'clases'"),
    ],
)
def test_options_of_a_source(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, *PREPARE, *words)
