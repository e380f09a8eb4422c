"""Preparation shared among machines: parts, how they are merged, and which are refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig
from PIL import Image
from test_prepare import eye, fingerprints

from fundusnet import compose
from fundusnet.cli.main import main
from fundusnet.commands.prepare import prepare_folder, prepare_set
from fundusnet.data import prepare as preparation
from fundusnet.data.manifest import LESION_COLUMNS, READING_COLUMNS, Manifest, images_table, write_manifest
from fundusnet.data.prepared import open_prepared
from fundusnet.errors import UserError

COMMON = ("data=csv", "data.root=source", "data.size=64", "data.workers=0")
BROKEN = (3, 4, 5, 9)  # all of the second of four parts, and one more


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run commands in, with twelve photographs of which eight are good; 0 and 10 are twins, so are 1, 2."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "source"
    root.mkdir()
    rows: list[dict[str, object]] = []
    for number in range(12):
        row: dict[str, object] = {"image_id": f"i{number}", "path": f"{number}.jpg", "patient_id": f"p{number // 2}"}
        if number in BROKEN:
            row["path"] = f'"torn", {number}.jpg'
            (root / str(row["path"])).write_bytes(b"" if number % 2 else b"no picture")
        else:
            shown = {10: 0, 2: 1}.get(number, number)
            Image.fromarray(eye(shown)).save(root / f"{number}.jpg", quality=95 - number)
        if number % 3:
            row |= {"disc_x": 110.0 + number / 7, "disc_y": 120.0, "fovea_x": 190.0, "fovea_y": 125.0}
        if number % 4:
            row["grade"] = float(number % 3)
        rows.append(row)
    mask = np.zeros((240, 320), np.uint8)
    mask[120:140, 110:130] = 255
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray(mask[:100]).save(root / "short, mask.png")
    lesions = [
        ("i7", "hemorrhage", "mask.png"),
        ("i0", "hemorrhage", "mask.png"),
        ("i1", "drusen", ""),
        ("i2", "hemorrhage", "short, mask.png"),
        ("i3", "drusen", "mask.png"),
        ("i8", "drusen", "nowhere.png"),
        ("i11", "drusen", "mask.png"),
    ]
    # By annotator, not by photograph.
    readings = [(f"i{number}", who, "drusen", "macula;temporal") for who in "ba" for number in range(11, -1, -1)]
    tables = pd.DataFrame(readings, columns=list(READING_COLUMNS)), pd.DataFrame(lesions, columns=list(LESION_COLUMNS))
    write_manifest(Manifest(root, images_table(rows), *tables), root)
    return tmp_path


def config(*more: str) -> DictConfig:
    return compose([*COMMON, *more], verb="prepare")


def prepare_parts(count: int) -> None:
    for number in range(1, count + 1):
        prepare_folder(config(f"shard={number}/{count}", f"data.folder=parts/{number}"))


@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_merged_parts_equal_the_complete_set(place: Path, count: int) -> None:
    prepare_parts(count)
    whole = prepare_folder(config("data.folder=whole"))
    merged = prepare_folder(config("merge=parts/*", "data.folder=merged"))
    assert fingerprints(merged) == fingerprints(whole)
    opened = open_prepared(merged)
    assert opened.duplicate_group.tolist() == [0, 1, 1, -1, -1, -1, 0, -1]
    assert opened.info["counts"] == {
        "localised": 0,
        "readings_on_localised": 0,
        "listed": 12, "prepared": 8, "rejected": 4, "rejected_masks": 2, "duplicate_groups": 2, "flagged": 0
    }  # fmt: skip
    assert len(pd.read_csv(merged / "rejected.csv")) == 6 and opened.lesion_mask("i11", "drusen").any()  # type: ignore[union-attr]
    assert not list(place.glob("*.merging")) and len(list((place / "parts").iterdir())) == count


def test_default_folders_are_found_without_naming_them(place: Path) -> None:
    parts = [prepare_folder(config(f"shard={number}/3")) for number in (3, 1, 2)]
    name = parts[0].name.removesuffix(".shard-3-of-3")
    assert [part.name for part in parts] == [f"{name}.shard-{number}-of-3" for number in (3, 1, 2)]
    merged = prepare_folder(config(f"merge=data/prepared/{name}.shard-*"))
    assert merged == Path("data", "prepared", name)
    before = fingerprints(merged)
    shutil.rmtree("source")
    # What train does: it asks for the set of these settings, and the photographs are not needed any more.
    assert prepare_set(compose([*COMMON, "finding=drusen"], verb="train")).folder == merged
    assert prepare_folder(config()) == prepare_folder(config(f"merge=data/prepared/{name}.shard-*")) == merged
    assert fingerprints(merged) == before


def test_a_part_of_broken_photographs_is_an_empty_part(place: Path) -> None:
    part = prepare_set(config("data.folder=part"), preparation.Shard(2, 4))
    assert part.pixels.shape == (0, 64, 64, 3) and len(part.manifest.images) == 0
    assert part.info["counts"]["rejected"] == 3 and part.info["shard"] == "2/4"


def test_all_parts_empty_is_refused_as_by_one_command(place: Path) -> None:
    for file in (place / "source").glob("*.jpg"):
        file.write_bytes(b"")
    prepare_parts(2)
    with pytest.raises(UserError, match=r"no photograph under .*source can be prepared \(most often: file is empty\)"):
        prepare_folder(config("merge=parts/*", "data.folder=merged"))
    assert not (place / "merged").exists()


def test_an_interrupted_part_resumes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of one size and time, as uncompressed files out of an archive are: neither tells that it is another file.
    files = sorted((place / "source").glob("*.jpg"))
    for file in files:
        file.write_bytes(file.read_bytes().ljust(20_000, b"\0"))
        os.utime(file, (0, 0))
    (place / "source" / "lesions.csv").unlink()
    work = preparation.prepare_one
    done: list[int] = []

    def prepare_one(job: preparation.PrepareJob) -> object:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job.row)
        return work(job)

    monkeypatch.setattr(preparation, "prepare_one", prepare_one)
    with pytest.raises(KeyboardInterrupt):
        prepare_folder(config("shard=2/2", "data.folder=parts/2"))
    with pytest.raises(UserError, match=r"parts/2 is not finished; run its command again to resume it"):
        prepare_folder(config("merge=parts/*", "data.folder=merged"))
    # What was begun of one part is none of another.
    shutil.copytree("parts", "others")
    monkeypatch.setattr(preparation, "prepare_one", lambda job: (done.append(job.row), work(job))[1])
    prepare_folder(config("shard=2/2", "data.folder=parts/2"))
    assert done == [0, 1, 2, 3, 4, 5]
    prepare_folder(config("shard=1/2", "data.folder=others/2"))
    assert done == [0, 1, 2, 3, 4, 5] * 2
    prepare_folder(config("shard=1/2", "data.folder=parts/1"))
    merged = prepare_folder(config("merge=[parts/2,parts/1]", "data.folder=merged"))
    assert fingerprints(merged) == fingerprints(prepare_folder(config("data.folder=whole")))


def test_incomplete_or_mixed_parts_are_refused(place: Path) -> None:
    prepare_parts(3)
    shutil.copytree("parts/1", "again")
    shutil.copytree("parts/3", "damaged")
    with (place / "damaged" / "pixels.npy").open("r+b") as file:
        file.truncate(4000)
    prepare_folder(config("shard=1/2", "data.folder=halves/1"))
    prepare_folder(config("data.size=32", "shard=2/3", "data.folder=small/2"))
    prepare_folder(config("data.folder=whole"))
    (place / "halves" / "2.partial").mkdir()
    (place / "letters").mkdir()
    (place / "letters" / "letter.txt").write_text("mine")
    for words, message in (
        (("merge=[parts/1,parts/3]",), "part 2/3 is missing; prepare it, or name it too"),
        (("merge=[parts/*,again]",), "again and parts/1 are both part 1/3|parts/1 and again are both part 1/3"),
        (("merge=[parts/1,small/2,parts/3]",), "parts/1 and small/2 are parts of different photographs or settings"),
        (("merge=[parts/*,halves/1]",), "parts/1 is part 1/3 and halves/1 part 1/2; merge parts of one division"),
        (("merge=halves/*",), "halves/2 is not finished; run its command again"),
        (("merge=[parts/1,halves/2]",), "halves/2 is not finished; run its command again"),
        (("merge=[parts/1,parts/2,damaged]",), "damaged is damaged .*: prepare it again"),
        (("merge=whole",), "whole is a complete prepared set and not a part"),
        (("merge=letters",), "merge=letters matches no prepared part"),
        (("merge=nowhere/*",), "matches no prepared part .*; check the path"),
        (("merge=[]",), "merge=.* matches no prepared part"),
        (("merge=parts/*", "shard=1/3"), "merge puts finished parts together; leave out shard=1/3"),
        (("merge=parts/*", "data.folder=letters"), "letters exists and is not a prepared set"),
        (("merge=parts/*", "data.folder=parts/1"), "parts/1 is only part 1/3"),
        (("merge=parts/*", "data.size=32"), "parts/1 was prepared with data.size=64, and this command says 32"),
        (("merge=parts/*", "data.root=."), "was prepared with data.root=.*source, and this command says"),
        (("merge=parts/*", "data.options.classes=[a,b]"), "was prepared with data.options="),
        (("merge=parts/*", "data=folder", "data.root=source"), "was prepared with data.source=csv"),
        (("shard=4/3",), "shard=4/3 is not a part i/n"),
        (("shard=1/13",), "shard=1/13 of 12 photographs leaves parts empty; use fewer parts"),
        (("shard=1/3", "data.folder=whole"), "whole is a complete prepared set and not its part 1/3"),
        (("shard=1/3", "data.folder=parts/2"), "parts/2 is part 2/3 and not part 1/3; choose another folder"),
        (("data.folder=parts/2",), "parts/2 is only part 2/3 .*fundusnet prepare merge="),
    ):
        folder = () if any(word.startswith("data.folder") for word in words) else ("data.folder=new",)
        with pytest.raises(UserError, match=message) as refused:
            prepare_folder(config(*folder, *words))
        assert "\n" not in str(refused.value)
        assert not list(place.glob("new*")), words
    (place / "whole" / "prepared.yaml").write_text((place / "small" / "2" / "prepared.yaml").read_text())
    with pytest.raises(UserError, match="whole was prepared from other photographs or settings"):
        prepare_folder(config("merge=parts/*", "data.folder=whole"))


def test_nothing_is_trained_on_a_part(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", *COMMON, "shard=1/2", "data.folder=part"]) == 0
    assert capsys.readouterr().out.strip() == "part"
    assert main(["train", *COMMON, "data.folder=part", "run_dir=run", "finding=drusen"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("fundusnet: ") and "part is only part 1/2 of a prepared set; merge the parts" in line
    assert main(["prepare", *COMMON, "merge=part", "data.folder=whole"]) == 2
    assert capsys.readouterr().err.strip() == "fundusnet: part 2/2 is missing; prepare it, or name it too"
