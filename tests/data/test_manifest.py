"""The manifest's tables: what is read, what is refused, and that writing loses nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundusnet.data.manifest import (
    COORDINATES,
    LESION_COLUMNS,
    READING_COLUMNS,
    Manifest,
    images_table,
    read_manifest,
    write_manifest,
)
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError


def write(folder: Path, images: str, **tables: str) -> Path:
    for name, text in {"images": images, **tables}.items():
        (folder / f"{name}.csv").write_bytes(text.encode())
    return folder


def test_spreadsheet_export_with_bom_crlf_spaces_and_empty_rows_reads_like_a_clean_table(
    tmp_path: Path,
) -> None:
    text = "\ufeffimage_id , path,grade,,\r\n a , p/a.jpg ,1,,\r\n,,,,\r\n\r\nb,p/b.jpg,,,\r\n,,,,\r\n"
    images = read_manifest(write(tmp_path, text)).images
    assert images["image_id"].tolist() == ["a", "b"]
    assert images["path"].tolist() == ["p/a.jpg", "p/b.jpg"]
    assert images["grade"].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert images.index.tolist() == [0, 1]
    assert set(images["eye"]) == set(images["patient_id"]) == {""}


def test_ids_that_pandas_reads_as_missing_are_kept(tmp_path: Path) -> None:
    images = read_manifest(write(tmp_path, "image_id,path,patient_id\nNA,a.jpg,007\nnull,b.jpg,1e3\n")).images
    assert images["image_id"].tolist() == ["NA", "null"]
    assert images["patient_id"].tolist() == ["007", "1e3"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("image_id,path\na,a.jpg\nb,b.jpg\na,c.jpg\n", r"images.csv, line 4: image_id 'a' is on line 2 already"),
        ("image_id,path\na,a.jpg\n\n\na,c.jpg\n", r"line 5: image_id 'a' is on line 2 already"),
        ("image_id,path\n,a.jpg\n", r"line 2: image_id is empty"),
        ("image_id,path\n../a,a.jpg\n", r"line 2: image_id '../a' must not hold a slash"),
        ("image_id,path\na,\n", r"line 2: path is empty"),
        ("image_id,path\na,../secret.jpg\n", r"line 2: path '../secret.jpg' is outside the folder"),
        ("image_id,path\na,b/../../c.jpg\n", r"line 2: path .* is outside the folder"),
        ("image_id,path\na,/etc/c.jpg\n", r"line 2: path .* is outside the folder"),
        ("image_id,path\na,C:\\c.jpg\n", r"line 2: path .* is outside the folder"),
        ("image_id,path\na,..\\c.jpg\n", r"line 2: path .* is outside the folder"),
        ("image_id,path\na,\\c.jpg\n", r"line 2: path .* is outside the folder"),
        ("image_id,path,eye\na,a.jpg,OD\n", r"line 2: eye 'OD' is not one of left, right"),
        ("image_id,path,split\na,a.jpg,training\n", r"line 2: split 'training' is not one of train, val, test"),
        ("image_id,path,disc_x\na,a.jpg,12\nb,b.jpg,left\n", r"line 3: disc_x 'left' is not a number"),
        ("image_id,path,fovea_y\na,a.jpg,inf\n", r"line 2: fovea_y 'inf' is not a finite number"),
        ("image_id,path,fovea_y\na,a.jpg,nan\n", r"line 2: fovea_y 'nan' is not a finite number"),
        ("image_id,path,grade\na,a.jpg,3\n", r"line 2: grade 3 is not one of 0 to 2 \(normal, early, late\)"),
        ("image_id,path,grade\na,a.jpg,\nb,b.jpg,0.5\n", r"line 3: grade 0.5 is not one of"),
        ("image_id,path,grade\na,a.jpg,-1\n", r"line 2: grade -1 is not one of"),
        ("image_id,path\na,a,b.jpg\n", r"line 2: 3 cells under 2 columns; put a cell that holds"),
        ("image_id,file\na,a.jpg\n", r"column 'path' is missing; it has image_id, file"),
        ("image_id,path,path\na,a.jpg,b.jpg\n", r"column 'path' occurs twice"),
        ("", r"column 'image_id' is missing; it has none"),
        ('image_id,path\na,"a.jpg\n', r"images.csv cannot be read as CSV: the cells from line 2 on are not clear"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_images_is_named_by_file_and_line(tmp_path: Path, images: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_manifest(write(tmp_path, images), classes=("normal", "early", "late"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"readings": "image_id,annotator_id,finding,regions\na,1,drusen,macula;fovea\n"},
         r"readings.csv, line 2: unknown region 'fovea'; use disc_superior"),
        ({"readings": "image_id,annotator_id,finding,regions\n\nz,1,,\n"},
         r"readings.csv, line 3: image_id 'z' is not in images.csv"),
        ({"readings": "image_id,finding,regions\na,drusen,macula\n"},
         r"readings.csv: column 'annotator_id' is missing"),
        ({"lesions": "image_id,finding,path\na,drusen,\nb,drusen,\n"},
         r"lesions.csv, line 3: image_id 'b' is not in images.csv"),
        ({"lesions": "image_id,finding,path\na,drusen,../m.png\n"},
         r"lesions.csv, line 2: path '../m.png' is outside the folder"),
    ],
)  # fmt: skip
def test_readings_and_lesions_are_checked_too(tmp_path: Path, tables: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_manifest(write(tmp_path, "image_id,path\na,a.jpg\n", **tables))


def test_spaces_between_region_names_are_dropped(tmp_path: Path) -> None:
    readings = "image_id,annotator_id,finding,regions\na,1,drusen, macula ;temporal;\n"
    manifest = read_manifest(write(tmp_path, "image_id,path\na,a.jpg\n", readings=readings))
    assert manifest.readings["regions"].tolist() == ["macula;temporal"]


def test_a_folder_without_images_says_what_a_manifest_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images.csv is missing: a manifest is a folder with images.csv \(columns"):
        read_manifest(tmp_path)


def test_latin1_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_bytes("image_id,path\nä,a.jpg\n".encode("latin-1"))
    with pytest.raises(UserError, match="cannot be read as CSV in UTF-8"):
        read_manifest(tmp_path)


def test_unknown_cells_are_written_empty_and_grades_whole(tmp_path: Path) -> None:
    images = images_table(
        [{"image_id": "a", "path": "a.jpg", "disc_x": 1.5, "grade": 2}, {"image_id": "b", "path": "b"}]
    )
    write_manifest(Manifest(tmp_path, images), tmp_path / "out")
    lines = (tmp_path / "out" / "images.csv").read_text().splitlines()
    assert lines[1:] == ["a,a.jpg,,,,1.500,,,,2", "b,b,,,,,,,,"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["images.csv"]


def test_a_manifest_rewritten_without_readings_does_not_keep_the_old_ones(tmp_path: Path) -> None:
    images = images_table([{"image_id": "a", "path": "a.jpg"}])
    readings = pd.DataFrame([("a", "1", "drusen", "macula")], columns=list(READING_COLUMNS))
    write_manifest(Manifest(tmp_path, images, readings), tmp_path)
    write_manifest(Manifest(tmp_path, images), tmp_path)
    assert len(read_manifest(tmp_path).readings) == 0


# Any text a user can type in a cell: commas, quotes, breaks, non-ASCII; no outer space (it is dropped).
cells = st.text(st.characters(blacklist_categories=("Cs", "Cc"), whitelist_characters="\n"), max_size=8).map(str.strip)
names = cells.filter(lambda text: text and not set(text) & set("/\\") and not text.startswith("."))
coordinate = st.none() | st.integers(-5_000_000, 5_000_000).map(lambda thousandths: thousandths / 1000)
region_sets = st.sets(st.sampled_from(sorted(REGIONS.values()))).map(lambda chosen: ";".join(sorted(chosen)))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    identifiers = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    rows = [
        {
            "image_id": name,
            "path": draw(st.sampled_from(("a.jpg", "x, y/b.png", "ü/„c“.tif", "d/e f.bmp"))),
            "patient_id": draw(cells),
            "eye": draw(st.sampled_from(("left", "right", ""))),
            "split": draw(st.sampled_from(("train", "val", "test", ""))),
            **{axis: draw(coordinate) for axis in COORDINATES},
            "grade": draw(st.none() | st.integers(0, 2)),
        }
        for name in identifiers
    ]
    known = st.sampled_from(identifiers)
    readings = draw(st.lists(st.tuples(known, cells, cells, region_sets), max_size=4))
    lesions = draw(st.lists(st.tuples(known, cells, st.sampled_from(("", "m/a.png"))), max_size=4))
    return Manifest(
        Path(),
        images_table(rows),
        pd.DataFrame(readings, columns=list(READING_COLUMNS), dtype=str),
        pd.DataFrame(lesions, columns=list(LESION_COLUMNS), dtype=str),
        ("normal", "early", "late"),
    )


@given(manifests())
def test_what_is_written_is_read_back_the_same(manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(manifest, folder)
        read = read_manifest(folder, manifest.classes)
    for name in ("images", "readings", "lesions"):
        pd.testing.assert_frame_equal(
            getattr(read, name), getattr(manifest, name), check_dtype=False, check_column_type=False
        )
    assert read.classes == manifest.classes
