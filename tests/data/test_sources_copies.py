"""Public sets as people have them: copies on Kaggle, other nestings, edited tables; and the real tables in full."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
from layouts import mask, picture, sheet, text, touch

from fundusnet.data.manifest import Manifest
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError


def grades(manifest: Manifest) -> dict[str, float]:
    return dict(zip(manifest.images["image_id"], manifest.images["grade"], strict=True))


def splits(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.images["image_id"], manifest.images["split"], strict=True))


def test_ddr_from_kaggle_has_one_table_and_no_splits(tmp_path: Path) -> None:
    text(tmp_path / "DR_grading.csv", "id_code,diagnosis\na.jpg,0\nb.jpg,4\nc.jpg,5\ngone.jpg,1\n")
    touch(tmp_path, "DR_grading/DR_grading/a.jpg", "DR_grading/DR_grading/b.jpg", "DR_grading/DR_grading/c.jpg")
    manifest = load_source("ddr", tmp_path, {"task": "grading"})
    assert grades(manifest) == {"G_a": 0, "G_b": 4} and set(splits(manifest).values()) == {""}
    text(tmp_path / "DR_grading.csv", "id_code,diagnosis\na.jpg,0\nb.jpg,4\na.jpg,3\n")
    with pytest.raises(UserError, match=r"line 4: a\.jpg is on line 2 already"):
        load_source("ddr", tmp_path, {"task": "grading"})


def test_a_repeated_line_of_ddr_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "DR_grading/train/a.jpg")
    text(tmp_path / "DR_grading/train.txt", "a.jpg 0\na.jpg 1\n")
    with pytest.raises(UserError, match=r"train.txt, line 2: a.jpg is on line 1 already; remove one"):
        load_source("ddr", tmp_path, {"task": "grading"})


def test_aptos_from_kaggle_is_divided(tmp_path: Path) -> None:
    for table, name, grade in (("train_1", "a", 2), ("valid", "b", 0), ("test", "c", 4)):
        text(tmp_path / f"{table}.csv", f"id_code,diagnosis\n{name},{grade}\n")
        touch(tmp_path, f"{table}_images/{table}_images/{name}.png")
    manifest = load_source("aptos", tmp_path)
    assert grades(manifest) == {"a": 2, "b": 0, "c": 4}
    assert splits(manifest) == {"a": "train", "b": "val", "c": "test"}


def test_refuge_from_kaggle_has_an_index_for_each_part(tmp_path: Path) -> None:
    for split, name, label in (("train", "g0001", 1), ("val", "V0001", 0)):
        place = tmp_path / "REFUGE" / split
        picture(place / "Images" / f"{name}.jpg", label)
        mask(place / "Masks" / f"{name}.png", 128, background=255)
        entry = {
            "ImgName": f"{name}.jpg",
            "Fovea_X": 20.5,
            "Fovea_Y": 30.25,
            "Size_X": 96,
            "Size_Y": 96,
            "Label": label,
        }
        text(place / "index.json", json.dumps({"0": entry, "1": {**entry, "ImgName": "gone.jpg"}}))
    picture(tmp_path / "REFUGE/test/Images/T0001.jpg", 3)
    entry = {"ImgName": "T0001.jpg", "Fovea_X": 1, "Fovea_Y": 2}
    text(tmp_path / "REFUGE/test/index.json", json.dumps([entry]))
    for root in (tmp_path, tmp_path / "REFUGE"):
        images = load_source("refuge", root).images.set_index("image_id")
        assert images["split"].to_dict() == {"g0001": "train", "V0001": "val", "T0001": "test"}
        assert images.loc["g0001", ["grade", "fovea_x", "fovea_y", "disc_x", "disc_y"]].tolist() == [
            1, 20.5, 30.25, 44.5, 24.5,
        ]  # fmt: skip
        assert images.loc["V0001", "grade"] == 0 and pd.isna(images.loc["T0001", "grade"])
        assert images.loc["g0001", "eye"] == "right"
    text(tmp_path / "REFUGE/val/index.json", "{")
    with pytest.raises(UserError, match=r"val/index.json is not a list of photographs in JSON"):
        load_source("refuge", tmp_path)


def papila(base: Path, right: list[list[object]]) -> None:
    header: list[list[object]] = [["ID", "Age", "Diagnosis"]]
    sheet(base / "ClinicalData/patient_data_od.xlsx", [*header, *right])
    sheet(base / "ClinicalData/patient_data_os.xlsx", [*header, ["#002", 50, 2]])
    touch(base, "FundusImages/RET002OD.jpg", "FundusImages/RET002OS.jpg", "FundusImages/RET004OD.jpg")


def test_papila_is_found_below_the_folder_of_its_archive(tmp_path: Path) -> None:
    base = tmp_path / "archive" / "PapilaDB-PAPILA-17f8fa7746adb20275b5b6a0d99dc9dfe3007e9f"
    papila(base, [["#002", 50, 0], ["#004", 60, 1]])
    for root in (tmp_path / "archive", base):
        manifest = load_source("papila", root)
        assert grades(manifest) == {"RET002OD": 0, "RET002OS": 1, "RET004OD": 2}
        assert (root / manifest.images["path"].iloc[0]).is_file()


def test_a_repeated_patient_of_papila_is_refused(tmp_path: Path) -> None:
    papila(tmp_path, [["#002", 50, 0], ["#004", 60, 1], ["#002", 51, 0]])
    with pytest.raises(UserError, match=r"patient_data_od.xlsx, line 4: #002 is on line 2 already; remove one"):
        load_source("papila", tmp_path)


HEADER = "ID,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,Right-Diagnostic Keywords\n"


def test_odir_from_kaggle_repeats_a_patient_for_either_eye(tmp_path: Path) -> None:
    rows = "7,7_left.jpg,7_right.jpg,cataract,normal fundus\n"
    text(tmp_path / "full_df.csv", HEADER + rows + rows)
    touch(tmp_path, "preprocessed_images/7_left.jpg", "preprocessed_images/7_right.jpg")
    manifest = load_source("odir", tmp_path)
    assert manifest.images["image_id"].tolist() == ["7_left", "7_right"]
    assert manifest.readings["finding"].tolist() == ["cataract", ""]
    text(tmp_path / "full_df.csv", HEADER + rows + rows.replace("cataract", "glaucoma"))
    with pytest.raises(UserError, match="remove the row that repeats it"):
        load_source("odir", tmp_path)


def test_oia_odir_has_labelled_test_sets(tmp_path: Path) -> None:
    columns = HEADER.strip().split(",")
    parts = {"Training Set": "training", "Off-site Test Set": "off-site test", "On-site Test Set": "on-site test"}
    for number, (folder, name) in enumerate(parts.items()):
        row = [number, f"{number}_left.jpg", f"{number}_right.jpg", "glaucoma", "normal fundus"]
        sheet(tmp_path / folder / "Annotation" / f"{name} annotation (English).xlsx", [columns, row])
        touch(tmp_path, f"{folder}/Images/{number}_left.jpg", f"{folder}/Images/{number}_right.jpg")
    manifest = load_source("odir", tmp_path)
    assert splits(manifest) == {
        "0_left": "", "0_right": "", "1_left": "test", "1_right": "test", "2_left": "test", "2_right": "test",
    }  # fmt: skip
    assert len(manifest.readings) == 6


def test_airogs_takes_its_patients_from_justraigs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text(tmp_path / "airogs/train_labels.csv", "challenge_id,class\nTRAIN0,RG\nTRAIN1,NRG\nTRAIN2,NRG\n")
    touch(tmp_path / "airogs", "0/TRAIN0.jpg", "0/TRAIN1.jpg", "0/TRAIN2.jpg")
    with caplog.at_level(logging.INFO):
        assert set(load_source("airogs", tmp_path / "airogs").images["patient_id"]) == {""}
    assert "patients are unknown" in caplog.text
    table = text(
        tmp_path / "JustRAIGS_Train_labels.csv", "Eye ID;Fellow Eye ID\nTRAIN2;TRAIN0\nTRAIN0;TRAIN2\nTRAIN1;\n"
    )
    images = load_source("airogs", tmp_path / "airogs", {"patients": str(table)}).images.set_index("image_id")
    assert images["patient_id"].to_dict() == {"TRAIN0": "TRAIN2", "TRAIN1": "TRAIN1", "TRAIN2": "TRAIN2"}
    table.rename(tmp_path / "airogs" / table.name)
    found = load_source("airogs", tmp_path / "airogs").images.set_index("image_id")
    assert found["patient_id"].equals(images["patient_id"])


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
@pytest.mark.parametrize("named", [False, True])
def test_a_manifest_with_any_delimiter_is_read(tmp_path: Path, delimiter: str, named: bool) -> None:
    cells = [
        ["image_id", "path", "disc_x", "disc_y", "fovea_x", "fovea_y"],
        ["a", "Sub\\A.jpg", "10,5", "20", "30", "4.5"],
    ]
    if delimiter == ",":
        cells[1][2] = '"10,5"'
    lines = "\r\n".join(delimiter.join(row) for row in cells)
    text(tmp_path / "images.csv", f"\ufeffsep={delimiter}\r\n{lines}\r\n" if named else lines)
    touch(tmp_path, "sub/a.JPG")
    images = load_source("csv", tmp_path).images
    assert images["path"].tolist() == ["sub/a.JPG"]
    assert images[["disc_x", "disc_y", "fovea_x", "fovea_y"]].to_numpy().tolist() == [[10.5, 20, 30, 4.5]]


@pytest.mark.parametrize("name", ["NA", "None", "nan", "unknown"])
def test_a_placeholder_for_patients_is_said(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    text(tmp_path / "images.csv", f"image_id,path,patient_id\na,a.jpg,{name}\nb,b.jpg,{name}\nc,c.jpg,p7\n")
    load_source("csv", tmp_path)
    assert f"patient_id '{name}' on 2 of 3 photographs makes them one patient" in caplog.text


def test_a_finding_in_another_spelling_is_taken_as_the_known_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text(tmp_path / "images.csv", "image_id,path\na,a.jpg\n")
    rows = "a,r1,Hard exudate,\na,r1,DRUSEN,\na,r2,cotton-wool patch,\na,r2,My Own,\n"
    text(tmp_path / "readings.csv", "image_id,annotator_id,finding,regions\n" + rows)
    found = load_source("csv", tmp_path).readings["finding"].tolist()
    assert found == ["hard_exudate", "drusen", "cotton_wool_patch", "My Own"]
    assert "finding 'Hard exudate' is taken as hard_exudate" in caplog.text


def stand_ins(root: Path, names: Iterable[str], folder: str = "images") -> None:
    """One small picture under many names."""
    first = picture(root / folder / ".stand_in.png", 1)
    for name in names:
        os.link(first, root / folder / name)


def link_tables(source: Path, root: Path, *names: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).symlink_to(source / name)


@pytest.mark.real
class TestRealTables:
    """The published counts, from the published tables; photographs are stand-ins."""

    @pytest.fixture
    def tables(self, real_data: Path) -> Path:
        folder = real_data / "tables"
        if not folder.is_dir():
            pytest.skip("no tables of public sets here")
        return folder

    def test_ddr(self, tables: Path, tmp_path: Path) -> None:
        link_tables(tables / "ddr", tmp_path, "DR_grading.csv")
        stand_ins(tmp_path, pd.read_csv(tables / "ddr/DR_grading.csv")["id_code"])
        found = pd.Series(grades(load_source("ddr", tmp_path, {"task": "grading"}))).value_counts()
        assert found.sort_index().tolist() == [6266, 630, 4477, 236, 913]

    def test_aptos(self, tables: Path, tmp_path: Path) -> None:
        link_tables(tables / "aptos", tmp_path, "train.csv")
        stand_ins(tmp_path, pd.read_csv(tables / "aptos/train.csv")["id_code"] + ".png")
        found = pd.Series(grades(load_source("aptos", tmp_path))).value_counts()
        assert found.sort_index().tolist() == [1805, 370, 999, 193, 295]

    def test_refuge_from_kaggle(self, tables: Path, tmp_path: Path) -> None:
        for split in ("train", "val"):
            table = tables / "refuge" / f"{split}_index.json"
            (tmp_path / split).mkdir()
            (tmp_path / split / "index.json").symlink_to(table)
            stand_ins(
                tmp_path, (entry["ImgName"] for entry in json.loads(table.read_text()).values()), f"{split}/Images"
            )
        images = load_source("refuge", tmp_path).images
        assert images.groupby("split")["grade"].agg(["size", "sum"]).to_numpy().tolist() == [[400, 40], [400, 40]]
        assert images["fovea_x"].notna().all()

    def test_odir(self, tables: Path, tmp_path: Path) -> None:
        link_tables(tables / "odir", tmp_path, "full_df.csv")
        table = pd.read_csv(tables / "odir/full_df.csv")
        stand_ins(tmp_path, {*table["Left-Fundus"], *table["Right-Fundus"]})
        manifest = load_source("odir", tmp_path)
        assert manifest.images["patient_id"].nunique() <= 3358 and manifest.images["image_id"].is_unique
        assert len(manifest.images) > 6000

    def test_odir_official(self, tables: Path, tmp_path: Path) -> None:
        name = "ODIR-5K_Training_Annotations(Updated)_V2.xlsx"
        link_tables(tables / "odir", tmp_path, name)
        table = pd.read_excel(tables / "odir" / name)
        assert len(table) == 3500
        stand_ins(tmp_path, {*table["Left-Fundus"], *table["Right-Fundus"]})
        assert load_source("odir", tmp_path).images["patient_id"].nunique() > 3400

    def test_airogs_and_justraigs_are_the_same_eyes(self, tables: Path, tmp_path: Path) -> None:
        link_tables(tables / "airogs", tmp_path, "train_labels.csv")
        (tmp_path / "JustRAIGS_Train_labels.csv").symlink_to(tables / "justraigs/JustRAIGS_Train_labels.rebuilt.csv")
        eyes = pd.read_csv(tables / "airogs/train_labels.csv")["challenge_id"]
        stand_ins(tmp_path, (f"{name}.jpg" for name in eyes[::20]))
        airogs = load_source("airogs", tmp_path).images.set_index("image_id")
        justraigs = load_source("justraigs", tmp_path, {"task": "grading"}).images.set_index("image_id")
        assert set(justraigs.index) <= set(airogs.index) and len(airogs) == len(eyes[::20])
        assert (airogs.loc[justraigs.index, "grade"] == justraigs["grade"]).mean() > 0.999
        assert (airogs["patient_id"] != "").all()

    def test_papila_and_an_edited_copy(self, tables: Path, tmp_path: Path) -> None:
        base = tmp_path / "papila"
        names = [f"RET{number:03d}{eye}.jpg" for number in range(1, 300) for eye in ("OD", "OS")]
        stand_ins(base, names, "FundusImages")
        link_tables(tables / "papila", base / "ClinicalData", "patient_data_od.xlsx", "patient_data_os.xlsx")
        found = pd.Series(grades(load_source("papila", tmp_path))).value_counts()
        assert found.sort_index().tolist() == [333, 68, 87]
        for name in ("patient_data_od.xlsx", "patient_data_os.xlsx"):
            (base / "ClinicalData" / name).unlink()
        link_tables(
            tables / "papila/edited_copy", base / "ClinicalData", "patient_data_od.xlsx", "patient_data_os.xlsx"
        )
        with pytest.raises(UserError, match=r"#291 is on line \d+ already; remove one"):
            load_source("papila", tmp_path)

    def test_diaretdb1_masks_sum_confidences(self, tables: Path) -> None:
        levels = json.loads((tables / "diaretdb1/diaretdb1.json").read_text())["distributions"]
        seen = {value for image in levels.values() for each in image.values() for value in each["fov"]["values"]}
        assert {value % 21 for value in seen} == {0} and max(seen) == 252 and {21, 42, 84} <= seen
