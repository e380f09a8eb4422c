"""The overview is kept beside the answers; here it is computed anew from them, after every kind of change."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import sqlalchemy as sa
from studies import FINDINGS, answer, open_study

from fundusnet.annotation.adjudication import adjudication_cases, save_decision
from fundusnet.annotation.answers import Answer, Decision
from fundusnet.annotation.overview import overview
from fundusnet.annotation.readings import load_readings
from fundusnet.annotation.readings_table import readings_table
from fundusnet.annotation.saving import save_answer
from fundusnet.annotation.study import ConflictError, Study
from fundusnet.annotation.tables import annotators, assignments, marks, tallies
from fundusnet.annotation.tallies import recount
from fundusnet.data.consensus import consensus
from fundusnet.data.regions import REGIONS

NAMES = ["anna", "ben", "cleo", "dora"]


def expected_undecided(study: Study) -> set[tuple[str, str]]:
    """As the paper has it, from the readings themselves."""
    with study.storage.read() as connection:
        readings = load_readings(connection)
    ready = [
        name for name in readings.images if name not in readings.waiting and len(readings.answers.get(name, [])) >= 2
    ]
    table = readings_table(readings, adjudicated=False)
    table = consensus(table[table["image_id"].isin(ready)], present=2, findings=FINDINGS)
    rows = table.loc[table["label"] == "undecided", ["image_id", "finding"]].itertuples(index=False, name=None)
    return {(str(image_id), str(finding)) for image_id, finding in rows}


def some_answer(chance: random.Random, version: int) -> dict[str, Any]:
    seconds = round(chance.uniform(1, 60), 3)
    kind = chance.choice(["normal", "findings", "findings", "ungradable", "skipped", "todo"])
    if kind == "ungradable":
        return answer(version, state="ungradable", ungradable="blurred", seconds=seconds)
    if kind == "normal":
        return answer(version, normal=True, seconds=seconds)
    findings = {
        name: chance.sample(list(REGIONS.values()), chance.randint(1, 3))
        for name in chance.sample(FINDINGS, chance.randint(1, 2))
    }
    return answer(version, findings=findings, state="done" if kind == "findings" else kind, seconds=seconds)


@pytest.mark.parametrize("seed", range(3))
def test_tallies_follow_every_change(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    study = open_study(tmp_path, NAMES, ["ada"], images="abcdef", readings=3)
    versions: dict[tuple[int, str], int] = {}
    for step in range(60):
        person = chance.choice([each for each in study.everybody() if each.role == "annotator"])
        image_id = chance.choice("abcdef")
        key = (person.id, image_id)
        with study.storage.read() as connection:
            theirs = connection.scalar(
                sa.select(assignments.c.version).where(
                    assignments.c.annotator_id == person.id, assignments.c.image_id == image_id
                )
            )
        if theirs is not None:
            body = Answer.model_validate(some_answer(chance, versions.get(key, 0)))
            versions[key], _ = save_answer(study, person, image_id, body)
        if step % 15 == 9:
            study.enrol(chance.sample(NAMES, chance.randint(2, 4)), ["ada"])
        if step % 20 == 19:
            (tmp_path / "photographs" / f"{'fed'[step // 20]}.png").rename(tmp_path / f"{step}.png")
            study = open_study(tmp_path, readings=3)
        if step % 3:
            continue
        found = overview(study)
        assert {(row["image_id"], row["finding"]) for row in found["undecided"]} == expected_undecided(study)
        assert found["counts"]["undecided"] == len(found["undecided"])
        check_sums(study, found)


def check_sums(study: Study, found: dict[str, Any]) -> None:
    with study.storage.read() as connection:
        readings = load_readings(connection)
    done = dict.fromkeys(NAMES, 0)
    for given in readings.answers.values():
        for each in given:
            done[each.annotator] += 1
    with study.storage.read() as connection:
        shown = sa.select(annotators.c.name).join(assignments).where(assignments.c.shown)
        own = Counter(connection.scalars(shown))
    for row in found["annotators"]:
        assert row["total"] == own[row["name"]]
        gradable = [
            each.seconds
            for given in readings.answers.values()
            for each in given
            if (each.annotator, each.state) == (row["name"], "done")
        ]
        assert row["median_seconds"] == (round(median(gradable), 1) if gradable else None)
    assert {row["name"]: row["done"] for row in found["annotators"]} == {
        name: count for name, count in done.items() if name in {row["name"] for row in found["annotators"]}
    }
    assert sum(row["done"] for row in found["annotators"]) == sum(done.values())
    graded = [readings.gradable(name) for name in readings.images]
    for row in found["agreement"]:
        marked = [sum(row["finding"] in each.content["findings"] for each in given) for given in graded]
        assert row["present"] == sum(count >= 2 for count in marked)
        assert row["images"] == sum(len(given) >= 2 for given in graded)
    ungradable = {
        name for name in readings.images if len(readings.gradable(name)) < len(readings.answers.get(name, []))
    }
    assert {row["image_id"] for row in found["ungradable"]} == ungradable


def test_a_recount_from_scratch_changes_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path, NAMES, images="abc")
    chance = random.Random(1)
    for person in study.people():
        for image_id in "abc":
            if study.can_see(person, image_id):
                save_answer(study, person, image_id, Answer.model_validate(some_answer(chance, 0)))
    columns = (
        sa.select(marks).order_by(marks.c.image_id, marks.c.finding),
        sa.select(tallies).order_by(tallies.c.image_id),
    )
    with study.storage.write() as connection:
        before = [connection.execute(each).all() for each in columns]
        recount(connection, "abc")
        assert [connection.execute(each).all() for each in columns] == before
    assert before[0]


def test_decided_findings_are_cases_but_not_undecided(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben"], ["ada"], images="ab")
    anna, ben, ada = study.people()
    for image_id in "ab":
        save_answer(study, anna, image_id, Answer.model_validate(answer(findings={"drusen": ["macula"]})))
        save_answer(study, ben, image_id, Answer.model_validate(answer(normal=True)))

    def decide(version: int, present: bool | None) -> None:
        body = {"finding": "drusen", "present": present, "regions": [], "version": version}
        save_decision(study, ada, "a", Decision.model_validate(body))

    def open_now() -> list[str]:
        found = overview(study)
        assert found["counts"]["undecided"] == len(found["undecided"])
        return [row["image_id"] for row in found["undecided"]]

    assert open_now() == ["a", "b"]
    decide(0, False)
    assert open_now() == ["b"]
    # One reader follows the other: nothing is undecided in a any more, but what was decided is still shown.
    save_answer(study, ben, "a", Answer.model_validate(answer(1, findings={"drusen": ["macula"]})))
    assert [case["image_id"] for case in adjudication_cases(study)] == ["a", "b"]
    decide(1, None)
    assert [case["image_id"] for case in adjudication_cases(study)] == ["b"]
    with pytest.raises(ConflictError):
        save_answer(study, ben, "a", Answer.model_validate(answer(1)))
