"""An export can be trained on and follows the adjudicator; a study can continue from an earlier manifest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from studies import FINDINGS, Page, answer, client_of, link_of, open_study

from fundusnet.annotation.manifest_import import import_readings
from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.storage import Storage
from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.annotation.tables import answers
from fundusnet.data.consensus import consensus
from fundusnet.data.manifest import read_manifest
from fundusnet.data.prepare import prepare
from fundusnet.data.regions import cue_mask
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError
from fundusnet.findings.datamodule import FindingsDataModule

READERS = ["anna", "ben", "cleo"]
IMAGES = "abcdefgh"


def pages(study: Study, *names: str) -> list[Page]:
    return [Page(client_of(study, links=True), link_of(study, name)) for name in names]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Drusen in every other image by all three, a hemorrhage in a by anna alone; h is ungradable, g not read."""
    study = open_study(tmp_path, READERS, ["ada"], images=IMAGES)
    for number, page in enumerate(pages(study, *READERS)):
        for place, image_id in enumerate("abcdef"):
            findings = {"drusen": ["macula"]} if place % 2 == 0 else {}
            if image_id == "a" and number == 0:
                findings["hemorrhage"] = ["temporal"]
            disc = [80.0 + number, 50.0] if place % 2 == 0 else [40.0, 50.0]
            fovea = [45.0, 52.0] if place % 2 == 0 else [75.0, 51.0]
            page.put(image_id, answer(findings=findings, normal=not findings, disc=disc, fovea=fovea))
        page.put("h", answer(state="ungradable", ungradable="blurred", comment="dark, blurred"))
    return study


def labels(folder: Path, present: int = 2) -> dict[tuple[str, str], tuple[str, frozenset[str]]]:
    table = consensus(read_manifest(folder).readings, present=present, findings=["drusen", "hemorrhage"])
    return {(i, f): (label, regions) for i, f, label, regions in table.itertuples(index=False, name=None)}


def test_export_is_the_manifest_of_what_was_read(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "out")
    manifest = load_source("csv", folder)
    images = manifest.images.set_index("image_id")
    assert list(images.index) == list(IMAGES)
    # The median of 80, 81 and 82; what nobody placed stays unknown.
    assert images.loc["a", ["disc_x", "disc_y", "fovea_x", "fovea_y"]].tolist() == [81, 50, 45, 52]
    assert images.loc["g", ["disc_x", "disc_y", "fovea_x", "fovea_y"]].isna().all()
    assert images["eye"].to_dict() | {"g": "", "h": ""} == dict(zip(IMAGES, ["right", "left"] * 4, strict=True)) | {
        "g": "",
        "h": "",
    }
    for image_id, path in images["path"].items():
        original = tmp_path / "photographs" / f"{image_id}.png"
        assert (folder / path).read_bytes() == original.read_bytes()
    rows = sorted(manifest.readings.itertuples(index=False, name=None))
    assert rows[:4] == [
        ("a", "anna", "drusen", "macula"),
        ("a", "anna", "hemorrhage", "temporal"),
        ("a", "ben", "drusen", "macula"),
        ("a", "cleo", "drusen", "macula"),
    ]
    assert ("b", "anna", "", "") in rows
    assert not {"g", "h"} & set(manifest.readings["image_id"])
    assert len(rows) == 3 * 6 + 1
    assert labels(folder)["a", "hemorrhage"] == ("undecided", frozenset({"temporal"}))
    assert not (folder / "readings_blind.csv").exists()


