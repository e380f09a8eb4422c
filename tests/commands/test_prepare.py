"""The prepare verb: a set follows its source, and an earlier version stays for the runs that use it."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_runs import tiny_overrides, tiny_place

from fundusnet.commands import prepare as verb
from fundusnet.commands.evaluate import evaluate
from fundusnet.commands.prepare import prepare_once
from fundusnet.commands.train import train
from fundusnet.config.compose import compose
from fundusnet.data import prepare as preparing
from fundusnet.data.prepare_one import PrepareJob, prepare_one
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.errors import UserError
from fundusnet.runs.folder import read_config
from fundusnet.system.locks import folder_lock


def picture(file: Path, seed: int) -> None:
    y, x = np.mgrid[:80, :80] - 40
    values = np.random.default_rng(seed).integers(80, 250, (80, 80, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((values * (np.hypot(x, y) < 36)[:, :, None]).astype(np.uint8)).save(file)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photographs that were prepared, in place of being taken from an earlier version."""
    seen: list[str] = []

    def watched(job: PrepareJob) -> object:
        seen.append(job.image_id)
        return prepare_one(job)

    monkeypatch.setattr(preparing, "prepare_one", watched)
    return seen


def opened(place: Path, source: str, *words: str) -> PreparedSet:
    common = [f"data={source}", f"data.root={place / 'raw'}", f"data.folder={place / 'set'}", "data.size=32"]
    return prepare_once(compose([*common, "data.workers=0", *words], "prepare"))


def graded(place: Path, names: dict[str, int]) -> None:
    for name, seed in names.items():
        picture(place / "raw" / f"{name}.png", seed)


