"""Groups of readers read their own splits, keep apart in every count, and get another reader for the ungradable."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from studies import answer, open_study, write_photographs

from fundusnet.annotation.agreement import agreement, patterns_of
from fundusnet.annotation.answers import Answer
from fundusnet.annotation.manifest_import import import_readings
from fundusnet.annotation.overview import overview
from fundusnet.annotation.plan import Group, as_groups
from fundusnet.annotation.readings import load_readings
from fundusnet.annotation.saving import save_answer
from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.annotation.tables import annotators, assignments, images, patterns
from fundusnet.annotation.tallies import recount
from fundusnet.data.manifest import read_manifest
from fundusnet.errors import UserError

GENERAL, SPECIAL = ("anna", "ben", "cleo", "dora"), ("emil", "fay", "gil")
GROUPS = {"general": Group(("train", "val"), 3), "special": Group(("test",), 2)}
ROSTER = {"general": GENERAL, "special": SPECIAL}
SPLITS = dict(zip("abcdefghijkl", ["train"] * 5 + ["val"] * 2 + ["test"] * 4 + [""], strict=True))


def photographs(folder: Path) -> Path:
    root = write_photographs(folder / "photographs", "abcdefghijkl")
    rows = "".join(f"{name},{name}.png,{split}\n" for name, split in SPLITS.items())
    (root / "images.csv").write_text("image_id,path,split\n" + rows)
    return folder


def grouped(folder: Path, roster: Any = ROSTER, adjudicators: Any = ("ada",), **more: Any) -> Study:
    if not (folder / "photographs").exists():
        photographs(folder)
    return open_study(folder, roster, adjudicators, source="csv", **{"groups": GROUPS, **more})


def readers_of(study: Study) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in SPLITS}
    query = sa.select(assignments.c.image_id, annotators.c.name).join(annotators).where(assignments.c.shown)
    with study.storage.read() as connection:
        for image_id, name in connection.execute(query):
            found[image_id].add(name)
    return found


def save(study: Study, name: str, image_id: str, version: int = 0, **changes: Any) -> None:
    person = next(each for each in study.everybody() if each.name == name)
    save_answer(study, person, image_id, Answer.model_validate(answer(version, **changes)))


def ungradable(study: Study, name: str, image_id: str, version: int = 0) -> None:
    save(study, name, image_id, version, state="ungradable", ungradable="blurred")


def test_each_group_reads_its_splits_in_even_shares(tmp_path: Path) -> None:
    study = grouped(tmp_path)
    found = readers_of(study)
    for image_id, split in SPLITS.items():
        group = {"train": GENERAL, "val": GENERAL, "test": SPECIAL, "": ()}[split]
        assert len(found[image_id]) == {"train": 3, "val": 3, "test": 2, "": 0}[split]
        assert found[image_id] <= set(group)
    loads = Counter(name for who in found.values() for name in who)
    for names in (GENERAL, SPECIAL):
        assert max(loads[name] for name in names) - min(loads[name] for name in names) <= 1
    assert readers_of(grouped(tmp_path, (), ())) == found  # a restart


def test_who_joins_or_leaves_moves_images_within_the_group_only(tmp_path: Path) -> None:
    study = grouped(tmp_path)
    before = readers_of(study)
    started = next(name for name, who in before.items() if "fay" in who)
    save(study, "fay", started)
    study.change_people({"special": ["hal"]}, ["fay", "emil"])
    after = readers_of(study)
    assert {name: after[name] for name in "abcdefg"} == {name: before[name] for name in "abcdefg"}
    assert "fay" in after[started], "what is finished stays"
    assert all(len(after[name]) == 2 for name in "hijk")
    assert all(after[name] <= {"hal", "gil"} for name in "hijk" if name != started)
    with pytest.raises(UserError, match="this study has the groups general, special"):
        study.change_people(["ida"], [])
    with pytest.raises(UserError, match="join: other is no group of this study"):
        study.change_people({"other": ["ida"]}, [])


def test_who_has_read_stays_in_the_group(tmp_path: Path) -> None:
    study = grouped(tmp_path)
    moved = {"general": GENERAL[1:], "special": [*SPECIAL, "anna"]}
    study.enrol(moved, ["ada"])  # by mistake, say
    study.enrol(ROSTER, ["ada"])
    save(study, "anna", next(name for name, who in readers_of(study).items() if "anna" in who))
    with pytest.raises(UserError, match="anna has read in the group general"):
        study.enrol(moved, ["ada"])


def test_a_study_gets_groups_later(tmp_path: Path) -> None:
    study = grouped(tmp_path, [*GENERAL, *SPECIAL], groups={})
    both = next(name for name, who in readers_of(study).items() if {"emil"} <= who and SPLITS[name] == "train")
    save(study, "emil", both)
    with pytest.raises(UserError, match="anna is in none of the groups"):
        grouped(tmp_path, (), ())
    study = grouped(tmp_path)
    found = readers_of(study)
    assert "emil" in found[both], "what is read stays"
    assert len(found[both] & set(GENERAL)) == 3
    assert [row["done"] for row in overview(study)["groups"]] == [0, 1]
    with study.storage.read() as connection:
        assert {row.group_name for row in connection.execute(sa.select(patterns))} == {"special"}


def test_a_photograph_of_another_split_changes_readers(tmp_path: Path) -> None:
    study = grouped(tmp_path)
    save(study, next(iter(readers_of(study)["a"])), "a")
    table = tmp_path / "photographs" / "images.csv"
    table.write_text(table.read_text().replace("a.png,train", "a.png,test").replace("h.png,test", "h.png,val"))
    found = readers_of(grouped(tmp_path, (), ()))
    assert len(found["a"] & set(SPECIAL)) == 2
    assert len(found["a"] & set(GENERAL)) == 1, "who has read keeps it"
    assert len(found["h"]) == 3
    assert found["h"] <= set(GENERAL)


def test_photographs_of_no_group_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grouped(tmp_path)
    assert "photographs that nobody reads: 1 of the split (none)" in caplog.text


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"a": {"split": ["test"]}}, "groups.a has no option split"),
        ({"a": {"splits": ["tset"]}}, r"groups.a.splits=\['tset'\] is not a list of train, val, test"),
        ({"a": {"splits": "test"}}, "groups.a.splits=test is not a list"),
        ({"a": {"readings_per_image": 0}}, "groups.a.readings_per_image=0 is not a number from 1 on"),
        ({"a": [1]}, r"groups.a=\[1\] is no group"),
        ({"": {}}, "'' is not a valid name of a group"),
    ],
)
def test_a_wrong_group_is_one_line(given: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        as_groups(given)


def test_agreement_of_a_group_is_that_of_its_readings(tmp_path: Path) -> None:
    both = {"general": Group(("train", "test"), 3), "special": Group(("test",), 2)}
    study = grouped(tmp_path, groups=both)
    for image_id, who in readers_of(study).items():
        for place, name in enumerate(sorted(who)):
            marks: dict[str, list[str]] = {"drusen": ["macula"]} if (ord(image_id) + place) % 3 else {}
            if (ord(image_id) * place) % 2:
                marks["hemorrhage"] = ["temporal"]
            save(study, name, image_id, findings=marks, normal=not marks)
    found = {row["name"]: row for row in overview(study)["groups"]}
    assert [found[name]["images"] for name in both] == [9, 4]
    assert found["general"]["splits"] == ["train", "test"]
    assert [found[name]["readings_per_image"] for name in both] == [3, 2]
    assert [(found[name]["done"], found[name]["total"]) for name in both] == [(27, 27), (8, 8)]
    with study.storage.read() as connection:
        readings = load_readings(connection)
    for group, names in ROSTER.items():
        given = [
            [each.content["findings"] for each in readings.gradable(image_id) if each.annotator in names]
            for image_id in readings.images
        ]
        for row in found[group]["agreement"]:
            expected = agreement(*patterns_of(given, row["finding"]))
            assert row["kappa_image"] == expected.image.kappa
            assert row["alpha_region"] == expected.region.alpha
            assert row["images"] == expected.images
            marked = [sum(row["finding"] in each for each in of_image) for of_image in given]
            assert row["present"] == sum(count >= 2 for count in marked)
    everybody = [row for row in overview(study)["agreement"] if row["finding"] == "drusen"]
    assert everybody[0]["images"] == 9, "a photograph of both groups is one photograph"
    with study.storage.write() as connection:
        query = sa.select(patterns).order_by(*patterns.primary_key.columns)
        before = connection.execute(query).all()
        recount(connection, list(SPLITS))
        assert connection.execute(query).all() == before


def test_an_export_names_the_groups_and_an_import_keeps_them(tmp_path: Path) -> None:
    study = grouped(tmp_path)
    for image_id in "ah":
        for name in readers_of(study)[image_id]:
            save(study, name, image_id)
    folder = export_study(study, tmp_path / "export")
    table = pd.read_csv(folder / "readers.csv")
    assert dict(zip(table["annotator_id"], table["group"], strict=True)) == {
        name: group for group, names in ROSTER.items() for name in names
    }
    assert len(read_manifest(folder).readings) == 5
    assert {each["group"] for each in json.loads((folder / "study.json").read_text())["readers"]} == set(GROUPS)
    export_study(study, folder)  # over the earlier one
    other = photographs(tmp_path / "other")
    second = open_study(other, (), (), source="csv", groups={})
    second = Study(second.storage, second.photographs, second.findings, groups=GROUPS)
    import_readings(second, folder)
    second.enrol({"general": ["zoe"], "special": ["yan", "xia"]})
    assert [row["done"] for row in overview(second)["groups"]] == [3, 2]
    assert len(readers_of(second)["h"]) == 2, "imported readings count for their group"


@pytest.mark.parametrize("groups", [GROUPS, {}])
def test_one_more_reads_what_one_calls_ungradable(tmp_path: Path, groups: Any) -> None:
    roster = ROSTER if groups else [*GENERAL, *SPECIAL]
    more = {"groups": groups, "reread_ungradable": 1, "readings": 2}
    study = grouped(tmp_path, roster, **more)
    before = readers_of(study)
    image_id = "a"
    first = sorted(before[image_id])[0]
    loads = Counter(name for who in before.values() for name in who)
    ungradable(study, first, image_id)
    after = readers_of(study)
    (another,) = after[image_id] - before[image_id]
    inside = set(GENERAL) if groups else {*GENERAL, *SPECIAL}
    assert another in inside
    assert loads[another] == min(loads[name] for name in inside - before[image_id])
    assert {name: who for name, who in after.items() if name != image_id} == {
        name: who for name, who in before.items() if name != image_id
    }
    row = next(row for row in overview(study)["annotators"] if row["name"] == another)
    assert row["total"] == loads[another] + 1
    assert readers_of(grouped(tmp_path, (), (), **more)) == after, "a restart keeps it"
    study = grouped(tmp_path, roster, **more)
    ungradable(study, another, image_id)
    second = next(iter(before[image_id] - {first}))
    ungradable(study, second, image_id)
    assert readers_of(study)[image_id] == after[image_id], "one more at most"


def test_a_reader_is_given_again_when_the_roster_changes(tmp_path: Path) -> None:
    study = grouped(tmp_path, reread_ungradable=1)
    image_id = "h"
    before = readers_of(study)[image_id]
    ungradable(study, sorted(before)[0], image_id)
    (another,) = readers_of(study)[image_id] - before
    study.change_people({"special": ["hal", "ida"]}, [another])
    found = readers_of(study)[image_id]
    assert before <= found
    assert len(found) == 3
    assert another not in found


def test_where_nobody_else_is_there_the_next_who_joins_reads_it(tmp_path: Path) -> None:
    study = grouped(tmp_path, {"general": GENERAL, "special": SPECIAL[:2]}, reread_ungradable=1)
    ungradable(study, "emil", "h")
    assert readers_of(study)["h"] == {"emil", "fay"}
    study.change_people({"special": ["hal"]}, [])
    assert readers_of(study)["h"] == {"emil", "fay", "hal"}


def test_taking_ungradable_back_takes_the_reader_back(tmp_path: Path) -> None:
    study = grouped(tmp_path, reread_ungradable=1)
    before = readers_of(study)["h"]
    one = sorted(before)[0]
    ungradable(study, one, "h")
    (another,) = readers_of(study)["h"] - before
    save(study, one, "h", 1)
    assert len(readers_of(study)["h"]) == 2
    assert one in readers_of(study)["h"]
    ungradable(study, one, "h", 2)
    found = readers_of(study)["h"]
    assert len(found) == 3
    for name in found - {one}:
        save(study, name, "h")
    save(study, one, "h", 3)
    assert readers_of(study)["h"] == found, "who has read keeps it"
    assert another in {*SPECIAL}


def test_without_the_setting_nobody_is_added(tmp_path: Path) -> None:
    study = grouped(tmp_path)
    before = readers_of(study)
    ungradable(study, sorted(before["h"])[0], "h")
    assert readers_of(study) == before


def test_a_case_waits_for_the_further_reader(tmp_path: Path) -> None:
    study = grouped(tmp_path, reread_ungradable=1)
    one, two = sorted(readers_of(study)["h"])
    save(study, two, "h", findings={"drusen": ["macula"]})
    ungradable(study, one, "h")
    assert overview(study)["undecided"] == []
    (another,) = readers_of(study)["h"] - {one, two}
    save(study, another, "h", normal=True)
    assert [row["image_id"] for row in overview(study)["undecided"]] == ["h"]
    with study.storage.read() as connection:
        assert connection.scalar(sa.select(images.c.split).where(images.c.image_id == "h")) == "test"