def test_an_unfinished_answer_is_not_a_reading(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    page = Page(client_of(study))
    page.put("a", answer())
    page.put("a", answer(version=1, state="todo", findings={"drusen": ["macula"]}))
    page.put("b", answer(state="skipped", findings={"drusen": ["macula"]}))
    assert load_source("csv", export_study(study, tmp_path / "out")).readings.empty


@pytest.mark.parametrize("present", [1, 2, 3])
@pytest.mark.parametrize("verdict", [True, False])
def test_consensus_follows_the_adjudicator(study: Study, tmp_path: Path, verdict: bool, present: int) -> None:
    (ada,) = pages(study, "ada")
    body = {"finding": "hemorrhage", "present": verdict, "regions": ["macula", "disc_inferior"] if verdict else []}
    assert ada.put("a", body | {"version": 0}, "/api/adjudication/{}").status_code == 200
    folder = export_study(study, tmp_path / "out")
    decided = ("present", frozenset({"macula", "disc_inferior"})) if verdict else ("absent", frozenset())
    assert labels(folder, present)["a", "hemorrhage"] == decided
    assert labels(folder, present)["a", "drusen"] == ("present", frozenset({"macula"}))
    # The annotators' own words are beside it, and no name stands in front of what its bearer did not say.
    blind = pd.read_csv(folder / "readings_blind.csv")
    assert ("a", "anna", "hemorrhage", "temporal") in list(blind.itertuples(index=False, name=None))
    table = read_manifest(folder).readings
    said_by = set(table.loc[(table["image_id"] == "a") & (table["finding"] == "hemorrhage"), "annotator_id"])
    assert said_by == ({"adjudicated-1", "adjudicated-2", "adjudicated-3"} if verdict else set())


def test_an_image_whose_only_mark_was_overruled_is_normal(tmp_path: Path) -> None:
    study = open_study(tmp_path, READERS, ["ada"])
    anna, ben, cleo, ada = pages(study, *READERS, "ada")
    anna.put("a", answer(findings={"hemorrhage": ["macula"]}))
    for page in (ben, cleo):
        page.put("a", answer(state="ungradable", ungradable="blurred"))
    body = {"finding": "hemorrhage", "present": False, "regions": [], "version": 0}
    assert ada.put("a", body, "/api/adjudication/{}").status_code == 200
    rows = read_manifest(export_study(study, tmp_path / "out")).readings
    assert rows.to_numpy().tolist() == [["a", "adjudicated-1", "", ""]]


def test_a_withdrawn_decision_does_not_count(study: Study, tmp_path: Path) -> None:
    (ada,) = pages(study, "ada")
    body = {"finding": "hemorrhage", "present": False, "regions": [], "version": 0}
    ada.put("a", body, "/api/adjudication/{}")
    ada.put("a", body | {"present": None, "version": 1}, "/api/adjudication/{}")
    assert labels(export_study(study, tmp_path / "out"))["a", "hemorrhage"][0] == "undecided"


def test_a_failed_export_leaves_the_earlier_one_intact(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_study(study, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in folder.glob("*.*")}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fundusnet.annotation.study_export.write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        export_study(study, folder)
    assert {file.name: file.read_bytes() for file in folder.glob("*.*")} == before
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".out")) == []


def test_an_export_that_cannot_be_renamed_leaves_the_earlier_one(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_study(study, tmp_path / "out")
    before = (folder / "study.json").read_text()
    rename, calls = Path.rename, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        export_study(study, folder)
    assert (folder / "study.json").read_text() == before
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".out")) == []


def test_originals_are_neither_copied_nor_touched(study: Study, tmp_path: Path) -> None:
    original = tmp_path / "photographs" / "a.png"
    before = (original.read_bytes(), original.stat().st_mtime_ns)
    folder = export_study(study, tmp_path / "out")
    export_study(study, folder)
    assert (folder / "images" / "a.png").samefile(original)
    assert (original.read_bytes(), original.stat().st_mtime_ns) == before


def test_files_that_cannot_be_linked_are_copied(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    folder = export_study(study, tmp_path / "out")
    assert not (folder / "images" / "a.png").samefile(tmp_path / "photographs" / "a.png")
    assert (folder / "images" / "a.png").read_bytes() == (tmp_path / "photographs" / "a.png").read_bytes()


def test_a_photograph_that_is_missing_or_outside_the_root_is_left_out(study: Study, tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    (root / "a.png").unlink()
    (root / "b.png").rename(tmp_path / "elsewhere.png")
    (root / "b.png").symlink_to(tmp_path / "elsewhere.png")
    manifest = load_source("csv", export_study(study, tmp_path / "out"))
    assert list(manifest.images["image_id"]) == list("cdefgh")
    assert set(manifest.readings["image_id"]) == set("cdef")


def test_an_export_without_any_photograph_leaves_the_earlier_one(study: Study, tmp_path: Path) -> None:
    folder = export_study(study, tmp_path / "export")
    before = (folder / "images.csv").read_text()
    shutil.move(tmp_path / "photographs", tmp_path / "away")
    with pytest.raises(UserError, match=r"no photograph of this study can be read .*bring them back"):
        export_study(study, tmp_path / "export")
    assert (folder / "images.csv").read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".export")] == []