def test_added_photographs_are_prepared_and_no_others(
    tmp_path: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    graded(tmp_path, {"0/a": 1, "0/b": 2, "1/c": 3})
    first = opened(tmp_path, "folder", "data.options.classes=[0,1]")
    assert first.folder == tmp_path / "set" and decoded == ["0_a", "0_b", "1_c"]
    decoded.clear()
    graded(tmp_path, {"1/a": 4, "0/c": 5})
    (tmp_path / "raw" / "0" / "b.png").unlink()
    with caplog.at_level(logging.INFO, "fundusnet"):
        second = opened(tmp_path, "folder", "data.options.classes=[0,1]")
    assert second.folder == tmp_path / "set.v2" and sorted(decoded) == ["0_c", "1_a"]
    assert "2 photographs added, 1 photographs removed; preparing" in caplog.text
    assert second.manifest.images["image_id"].tolist() == ["0_a", "0_c", "1_a", "1_c"]
    # What was taken over is what preparing again would give; the earlier version is as it was.
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    fresh = opened(tmp_path, "folder", "data.options.classes=[0,1]", f"data.folder={tmp_path / 'again'}")
    assert np.array_equal(fresh.pixels, second.pixels)
    pd.testing.assert_frame_equal(fresh.manifest.images, second.manifest.images)
    assert open_prepared(tmp_path / "set").manifest.images["image_id"].tolist() == ["0_a", "0_b", "1_c"]


def test_it_ends_with_what_the_set_holds(tmp_path: Path, decoded: list[str], caplog: pytest.LogCaptureFixture) -> None:
    graded(tmp_path, {"a": 1, "b": 2, "c": 3})
    (tmp_path / "raw" / "images.csv").write_text("image_id,path,grade\na,a.png,0\nb,b.png,1\nc,c.png,\n")
    readings = "image_id,annotator_id,finding,regions\na,r1,drusen,\na,r2,drusen,\nb,r1,,\n"
    (tmp_path / "raw" / "readings.csv").write_text(readings)
    (tmp_path / "raw" / "lesions.csv").write_text("image_id,finding,path\nc,scar,\n")
    words = ["data=csv", f"data.root={tmp_path}/raw", f"data.folder={tmp_path}/set", "data.size=32", "data.workers=0"]
    cfg = compose([*words, "data.options.classes=[none,some]"], "prepare")
    for new in (False, True):
        caplog.clear()
        if new:
            graded(tmp_path, {"d": 4})
            with (tmp_path / "raw" / "images.csv").open("a") as table:
                table.write("d,d.png,1\n")
        with caplog.at_level(logging.INFO, "fundusnet"):
            folder = verb.prepare_folder(cfg)
        assert caplog.messages[-6:] == [
            f"{folder} holds {3 + new} photographs:",
            "  grade none: 1",
            f"  grade some: {1 + new}",
            "  without a grade: 1",
            "  drusen: marked in 1, not in 1",
            "  scar: marked in 0, not in 1",
        ]
    assert any("prepared 4 photographs (1 anew, 3 taken over)" in message for message in caplog.messages)


def test_edited_labels_count(tmp_path: Path, decoded: list[str]) -> None:
    graded(tmp_path, {"a": 1, "b": 2})
    table = tmp_path / "raw" / "images.csv"
    table.write_text("image_id,path,grade\na,a.png,0\nb,b.png,1\n")
    (tmp_path / "raw" / "readings.csv").write_text("image_id,annotator_id,finding,regions\na,r1,drusen,macula\n")
    assert opened(tmp_path, "csv").manifest.images["grade"].tolist() == [0, 1]
    decoded.clear()
    table.write_text("image_id,path,grade\na,a.png,0\nb,b.png,2\n")
    assert opened(tmp_path, "csv").manifest.images["grade"].tolist() == [0, 2]
    with (tmp_path / "raw" / "readings.csv").open("a") as stream:
        stream.write("b,r1,drusen,macula\n")
    third = opened(tmp_path, "csv")
    assert third.folder.name == "set.v3" and third.manifest.readings["image_id"].tolist() == ["a", "b"]
    assert decoded == []


def test_a_changed_photograph_or_mask_is_prepared_again(tmp_path: Path, decoded: list[str]) -> None:
    graded(tmp_path, {"a": 1, "b": 2, "c": 3})
    (tmp_path / "raw" / "images.csv").write_text("image_id,path\na,a.png\nb,b.png\nc,c.png\n")
    (tmp_path / "raw" / "lesions.csv").write_text("image_id,finding,path\na,drusen,m.png\nb,drusen,\n")
    mask = np.zeros((80, 80), np.uint8)
    mask[30:40, 30:40] = 255
    Image.fromarray(mask).save(tmp_path / "raw" / "m.png")
    first = opened(tmp_path, "csv")
    decoded.clear()
    picture(tmp_path / "raw" / "b.png", 9)
    second = opened(tmp_path, "csv")
    assert decoded == ["b"] and not np.array_equal(first.pixels[1], second.pixels[1])
    kept, earlier = second.lesion_mask("a", "drusen"), first.lesion_mask("a", "drusen")
    assert kept is not None and earlier is not None and np.array_equal(kept, earlier)
    Image.fromarray(mask.T[::-1]).save(tmp_path / "raw" / "m.png")
    decoded.clear()
    assert opened(tmp_path, "csv").folder.name == "set.v3" and decoded == ["a"]


def test_what_did_not_change_is_compared_once(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graded(tmp_path, {"0/a": 1, "1/b": 2})
    opened(tmp_path, "folder", "data.options.classes=[0,1]")
    (tmp_path / "raw" / "notes.txt").write_text("of no matter")
    assert opened(tmp_path, "folder", "data.options.classes=[0,1]").folder.name == "set"
    monkeypatch.setattr(verb, "load_source", None)  # not needed: no file changed since
    assert opened(tmp_path, "folder", "data.options.classes=[0,1]").folder.name == "set"
    shutil.rmtree(tmp_path / "raw")  # a set without its photographs is opened as it is
    assert len(opened(tmp_path, "folder", "data.options.classes=[0,1]")) == 2


def test_a_set_is_opened_while_another_is_made_beside_it(tmp_path: Path, decoded: list[str]) -> None:
    graded(tmp_path, {"a": 1})
    opened(tmp_path, "folder")
    with folder_lock(tmp_path):
        assert opened(tmp_path, "folder").folder.name == "set"


def test_an_interrupted_version_is_resumed(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    graded(tmp_path, {"a": 1})
    opened(tmp_path, "folder")
    graded(tmp_path, {"b": 2, "c": 3})
    whole = preparing.finish
    monkeypatch.setattr(preparing, "finish", lambda *_: os.kill(os.getpid(), 0) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        opened(tmp_path, "folder")
    monkeypatch.setattr(preparing, "finish", whole)
    assert len(opened(tmp_path, "folder")) == 3


def test_a_set_from_before_there_were_records_follows_its_source(tmp_path: Path, decoded: list[str]) -> None:
    graded(tmp_path, {"a": 1, "b": 2})
    first = opened(tmp_path, "folder")
    (first.folder / "record.jsonl").unlink()
    settings = first.folder / "prepared.yaml"
    settings.write_text("".join(line for line in settings.read_text().splitlines(True) if not line.startswith("state")))
    decoded.clear()
    assert opened(tmp_path, "folder").folder.name == "set" and decoded == []
    graded(tmp_path, {"c": 3})
    assert len(opened(tmp_path, "folder")) == 3 and decoded == ["a", "b", "c"]


def test_a_run_keeps_the_version_it_was_trained_on(tmp_path: Path) -> None:
    words = [*tiny_overrides(tiny_place(tmp_path)), f"data.folder={tmp_path / 'set'}", "evaluation.panels=0"]
    images = ["image_id,path,patient_id,disc_x,disc_y,fovea_x,fovea_y"]
    images += [f"image{n:02d},{n:02d}.png,patient{n // 2:02d},70,48,40,50" for n in range(24)]
    masks = [f"image{n:02d},drusen,{'' if n % 2 else f'drusen{n:02d}.png'}" for n in range(23)]
    (tmp_path / "raw" / "images.csv").write_text("\n".join(images))
    (tmp_path / "raw" / "lesions.csv").write_text("\n".join(["image_id,finding,path", *masks, ""]))
    first = train(compose([*words, f"run_dir={tmp_path / 'one'}"]))
    lesions = tmp_path / "raw" / "lesions.csv"
    kept = lesions.read_text().splitlines(True)
    lesions.write_text("".join(kept[:-1]))
    second = train(compose([*words, f"run_dir={tmp_path / 'two'}"]))
    folders = [Path(read_config(run.run_dir).data.folder).name for run in (first, second)]
    assert folders == ["set", "set.v2"]
    again = evaluate(compose([f"run={first.run_dir}", "evaluation.bootstrap=20", "evaluation.panels=0"], "evaluate"))
    assert (again / "predictions.csv").read_text() == (first.run_dir / "predictions.csv").read_text()
    assert train(compose([f"resume={first.run_dir}"])).metrics == first.metrics


def test_a_folder_made_from_something_else_is_refused(tmp_path: Path, decoded: list[str]) -> None:
    graded(tmp_path, {"0/a": 1, "1/b": 2})
    opened(tmp_path, "folder", "data.options.classes=[0,1]")
    with pytest.raises(UserError, match=r"was prepared with data.options=.*choose another data.folder"):
        opened(tmp_path, "folder", "data.options.classes=[1,0]")
    shutil.copytree(tmp_path / "raw", tmp_path / "copy")
    with pytest.raises(UserError, match=r"was prepared with data.root=.*raw, and this command says .*copy"):
        opened(tmp_path, "folder", "data.options.classes=[0,1]", f"data.root={tmp_path / 'copy'}")
    shutil.rmtree(tmp_path / "raw")  # moved
    assert len(opened(tmp_path, "folder", "data.options.classes=[0,1]", f"data.root={tmp_path / 'copy'}")) == 2
