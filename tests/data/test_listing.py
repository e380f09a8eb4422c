"""Finding photographs: nothing that can be decoded vanishes, and what systems leave behind is no photograph."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fundusnet.data.decode import Unreadable, read_photograph
from fundusnet.data.listing import files_below, photographs, relative_path, suffixes
from fundusnet.data.prepare import prepare
from fundusnet.data.sources import load_source
from fundusnet.prediction.inputs import find_inputs

KINDS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "tif", "tiff", "bmp", "dib", "webp", "gif", "avif", "jp2", "j2k"),
    *("jpx", "ppm", "pgm", "pnm", "tga", "pcx", "sgi"),
)


def eye(file: Path, kind: str | None = None) -> Path:
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([180 * (np.hypot(x - 32, y - 24) < 22)] * 3, axis=2).astype(np.uint8)
    image = Image.fromarray(pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    (image.convert("L") if file.suffix == ".pgm" else image).save(file, kind)
    return file


def names(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in photographs(folder)]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("upper", [False, True])
def test_every_picture_that_can_be_decoded_is_listed(tmp_path: Path, suffix: str, upper: bool) -> None:
    kind = {"pnm": "PPM", "jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "jpx": "JPEG2000"}.get(suffix)
    file = eye(tmp_path / f"a.{suffix}", kind)
    file = file.rename(file.with_suffix(f".{suffix.upper() if upper else suffix}"))
    assert photographs(tmp_path) == [file]
    assert read_photograph(file).width == 64


def test_no_document_and_no_icon_is_a_photograph() -> None:
    assert not suffixes() & {".pdf", ".eps", ".ps", ".mpg", ".ico", ".icns", ".h5", ".hdf", ".fits", ".wmf", ".txt"}


def test_what_systems_leave_behind_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    eye(tmp_path / "a.png")
    for place in (
        "@eaDir/a.png",
        ".thumbnails/a.png",
        "#recycle/a.png",
        "__MACOSX/a.png",
        "sub/@Recycle/b.png",
        "._b.png",
    ):
        eye(tmp_path / place)
    for other in ("notes.txt", "table.csv", "more.txt", "DICOMDIR", "README"):
        (tmp_path / other).write_text("of no matter")
    with caplog.at_level(logging.INFO):
        assert photographs(tmp_path, say=True) == [tmp_path / "a.png"]
    for said in (".txt (2)", ".csv (1)", "no suffix (2)", "@eaDir/ (1)", "#recycle/ (1)", "@Recycle/ (1)"):
        assert said in caplog.text


def test_our_own_results_below_the_photographs_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    eye(tmp_path / "a.png")
    marks = {
        "set": ("prepared.yaml", "pixels.npy"),
        "set.partial": ("journal.jsonl", "rows.npy"),
        "out": ("prediction.yaml",),
        "run": ("config.yaml", "status.json"),
    }
    for place, files in marks.items():
        eye(tmp_path / place / "figures" / "b.png")
        for file in files:
            (tmp_path / place / file).write_text("")
    with caplog.at_level(logging.INFO):
        assert photographs(tmp_path, say=True) == [tmp_path / "a.png"]
    assert "set/ of fundusnet (1)" in caplog.text and "run/ of fundusnet (1)" in caplog.text
    eye(tmp_path / "theirs" / "c.png")
    (tmp_path / "theirs" / "status.json").write_text("a file of the user's own")
    assert names(tmp_path) == ["a.png", "theirs/c.png"]
    assert names(tmp_path / "run" / "figures") == ["b.png"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    eye(tmp_path / "root/real/a.png")
    eye(tmp_path / "elsewhere/b.png")
    (tmp_path / "root/away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/again").symlink_to(tmp_path / "root/real")
    (tmp_path / "root/real/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/c.png").symlink_to(tmp_path / "elsewhere/b.png")
    assert names(tmp_path / "root") == ["away/b.png", "c.png", "real/a.png"]


def test_a_dangling_link_is_one_rejected_row(tmp_path: Path) -> None:
    eye(tmp_path / "raw/a.png")
    (tmp_path / "raw/b.png").symlink_to(tmp_path / "gone.png")
    prepared = prepare(load_source("folder", tmp_path / "raw"), tmp_path / "set", size=32)
    assert len(prepared) == 1
    assert pd.read_csv(tmp_path / "set/rejected.csv").to_numpy().tolist() == [["b.png", "file is missing"]]


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye(tmp_path / "a.png")
    eye(tmp_path / "closed/b.png")
    scan = os.scandir

    def refusing(place: Path) -> object:
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    assert [file.name for file in files_below(tmp_path)] == ["a.png"]
    assert "closed cannot be read and is left out: Permission denied" in caplog.text


def test_a_name_that_is_not_utf8_is_one_rejected_row(tmp_path: Path) -> None:
    eye(tmp_path / "raw/a.png")
    eye(tmp_path / "raw/b.png").rename(os.fsdecode(os.fsencode(tmp_path / "raw") + b"/caf\xe9.png"))
    (file,) = (file for file in photographs(tmp_path / "raw") if file.name != "a.png")
    assert relative_path(file, tmp_path / "raw") == r"caf\xe9.png"
    prepared = prepare(load_source("folder", tmp_path / "raw"), tmp_path / "set", size=32)
    assert prepared.manifest.images["path"].tolist() == ["a.png"]
    rejected = pd.read_csv(tmp_path / "set/rejected.csv")
    assert rejected.to_numpy().tolist() == [[r"caf\xe9.png", "file name is not UTF-8; rename the file"]]
    root, entries = find_inputs(tmp_path / "raw")
    assert [entry.path for entry in entries] == ["a.png", r"caf\xe9.png"]
    with pytest.raises(Unreadable, match="not UTF-8"):
        read_photograph(root / entries[1].path)