def test_values_of_the_source_are_kept(tmp_path: Path) -> None:
    open_study(tmp_path / "drawn")
    root = tmp_path / "photographs"
    (tmp_path / "drawn" / "photographs").rename(root)
    (root / "images.csv").write_text(
        "image_id,path,patient_id,eye,split,disc_x,disc_y,fovea_x,fovea_y,grade\n"
        "one,a.png,007,left,test,80.125,50,45,52,2\ntwo,b.png,,,,,,,,\n"
    )
    study = open_study(tmp_path, source="csv")
    page = Page(client_of(study))
    page.put("two", answer(normal=True, disc=None, fovea=None))
    images = load_source("csv", export_study(study, tmp_path / "out")).images
    assert images.iloc[0].tolist() == ["one", "images/one.png", "007", "left", "test", 80.125, 50, 45, 52, 2]
    assert images.iloc[1].tolist()[:5] == ["two", "images/two.png", "", "", ""]
    assert images.iloc[1, 5:].isna().all()


def test_an_export_can_be_prepared_and_batched(study: Study, tmp_path: Path) -> None:
    (ada,) = pages(study, "ada")
    body = {"finding": "hemorrhage", "present": True, "regions": ["temporal"], "version": 0}
    ada.put("a", body, "/api/adjudication/{}")
    manifest = load_source("csv", export_study(study, tmp_path / "out"))
    prepared = prepare(manifest, tmp_path / "prepared", size=64)
    assert prepared.info["counts"] | {"duplicate_groups": 0} == prepared.info["counts"]
    assert (prepared.info["counts"]["prepared"], prepared.info["counts"]["rejected"]) == (8, 0)

    module = FindingsDataModule(prepared.folder, ["drusen", "hemorrhage"], feature_size=8, fractions=(1.0, 0.0, 0.0))
    module.setup()
    row = {image_id: row for row, image_id in enumerate(module.prepared.manifest.images["image_id"])}
    # g was not read and h is ungradable: neither teaches anything.
    assert set(module.rows["train"]) == {row[image_id] for image_id in "abcdef"}
    (batch,) = module.train_dataloader()
    found = {int(index): place for place, index in enumerate(batch["index"])}
    label = {image_id: batch["label"][found[row[image_id]]].tolist() for image_id in "abcdef"}
    assert label == {"a": [1, 1], "c": [1, 0], "e": [1, 0], **{key: [0, 0] for key in "bdf"}}
    cue = batch["cue"][found[row["a"]]]
    expected = cue_mask((100, 120), (81, 50), (45, 52), ["macula"])
    centre = np.argwhere(expected).mean(axis=0)  # the field is 92 pixels wide, from (14, 4)
    for axis, offset in ((0, 4), (1, 14)):
        cells = np.argwhere(cue[0].numpy()).mean(axis=0)[axis]
        assert (centre[axis] - offset) / 92 * 8 == pytest.approx(cells + 0.5, abs=0.75)
    assert 0 < cue[1].sum() < cue[1].numel()


def everything(study: Study) -> list[tuple[object, ...]]:
    with study.storage.read() as connection:
        rows = connection.execute(sa.select(answers.c.image_id, answers.c.state, answers.c.content, answers.c.seconds))
        return sorted((row.image_id, row.state, json.dumps(row.content), row.seconds) for row in rows)


