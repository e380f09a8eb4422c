"""Sources that are plain folders: the dispatcher, class folders, manifests, and KEH."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_dicom import eye, write_dicom

from fundusnet.data.listing import unique_ids
from fundusnet.data.sources import load_source
from fundusnet.data.splits import make_splits
from fundusnet.errors import UserError
from fundusnet.prediction.inputs import find_inputs


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "set", "normal/1.jpg", "normal/2.PNG", "ill/1.jpg", "ill/deep/3.tif", "ill/._1.jpg",
        "ill/Thumbs.db",
        "other/9.jpg", "notes.txt", ".git/x.jpg",
    )  # fmt: skip


def test_unknown_source_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown source 'idird': did you mean 'idrid'\? choose one of csv, folder"):
        load_source("idird", tmp_path)
    with pytest.raises(UserError, match=r"unknown source 'xqz': choose one of csv"):
        load_source("xqz", tmp_path)


def test_missing_root_says_what_was_expected_and_what_is_there(graded: Path) -> None:
    with pytest.raises(
        UserError, match=r"source=keh expects .*normal_control.*, found no such folder .*set holds ill/, norm"
    ):
        load_source("keh", graded / "keh")
    with pytest.raises(UserError, match=r"source=csv expects a folder with images.csv, found a file"):
        load_source("csv", graded / "notes.txt")


def test_unknown_option_names_those_there_are(graded: Path) -> None:
    with pytest.raises(UserError, match="source=folder has no option 'clases'; it has classes"):
        load_source("folder", graded, {"clases": ["a"]})
    with pytest.raises(UserError, match="source=keh has no option 'task'; it has none"):
        load_source("keh", graded, {"task": "grading"})


def test_grade_is_the_position_in_classes_and_other_folders_are_left_out(
    graded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = load_source("folder", graded, {"classes": ["normal", "ill"]})
    grades = dict(zip(manifest.images["path"], manifest.images["grade"], strict=True))
    assert grades == {"normal/1.jpg": 0, "normal/2.PNG": 0, "ill/1.jpg": 1, "ill/deep/3.tif": 1}
    assert manifest.images["image_id"].tolist() == ["normal_1", "normal_2", "ill_1", "ill_deep_3"]
    assert manifest.classes == ("normal", "ill")
    assert "other" in caplog.text
    swapped = load_source("folder", graded, {"classes": ["ill", "normal"]}).images
    assert swapped.set_index("path").loc["ill/1.jpg", "grade"] == 0


def test_without_classes_every_photograph_is_listed_ungraded(graded: Path) -> None:
    manifest = load_source("folder", graded)
    expected = ["ill/1.jpg", "ill/deep/3.tif", "normal/1.jpg", "normal/2.PNG", "other/9.jpg"]
    assert manifest.images["path"].tolist() == expected
    assert manifest.images["grade"].isna().all()
    assert manifest.classes == ()


def test_absent_or_empty_class_folders_are_refused_with_what_was_found(graded: Path) -> None:
    with pytest.raises(UserError, match=r"class folder 'sick' is missing, found ill/, normal/, notes.txt, other/"):
        load_source("folder", graded, {"classes": ["normal", "sick"]})
    (graded / "bare").mkdir()
    with pytest.raises(UserError, match=r"class folder 'bare' holds no photograph, found nothing"):
        load_source("folder", graded, {"classes": ["normal", "bare"]})
    with pytest.raises(UserError, match=r"no photograph .* in it, found nothing"):
        load_source("folder", graded / "bare")
    with pytest.raises(UserError, match=r"a folder is named twice"):
        load_source("folder", graded, {"classes": ["normal", "normal"]})


def test_patients_and_eyes_are_read_from_dicom_headers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(tmp_path / "set", "ill/plain.png", "ill/README", "ill/.hidden.dcm")
    (root / "ill" / "series").mkdir()
    write_dicom(root / "ill" / "series" / "IM0001", eye(), PatientID="P-1", ImageLaterality="R")
    write_dicom(root / "ill" / "series" / "IM0002.DCM", eye(), PatientID=" P-1 ", ImageLaterality="OS")
    write_dicom(root / "ill" / "other.dicom", eye(), PatientID="", ImageLaterality="B")
    with caplog.at_level(logging.INFO):
        manifests = [load_source("folder", root, options) for options in ({}, {"classes": ["ill"]})]
    assert "DICOM files: 3, patients named in them: 1" in caplog.text
    for manifest, grade in zip(manifests, (float("nan"), 0.0), strict=True):
        images = manifest.images
        columns = (images[name] for name in ("image_id", "path", "patient_id", "eye"))
        assert list(zip(*columns, strict=True)) == [
            ("ill_other", "ill/other.dicom", "", ""),
            ("ill_plain", "ill/plain.png", "", ""),
            ("ill_series_IM0001", "ill/series/IM0001", "P-1", "right"),
            ("ill_series_IM0002", "ill/series/IM0002.DCM", "P-1", "left"),
        ]
        assert images["grade"].isna().all() if grade != 0 else (images["grade"] == 0).all()
    # What predict reads of a folder is what is trained on.
    _, entries = find_inputs(root)
    assert [(entry.image_id, entry.path) for entry in entries] == list(
        zip(images["image_id"], images["path"], strict=True)
    )


def test_photographs_of_one_dicom_patient_stay_in_one_split(tmp_path: Path) -> None:
    for number in range(24):
        write_dicom(tmp_path / f"{number}.dcm", eye(), PatientID=f"P-{number // 3}")
    images = load_source("folder", tmp_path).images
    split = make_splits(images, np.full(24, np.nan), np.full(24, -1), fractions=(0.5, 0.25, 0.25))
    places = pd.Series(split).groupby(images["patient_id"]).agg(set)
    assert len(places) == 8 and (places.map(len) == 1).all() and set(split) == {"train", "val", "test"}


def test_dicom_without_pydicom_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundusnet.data.dicom.installed", lambda: False)
    write_dicom(touch(tmp_path, "a.jpg") / "IM1", eye())
    (tmp_path / "images.csv").write_text("image_id,path\na,a.jpg\nb,IM1\n")
    for source in ("folder", "csv"):
        with pytest.raises(UserError, match=r"IM1 is DICOM, which needs pydicom: pip install .fundusnet\[dicom\]"):
            load_source(source, tmp_path)
    (tmp_path / "IM1").unlink()
    assert len(load_source("folder", tmp_path).images) == 1, "photographs alone need no pydicom"


def test_paths_that_would_share_an_id_do_not() -> None:
    assert len(set(unique_ids(["a/b_c.jpg", "a_b/c.jpg", "a/b/c.jpg", "a/b/c.png", "d.jpg"]))) == 5
    assert unique_ids(["d.jpg"]) == ["d"]


@given(st.lists(st.text("ab_/.", min_size=1, max_size=6).map(lambda stem: f"x{stem}/y.jpg"), unique_by=Path))
def test_ids_are_unique_and_hold_no_slash(paths: list[str]) -> None:
    identifiers = unique_ids(paths)
    assert len(set(identifiers)) == len(paths)
    assert not any("/" in name for name in identifiers)


def test_csv_reads_the_manifest_with_its_classes(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("image_id,path,grade\na,a.jpg,1\n")
    manifest = load_source("csv", tmp_path, {"classes": ["normal", "ill"]})
    assert manifest.classes == ("normal", "ill")
    assert manifest.images["grade"].tolist() == [1]
    with pytest.raises(UserError, match="grade 1 is not one of 0 to 0"):
        load_source("csv", tmp_path, {"classes": ["normal"]})


def test_keh_grades_by_folder_and_ignores_strays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(
        tmp_path, "normal_control/1.png", "early_glaucoma/1.png", "advanced_glaucoma/1.png",
        "advanced_glaucoma/2.png", "advanced_glaucoma/._2.png", "normal_control/readme.txt", "extra/3.png",
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        manifest = load_source("keh", root)
    assert manifest.images["image_id"].tolist() == [
        "normal_control_1", "early_glaucoma_1", "advanced_glaucoma_1", "advanced_glaucoma_2",
    ]  # fmt: skip
    assert manifest.images["grade"].tolist() == [0, 1, 2, 2]
    assert manifest.classes == ("normal", "early", "advanced")
    assert set(manifest.images["patient_id"]) == {""}
    assert "KEH advanced_glaucoma: found 2, the published set has 467" in caplog.text


def test_keh_elsewhere_says_which_folders_it_expects(graded: Path) -> None:
    with pytest.raises(UserError, match=r"expects folders normal_control, .*, found ill/, normal/, notes.txt, other/"):
        load_source("keh", graded)


@pytest.mark.real
def test_keh_real_counts(real_data: Path) -> None:
    images = load_source("keh", real_data / "keh").images
    assert images["grade"].value_counts().to_dict() == {0: 392, 1: 141, 2: 232}
    assert images["image_id"].is_unique
