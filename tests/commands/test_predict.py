"""``fundusnet predict``: its output folder, for any input and after any interruption."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zipfile import ZipFile

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
import yaml
from dicom_photographs import photograph
from graded import CLASSES, graded_set
from omegaconf import DictConfig
from pages import row_of, rows_under
from tiny import tiny_prepared
from tiny_networks import findings_checkpoint, grading_checkpoint
from tiny_runs import tiny_overrides

from fundusnet import compose, predict, train
from fundusnet.cli.main import main
from fundusnet.data.manifest import Manifest, write_manifest
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError
from fundusnet.prediction import output_files
from fundusnet.prediction.inputs import find_inputs
from fundusnet.system.shard import Shard

SHARES = [f"share_{name}" for name in REGIONS.values()]
COLUMNS = "image_id,path,patient_id,eye,finding,probability,predicted,calibrated,networks,regions,"
COLUMNS += ",".join(SHARES) + ",points,disc_x,disc_y,fovea_x,fovea_y,flags"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs in nested folders (some no pictures), and a network."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("predicting")
    eyes = tiny_prepared(folder / "eyes")
    photographs = folder / "photographs"
    (photographs / "clinic" / "day 2").mkdir(parents=True)
    for number in range(12):
        below = photographs / ("clinic/day 2" if number % 3 else "clinic") / f"{number:02d}.png"
        shutil.copy(folder / "eyes" / "raw" / f"{number:02d}.png", below)
    (photographs / "clinic" / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    (photographs / "notes.txt").write_text("no photograph")
    (photographs / ".hidden.png").write_text("nor this")
    findings_checkpoint(folder / "network.ckpt", seen=eyes)
    return folder


def config(place: Path, output: str | Path, *more: str) -> DictConfig:
    given = [f"checkpoint={place}/network.ckpt", f"input={place}/photographs", f"output={place / output}"]
    keys = {word.partition("=")[0] for word in more}
    kept = [word for word in given if word.partition("=")[0] not in keys]
    return compose([*kept, "device=cpu", "workers=0", "batch_size=4", *more], verb="predict")


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    return predict(config(place, "whole"))


def test_unreadable_files_are_counted_in_a_log_line(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = predict(config(place, "counted", "heatmaps.draw=false"))
    assert f"1 of 13 files could not be read, see {folder}/rejected.csv" in caplog.text


def content(folder: Path) -> dict[str, bytes]:
    """Tables and pictures of a folder, by name."""
    files = [*folder.glob("*.csv"), *folder.glob("heatmaps/*"), *folder.glob("report/*")]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_the_contents_of_the_output_folder(whole: Path) -> None:
    table = pd.read_csv(whole / "predictions.csv", dtype=str, keep_default_na=False)
    assert ",".join(table) == COLUMNS
    assert len(table) == 24 and table["path"].is_monotonic_increasing
    assert table["image_id"].iloc[0] == "clinic_00" and table["path"].iloc[-1] == "clinic/day 2/11.png"
    assert set(table["finding"]) == {"drusen", "hemorrhage"} and set(table["networks"]) == {"1"}
    rejected = pd.read_csv(whole / "rejected.csv")
    assert rejected["path"].tolist() == ["clinic/torn.jpg"] and "not a picture" in rejected["reason"].iloc[0]
    assert len(list((whole / "heatmaps").glob("*.jpg"))) == 24
    record = yaml.safe_load((whole / "prediction.yaml").read_text())
    assert record["state"] == "done" and record["photographs"] == 13 and record["shard"] == "1/1"


def test_without_points_no_region_is_named_or_drawn(place: Path, tmp_path: Path) -> None:
    low = findings_checkpoint(tmp_path / "low.ckpt", threshold=0.01)
    words = [f"checkpoint={low}", "points=given", "heatmaps.draw=false"]
    folder = predict(config(place, tmp_path / "given", *words))
    table = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    assert set(table["points"]) == {"none"} and set(table["regions"]) == {""} and table["predicted"].any()
    assert not list((folder / "report").glob("*.regions.svg"))
    assert yaml.safe_load((folder / "prediction.yaml").read_text())["points"] == "given"


def test_predictions_of_the_originals_equal_those_of_the_training(tmp_path: Path) -> None:
    """A trained run, its originals as a manifest, the same probabilities and decisions."""
    prepared = tiny_prepared(tmp_path)
    two = ["finding.names=[drusen,hemorrhage]", "finding.dilations=[1,2]", "finding.pool=1", "data.split_by=image"]
    two += ["data.fractions=[0.6,0.2,0.2]"]
    run = train(compose([*tiny_overrides(tmp_path), *two, f"run_dir={tmp_path}/run"])).run_dir
    original = prepared.manifest.images.assign(disc_x=70.0, disc_y=48.0, fovea_x=40.0, fovea_y=50.0)
    write_manifest(Manifest(tmp_path / "raw", original), tmp_path / "raw")
    cfg = config(tmp_path, "output", f"checkpoint={run}", f"input={tmp_path}/raw", "heatmaps.draw=false")
    found = pd.read_csv(predict(cfg) / "predictions.csv").set_index(["image_id", "finding"])
    own = pd.read_csv(run / "predictions.csv").set_index(["image_id", "finding"])
    same = found.loc[own.index]
    assert len(found) == 48 and len(own) >= 4
    np.testing.assert_allclose(same["probability"], own["probability"], atol=1e-6)
    np.testing.assert_allclose(same["calibrated"], own["calibrated"], atol=1e-5)
    assert same["predicted"].tolist() == own["predicted"].tolist()
    assert 0 < own["predicted"].sum() < len(own)
    np.testing.assert_allclose(same[SHARES], own[SHARES], atol=2e-3)
    assert same["regions"].fillna("").tolist() == own["regions"].fillna("").tolist()
    assert (same["regions"].isna() == (same["predicted"] == 0)).all()
    points = found[["points", "disc_x", "disc_y", "fovea_x", "fovea_y"]].drop_duplicates()
    assert points.to_numpy().tolist() == [["given", 70, 48, 40, 50]]
    layers = sorted((tmp_path / "output" / "report").glob("*.regions.svg"))
    assert len(layers) == 24 and 'cx="70.0" cy="48.0"' in layers[0].read_text()
    assert same["patient_id"].tolist() == own["patient_id"].tolist()
    assert not (found["flags"] == "unchecked").any()  # the training kept its statistics
    assert not (tmp_path / "output" / "heatmaps").exists()


def test_results_do_not_depend_on_prefetching(place: Path, whole: Path) -> None:
    assert content(predict(config(place, "ahead", "workers=2"))) == content(whole)


def test_results_do_not_depend_on_the_number_of_devices(place: Path, whole: Path) -> None:
    assert content(predict(config(place, "shared", "device=[cpu,cpu]", "batch_size=2"))) == content(whole)


def _predict_until(cfg: DictConfig, rows: int) -> None:
    """Runs in another process, which is killed when this many rows of predictions are written."""
    torch.set_num_threads(1)
    add, written = output_files.ResumableTable.add, 0

    def adding(self: Any, rows_now: Any) -> None:
        nonlocal written
        some = list(rows_now)
        add(self, some)
        written += sum(len(row) > 2 for row in some)
        if written > rows:
            os.kill(os.getpid(), signal.SIGKILL)

    output_files.ResumableTable.add = adding  # type: ignore[method-assign]
    predict(cfg)


def test_a_killed_command_resumes(place: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(place, "killed")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_predict_until, args=(cfg, 9))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    table = place / "killed" / "predictions.csv"
    early = table.read_bytes()
    assert early.count(b"\n") == 17  # the header, and two batches of four photographs with two findings
    assert not (place / "killed" / "report.html").exists()
    table.write_bytes(early + b"clinic_day 2_08,clinic/day 2/08.png,,,drusen,0.4")  # torn in the middle of a row
    from fundusnet.prediction.predictor import Predictor

    seen: list[int] = []
    answer = Predictor.answer
    monkeypatch.setattr(Predictor, "answer", lambda self, p: [seen.append(len(p)), answer(self, p)][1])
    assert content(predict(cfg)) == content(whole)
    assert sum(seen) == 4  # finished photographs are not predicted again
    seen.clear()
    assert content(predict(cfg)) == content(whole) and seen == []


def test_only_the_same_command_resumes(place: Path, whole: Path, tmp_path: Path) -> None:
    other = findings_checkpoint(tmp_path / "other.ckpt", seed=5)
    for more, message in (
        ([f"checkpoint={other}"], "was started with other checkpoints"),
        ([f"input={place}/eyes/raw"], "was started with other photographs"),
        (["heatmaps.raw=true"], "was started with heatmaps="),
        (["shard=1/2"], "was started with shard=1/1"),
        (["points=given"], "was started with points=auto"),
        (["precision=bf16-mixed"], "was started with precision=32-true"),
    ):
        with pytest.raises(UserError, match=message):
            predict(config(place, "whole", *more))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.doc").write_text("mine")
    with pytest.raises(UserError, match="exists and holds no predictions"):
        predict(config(place, tmp_path / "full"))


def test_strict_stops_with_exit_code_2(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"checkpoint={place}/network.ckpt", f"input={place}/photographs", f"output={tmp_path}/out", "workers=0"]
    assert main(["predict", *words, "strict=true"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "clinic/torn.jpg: file is not a picture" in said[0] and "strict=false" in said[0]
    assert main(["predict", *words]) == 0  # and goes on where that stopped
    assert capsys.readouterr().out.strip() == f"{tmp_path}/out"


def test_a_folder_without_readable_files_is_an_error_that_leaves_the_reasons(place: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    with pytest.raises(UserError, match=r"none of the 1 files could be read; .*rejected.csv says why"):
        predict(config(place, tmp_path / "output", f"input={tmp_path}/torn.jpg"))
    assert len((tmp_path / "output" / "rejected.csv").read_text().splitlines()) == 2


def test_merged_parts_equal_one_command_over_all(place: Path, whole: Path) -> None:
    parts = [predict(config(place, f"parts/{number}", f"shard={number}/3", "batch_size=2")) for number in (1, 2, 3)]
    merged = predict(compose([f"merge={place}/parts/*", f"output={place}/merged"], verb="predict"))
    one, all_at_once = content(merged), content(whole)
    assert one.keys() == all_at_once.keys()
    assert one["rejected.csv"] == all_at_once["rejected.csv"]
    tables_ = [pd.read_csv(folder / "predictions.csv", keep_default_na=False) for folder in (merged, whole)]
    # Other batches may round the last digit otherwise.
    pd.testing.assert_frame_equal(*tables_, rtol=1e-5)
    assert "12 photographs read" in (merged / "report.html").read_text()
    for names, message in (
        ([parts[0], parts[2]], "part 2/3 is missing"),
        ([*parts, shutil.copytree(parts[0], place / "again")], "are both part 1/3"),
        ([whole, parts[0]], "merge parts of one"),
        ([place / "nowhere"], "matches no predictions"),
    ):
        with pytest.raises(UserError, match=message):
            predict(compose([f"merge=[{','.join(map(str, names))}]", f"output={place}/x"], verb="predict"))
    assert not (place / "x").exists()
    with pytest.raises(UserError, match="is not empty"):
        predict(compose([f"merge={place}/parts/*", f"output={place}/merged"], verb="predict"))


def test_heat_map_options(place: Path, tmp_path: Path) -> None:
    one = f"input={place}/photographs/clinic/00.png"
    folder = predict(config(place, tmp_path / "out", one, "heatmaps.side_by_side=true", "heatmaps.raw=true"))
    assert {file.name for file in (folder / "heatmaps").iterdir()} == {
        "00.drusen.jpg",
        "00.drusen.raw.png",
        "00.hemorrhage.jpg",
        "00.hemorrhage.raw.png",
    }
    from fundusnet import load

    picture = cv2.imread(str(folder / "heatmaps" / "00.drusen.jpg"))
    own = cv2.imread(str(place / "photographs/clinic/00.png"))
    height, width = own.shape[:2]
    raw = cv2.imread(str(folder / "heatmaps" / "00.drusen.raw.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (height, 2 * width, 3) and raw.shape == (height, width) and raw.dtype == np.uint16
    whole_map = load(place / "network.ckpt").predict(place / "photographs/clinic/00.png", maps=True).maps["drusen"]
    np.testing.assert_allclose(raw / 65535, whole_map, atol=1e-4)  # in the frame of the photograph
    assert np.abs(picture[:, :width].astype(int) - own).mean() < 3  # beside it the photograph itself
    small = predict(config(place, tmp_path / "small", one, f"heatmaps.size={width // 2}", "heatmaps.scale=relative"))
    assert cv2.imread(str(small / "heatmaps" / "00.drusen.jpg")).shape == (height // 2, width // 2, 3)


def test_columns_of_grades(tmp_path: Path) -> None:
    prepared = graded_set(tmp_path, [number // 2 % 3 for number in range(24)])
    seeds = [grading_checkpoint(tmp_path / f"{seed}.ckpt", CLASSES, seed=seed, seen=prepared) for seed in (0, 1)]
    for name, checkpoint, networks in (("one", str(seeds[0]), 1), ("two", f"[{seeds[0]},{seeds[1]}]", 2)):
        folder = predict(config(tmp_path, name, f"checkpoint={checkpoint}", f"input={tmp_path}/raw"))
        table = pd.read_csv(folder / "predictions.csv")
        expected = "image_id,path,patient_id,eye,predicted,class,stage1_predicted,p_gt_0,p_gt_1"
        expected += ",calibrated_gt_0,calibrated_gt_1,networks,flags"
        assert ",".join(table) == expected and len(table) == 24
        assert (table["class"] == [CLASSES[grade] for grade in table["predicted"]]).all()
        assert set(table["networks"]) == {networks} and table["stage1_predicted"].notna().all()
        assert len(list((folder / "heatmaps").glob("*.jpg"))) == 24
        counts = [int((table["class"] == grade).sum()) for grade in CLASSES]
        rows = rows_under(folder / "report.html", "Grades")
        assert [row["Grade"] for row in rows] == [grade.capitalize() for grade in CLASSES]
        assert [(int(row["Photographs"]), row["Share"]) for row in rows] == [
            (count, f"{count / 24 * 100:.1f} %") for count in counts
        ]


def test_patient_and_eye_come_from_dicom(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_dicom import write_dicom

    source = place / "photographs" / "clinic" / "00.png"
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "IM1", cv2.imread(str(source))[:, :, ::-1])
    shutil.copy(source, tmp_path / "in" / "plain.png")
    folder = predict(config(place, tmp_path / "out", f"input={tmp_path}/in"))
    table = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    assert table["patient_id"].tolist() == ["P-0007"] * 2 + [""] * 2
    assert table["eye"].tolist() == ["left"] * 2 + [""] * 2
    np.testing.assert_allclose(table["probability"][:2], table["probability"][2:], atol=1e-6)
    (tmp_path / "in" / "IM1").rename(tmp_path / "in" / "IM1.dcm")
    monkeypatch.setattr("fundusnet.data.dicom.installed", lambda: False)
    with pytest.raises(UserError, match=r"IM1\.dcm is DICOM, which needs pydicom: pip install"):
        predict(config(place, tmp_path / "no", f"input={tmp_path}/in"))


def test_unusual_photographs_are_flagged_in_table_and_report(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    page = np.full((96, 96, 3), 250, np.uint8)
    page[20:80:8, 10:86] = 0
    cv2.imwrite(str(tmp_path / "in" / "letter.png"), page)
    shutil.copy(place / "photographs" / "clinic" / "00.png", tmp_path / "in")
    folder = predict(config(place, tmp_path / "out", f"input={tmp_path}/in"))
    table = pd.read_csv(folder / "predictions.csv", keep_default_na=False).drop_duplicates("image_id")
    flags = dict(zip(table["image_id"], table["flags"], strict=True))
    assert flags["00"] == "" and flags["letter"] == "unlike_training"
    (row,) = rows_under(folder / "report.html", "Check these")
    assert row["What"].startswith("unlike_training Another camera, colour or framing") and row["Photographs"] == "1"


def test_the_report_is_self_contained_and_bounded(place: Path, whole: Path, tmp_path: Path) -> None:
    text = (whole / "report.html").read_text()
    assert text.count('"small": "data:image/jpeg') == 12 and "12 photographs read" in text
    table = pd.read_csv(whole / "predictions.csv")
    for finding, rows in table.groupby("finding"):
        row = row_of(whole / "report.html", "Findings", str(finding).capitalize())
        present = rows["predicted"].sum()
        assert row["Present in"] == f"{present} {present / 12 * 100:.1f} %" and row["Operating point"] == "0.500"
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "<link" not in text
    few = predict(config(place, tmp_path / "few", "report.pictures=5", "heatmaps.draw=false"))
    text = (few / "report.html").read_text()
    links = re.findall(r'"small": "(report/[^"]+)"', text)
    assert len(links) == 12 and all((few / unquote(link)).is_file() for link in links)
    with ZipFile(few / "report.zip") as archive:
        assert {"report.html", *map(unquote, links)} <= set(archive.namelist())
    none = predict(config(place, tmp_path / "none", "report.pictures=0", "heatmaps.draw=false"))
    assert (none / "report.html").is_file() and not (none / "report").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["input=nowhere"], "input=nowhere does not exist"),
        (["input=null"], "input is not given; add input=VALUE"),
        (["checkpoint=null"], "checkpoint is not given"),
        (["device=[]"], "device=[] names no device"),
        (["shard=0/4"], "shard=0/4 is not a part i/n; shard=1/4"),
        (["shard=1/99"], "leaves parts empty"),
        (["merge=parts"], "merge joins finished parts; leave out checkpoint="),
    ],
)
def test_a_wrong_command_is_one_line(place: Path, more: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        predict(config(place, "wrong", *more))
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert not (place / "wrong").exists()


def test_an_output_folder_inside_the_input_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="choose a folder outside"):
        predict(config(place, "photographs/out"))


def test_inputs(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no photograph"):
        find_inputs(tmp_path)
    root, entries = find_inputs(place / "photographs" / "clinic" / "00.png")
    assert (root, [entry.path for entry in entries]) == (place / "photographs" / "clinic", ["00.png"])
    assert Shard.parsed(None) == Shard(1, 1) and str(Shard.parsed("2/3")) == "2/3"
    (tmp_path / "images.csv").write_text("image_id,path,patient_id,eye\nb,2.jpg,p1,left\na,1.jpg,p1,right\n")
    for given in (tmp_path, tmp_path / "images.csv"):
        _, entries = find_inputs(given)
        assert [(e.image_id, e.patient_id, e.eye) for e in entries] == [("a", "p1", "right"), ("b", "p1", "left")]


def test_a_manifest_is_read_as_prepare_reads_it(place: Path, tmp_path: Path) -> None:
    """Paths of another system, in another case; a point with one coordinate only is an error, not an unknown one."""
    shutil.copytree(place / "photographs" / "clinic", tmp_path / "in" / "Clinic")
    rows = "a,clinic\\00.PNG,,\nb,clinic\\Day 2\\01.png,100,\n"
    (tmp_path / "in" / "images.csv").write_text("image_id,path,fovea_x,fovea_y\n" + rows)
    _, entries = find_inputs(tmp_path / "in")
    assert [entry.path for entry in entries] == ["Clinic/00.png", "Clinic/day 2/01.png"]
    out = predict(config(place, tmp_path / "out", f"input={tmp_path}/in"))
    assert set(pd.read_csv(out / "predictions.csv")["image_id"]) == {"a"}
    (rejected,) = pd.read_csv(out / "rejected.csv").to_dict("records")
    assert "fovea has one coordinate only" in str(rejected["reason"])


def test_reservations_and_names_that_are_not_utf8_stand_in_the_tables(place: Path, tmp_path: Path) -> None:
    y, x = np.mgrid[:200, :420]
    eyes = (np.hypot(x - 105, y - 100) < 90) | (np.hypot(x - 315, y - 100) < 90)
    cv2.imwrite(str(tmp_path / "two.png"), (np.stack([eyes * 40, eyes * 90, eyes * 180], axis=2)).astype(np.uint8))
    twelve = cv2.imread(str(place / "eyes" / "raw" / "00.png")).astype(np.uint16) << 4
    cv2.imwrite(str(tmp_path / "twelve.png"), twelve)
    shutil.copy(tmp_path / "two.png", os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    folder = predict(config(place, "reservations", f"input={tmp_path}"))
    flags = pd.read_csv(folder / "predictions.csv", keep_default_na=False).drop_duplicates("path")
    flags = flags.set_index("path")["flags"].str.split(";")
    assert "several_fields" in flags["two.png"] and "fewer_bits" in flags["twelve.png"]
    assert "fewer_bits" not in flags["two.png"]
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected.to_numpy().tolist() == [[r"caf\xe9.png", "file name is not UTF-8; rename the file"]]
    assert "several fields" in (folder / "report.html").read_text()


def test_dicom_photographs_get_objects_of_their_study_and_others_none(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = cv2.imread(str(place / "eyes" / "raw" / "00.png"))[:, :, ::-1]
    (tmp_path / "mixed").mkdir()
    shutil.copy(place / "eyes" / "raw" / "01.png", tmp_path / "mixed")
    height, width = pixels.shape[:2]
    source = photograph(tmp_path / "mixed" / "a.dcm", Rows=height, Columns=width, PixelData=pixels.tobytes())
    words = [f"input={tmp_path}/mixed", "dicom=true"]
    folder = predict(config(place, tmp_path / "out", *words, f"output={tmp_path}/out"))
    assert "1 of 2 photographs are not DICOM and get no objects" in caplog.text
    table = pd.read_csv(folder / "predictions.csv").set_index(["image_id", "finding"])
    findings = list(table.loc["a"].index)
    names = sorted(file.name for file in (folder / "dicom").iterdir())
    assert names == sorted(["a.seg.dcm", "a.sr.dcm", *(f"a.{name}.sc.dcm" for name in findings)])
    report = pydicom.dcmread(folder / "dicom" / "a.sr.dcm")
    assert report.StudyInstanceUID == source.StudyInstanceUID
    said = [float(each.value) for each in report.iterall() if each.keyword == "NumericValue"]
    np.testing.assert_allclose(said[2:], table.loc["a", "probability"], atol=2e-6)  # after the size of the photograph
    with pytest.raises(UserError, match="was started with dicom=True"):
        predict(config(place, tmp_path / "out", words[0], f"output={tmp_path}/out"))