def test_a_study_continues_from_its_export(study: Study, tmp_path: Path) -> None:
    (ada,) = pages(study, "ada")
    ada.put("a", {"finding": "hemorrhage", "present": False, "regions": [], "version": 0}, "/api/adjudication/{}")
    folder = export_study(study, tmp_path / "out")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "photographs").symlink_to(tmp_path / "photographs")
    second = open_study(tmp_path / "second", [*READERS, "dora"], ["ada"])
    assert import_readings(second, folder) == 3 * 7
    assert import_readings(second, folder) == 0
    second.enrol([*READERS, "dora"], ["ada"])
    assert everything(second) == everything(study)
    again = export_study(second, tmp_path / "again")
    for name in ("images.csv", "readings.csv", "readings_blind.csv"):
        assert (again / name).read_text() == (folder / name).read_text()
    # dora takes her share of the image nobody has read, and of none that three have.
    queue = pages(second, "dora")[0].get("/api/queue").json()["images"]
    assert {entry["image_id"] for entry in queue} <= {"g"}
    anna = pages(second, "anna")[0]
    assert anna.get("/api/images/a").json()["answer"]["findings"]["hemorrhage"] == ["temporal"]
    assert anna.put("a", answer(version=1, normal=True)).json()["version"] == 2
    assert import_readings(second, folder) == 0
    assert anna.get("/api/images/a").json()["answer"]["normal"] is True


def test_a_study_can_continue_from_any_manifest(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben", "cleo"])
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "images.csv").write_text(
        "image_id,path,disc_x,disc_y,fovea_x,fovea_y\na,x/a.png,80,50,45,52\nb,b.png,,,,\nc,c.png,,,,\n"
    )
    (earlier / "readings.csv").write_text(
        "image_id,annotator_id,finding,regions\n"
        "a,anna,drusen,temporal;macula\na,anna,hemorrhage,macula\na,zoe,,\nb,zoe,drusen,\n"
    )
    assert import_readings(study, earlier) == 3
    study.enrol(["anna", "ben", "cleo"])
    anna = pages(study, "anna")[0]
    got = anna.get("/api/images/a").json()
    assert got["answer"]["findings"] == {"drusen": ["macula", "temporal"], "hemorrhage": ["macula"]}
    assert (got["points"], got["disc"], got["answer"]["state"]) == ("answer", [80, 50], "done")
    readers = {
        name: {entry["image_id"] for entry in page.get("/api/queue").json()["images"]}
        for name, page in zip(READERS, pages(study, *READERS), strict=True)
    }
    # Zoe's readings count: a and b need two more, a has anna's already.
    assert "a" in readers["anna"]
    for image_id, more in (("a", 2), ("b", 2), ("c", 3), ("d", 3)):
        assert sum(image_id in own for own in readers.values()) == more
    table = read_manifest(export_study(study, tmp_path / "out")).readings
    assert sorted(table.itertuples(index=False, name=None)) == [
        ("a", "anna", "drusen", "macula;temporal"),
        ("a", "anna", "hemorrhage", "macula"),
        ("a", "zoe", "", ""),
        ("b", "zoe", "drusen", ""),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("zzz,anna,drusen,macula\n", "image_id 'zzz' is not in this study"),
        ("a,anna,laser_scar,macula\n", "finding 'laser_scar' is not in this study; add it to finding.names"),
        ("a,anna,drusen,maculae\n", "line 2: unknown region 'maculae'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_completely(tmp_path: Path, rows: str, message: str) -> None:
    study = open_study(tmp_path, READERS)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "images.csv").write_text("image_id,path\na,a.png\nzzz,z.png\n")
    (earlier / "readings.csv").write_text(f"image_id,annotator_id,finding,regions\n{rows}a,ben,drusen,macula\n")
    with pytest.raises(UserError, match=message):
        import_readings(study, earlier)
    assert everything(study) == []


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}', '{"format": 1, "answers": [{}]}'])
def test_a_record_that_no_export_wrote_is_refused(study: Study, tmp_path: Path, content: str) -> None:
    folder = export_study(study, tmp_path / "out")
    (folder / "study.json").write_text(content)
    with pytest.raises(UserError, match="was not written by an export"):
        import_readings(study, folder)


def test_there_is_nothing_to_export_before_the_study_begins(tmp_path: Path) -> None:
    empty = Study(Storage(f"sqlite:///{tmp_path / 'x.sqlite'}"), Photographs(tmp_path, tmp_path / "s"), FINDINGS)
    with pytest.raises(UserError, match="no study to export"):
        export_study(empty, tmp_path / "out")
