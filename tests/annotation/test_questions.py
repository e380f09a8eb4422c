"""Questions besides regions: what can be asked, stored, exported and imported, and how far readers agree on it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from studies import Page, answer, client_of, link_of, open_study, write_photographs

from fundusnet.annotation.choice_agreement import choice_agreement
from fundusnet.annotation.choice_consensus import consensus_choice
from fundusnet.annotation.manifest_import import import_readings
from fundusnet.annotation.overview import overview
from fundusnet.annotation.plan import Group
from fundusnet.annotation.questions import as_questions
from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.cli.main import main
from fundusnet.data.manifest import read_manifest
from fundusnet.errors import UserError

GRADES = ("none", "mild", "moderate", "severe")
ASKED = {
    "grade": {"choices": list(GRADES)},
    "tessellated": {"choices": ["absent", "present"], "ordered": False, "optional": True},
    "severity": {"of": "finding", "choices": ["mild", "severe"]},
}
QUESTIONS = as_questions(ASKED)
READERS = ("anna", "ben", "cleo")


def asking(folder: Path, readers: Any = READERS, **more: Any) -> Study:
    return open_study(folder, readers, ["ada"], **{"questions": QUESTIONS, **more})


def pages(study: Study) -> dict[str, Page]:
    return {name: Page(client_of(study, links=True), link_of(study, name)) for name in READERS}


def chosen(grade: str | None = "mild", **severity: str) -> dict[str, Any]:
    """An answer with a grade, and with a finding for each severity."""
    choices: dict[str, Any] = {finding: {"severity": each} for finding, each in severity.items()}
    if grade:
        choices[""] = {"grade": grade}
    findings = {finding: ["macula"] for finding in severity}
    return {"choices": choices, "findings": findings, "normal": not findings}


def test_the_page_is_told_what_to_ask(tmp_path: Path) -> None:
    (page, *_) = pages(asking(tmp_path)).values()
    first, second, third = page.session["questions"]
    assert first["name"] == "grade"
    assert first["label"] == "Grade"
    assert first["choices"] == list(GRADES)
    assert (first["of"], second["optional"], third["of"]) == ("photograph", True, "finding")


def test_an_answer_keeps_its_choices(tmp_path: Path) -> None:
    page = pages(asking(tmp_path))["anna"]
    body = answer(**chosen("moderate", drusen="severe"))
    body["choices"][""]["tessellated"] = "present"
    assert page.put("a", body).status_code == 200
    assert page.get("/api/images/a").json()["answer"]["choices"] == body["choices"]
    assert page.put("a", answer(1, **chosen("mild"))).status_code == 200
    assert page.get("/api/images/a").json()["answer"]["choices"] == {"": {"grade": "mild"}}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (chosen(None), "grade is not answered"),
        ({"choices": {"": {"grade": "mild"}}}, "severity of drusen is not answered"),
        (chosen("awful"), "grade 'awful' is not one of none, mild, moderate, severe"),
        ({"choices": {"": {"grade": "mild", "colour": "red"}}}, "'colour' is not asked of the photograph"),
        ({"choices": {"": {"grade": "mild", "severity": "mild"}}}, "'severity' is not asked of the photograph"),
        ({**chosen("mild", drusen="mild"), "findings": {}, "normal": True}, "'drusen' is not marked"),
        ({**chosen("mild"), "choices": {"drusen": {"grade": "mild"}}, "findings": {"drusen": ["macula"]},
          "normal": False}, "'grade' is not asked of a finding"),
    ],
)  # fmt: skip
def test_a_wrong_choice_is_refused(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    page = pages(asking(tmp_path))["anna"]
    refused = page.put("a", answer(**changes))
    assert refused.status_code == 422
    assert line in refused.json()["error"]


def test_what_is_not_finished_need_not_be_complete(tmp_path: Path) -> None:
    page = pages(asking(tmp_path))["anna"]
    assert page.put("a", answer(**{**chosen(None, drusen="mild"), "choices": {}, "state": "todo"})).status_code == 200
    assert page.put("b", answer(state="ungradable", ungradable="blurred", findings={})).status_code == 200


def test_a_study_may_ask_for_a_grade_only(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photographs")
    study = asking(tmp_path)
    study = Study(study.storage, study.photographs, (), questions=QUESTIONS[:1])
    page = pages(study)["anna"]
    body = answer(**chosen("severe"))
    assert page.put("a", body | {"normal": False, "disc": None, "fovea": None}).status_code == 200
    assert overview(study)["questions"][0]["given"]["severe"] == 1


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"a": {}}, "questions.a needs choices"),
        ({"a": {"choices": ["one"]}}, "questions.a.choices=.* is not a list of 2 to 20 different words"),
        ({"a": {"choices": ["one", "one"]}}, "different words"),
        ({"a": {"choices": "onetwo"}}, "different words"),
        ({"a": {"choices": [1, 2], "of": "eye"}}, "questions.a.of=eye is not photograph or finding"),
        ({"a": {"choices": [1, 2], "ordered": "no"}}, "questions.a.ordered=no is not true or false"),
        ({"a": {"choices": [1, 2], "order": True}}, "questions.a has no option order"),
        ({"grade": {"choices": [1, 2], "of": "finding"}}, "questions.grade is the grade of a photograph"),
        ({"": {"choices": [1, 2]}}, "'' is not a valid name"),
    ],
)
def test_a_wrong_question_is_one_line(given: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        as_questions(given)


@pytest.mark.parametrize(
    ("given", "median", "most"),
    [
        (["mild"], "mild", "mild"),
        (["none", "severe", "mild"], "mild", None),
        (["mild", "moderate"], "moderate", None),
        (["none", "moderate"], "mild", None),
        (["none", "severe", "severe", "none", "severe"], "severe", "severe"),
        (["none", "none", "moderate", "severe", "severe"], "moderate", None),
        ([], None, None),
        (["no longer a choice"], None, None),
    ],
)
def test_readers_together_choose_the_median_of_a_scale_and_the_most_chosen_name(
    given: list[str], median: str | None, most: str | None
) -> None:
    scale, names = as_questions({"a": {"choices": GRADES}, "b": {"choices": GRADES, "ordered": False}})
    assert consensus_choice(scale, given, 2) == median
    assert consensus_choice(names, given, 2) == most


@pytest.mark.parametrize(
    ("given", "present", "expected"),
    [
        ("ppa", 2, "present"),
        ("paa", 2, None),
        ("aaa", 2, "absent"),
        ("paa", 1, "present"),
        ("ppa", 3, None),
        ("", 2, None),
    ],
)
def test_a_finding_that_is_asked_is_present_by_the_rule_of_findings(
    given: str, present: int, expected: str | None
) -> None:
    words = {"a": "absent", "p": "present"}
    (question,) = as_questions({"tessellated": {"choices": ["present", "absent"]}})
    assert question.is_finding
    assert consensus_choice(question, [words[each] for each in given], present) == expected
    others = {"grade": {"choices": ["absent", "present"]}, "of": {"choices": ["absent", "present"], "of": "finding"},
              "a;b": {"choices": ["absent", "present"]}, "yes": {"choices": ["no", "yes"]}}  # fmt: skip
    assert not any(each.is_finding for each in as_questions(others))


def test_an_export_has_the_choices_and_an_import_takes_them_back(tmp_path: Path) -> None:
    study = asking(tmp_path)
    grades = {"anna": "mild", "ben": "severe", "cleo": "severe"}
    for name, page in pages(study).items():
        assert page.put("a", answer(**chosen(grades[name], drusen="severe"))).status_code == 200
    folder = export_study(study, tmp_path / "export")
    table = pd.read_csv(folder / "choices.csv", keep_default_na=False)
    assert {tuple(row) for row in table.itertuples(index=False, name=None)} == {
        *(("a", name, "grade", "", grade, GRADES.index(grade)) for name, grade in grades.items()),
        *(("a", name, "severity", "drusen", "severe", 1) for name in grades),
    }
    images = read_manifest(folder, GRADES).images.set_index("image_id")
    assert images.loc["a", "grade"] == 3
    assert np.isnan(images.loc["b", "grade"])
    other = tmp_path / "other"
    second = asking(other)
    assert import_readings(second, folder) == 3
    assert overview(second)["questions"] == overview(study)["questions"]
    third = open_study(tmp_path / "third", READERS)
    with pytest.raises(UserError, match=r"image a: '\w+' is not asked of .*; give questions="):
        import_readings(third, folder)


@pytest.mark.parametrize("asked", [True, False])
def test_a_grade_that_is_asked_is_not_mixed_with_those_of_the_source(tmp_path: Path, asked: bool) -> None:
    write_photographs(tmp_path / "photographs")
    (tmp_path / "photographs" / "images.csv").write_text("image_id,path,grade\na,a.png,1\nb,b.png,0\n")
    study = asking(tmp_path, source="csv") if asked else open_study(tmp_path, READERS, source="csv")
    for page in pages(study).values():
        page.put("a", answer(**(chosen("severe", drusen="severe") if asked else {})))
    images = read_manifest(export_study(study, tmp_path / "export"), GRADES).images.set_index("image_id")
    assert images["grade"].fillna(-1).to_dict() == ({"a": 3, "b": -1} if asked else {"a": 1, "b": 0})


def test_without_questions_nothing_new_is_stored(tmp_path: Path) -> None:
    study = open_study(tmp_path, READERS)
    page = pages(study)["anna"]
    assert page.put("a", answer()).status_code == 200
    assert "choices" not in page.get("/api/images/a").json()["answer"]
    folder = export_study(study, tmp_path / "export")
    assert "choices" not in (folder / "study.json").read_text()
    assert not (folder / "choices.csv").exists()
    assert overview(study)["questions"] == []


def test_the_overview_counts_choices_by_group(tmp_path: Path) -> None:
    groups = {"one": Group((), 2), "two": Group((), 1)}
    study = asking(tmp_path, {"one": ["anna", "ben"], "two": ["cleo"]}, groups=groups)
    grades = {"anna": "none", "ben": "mild", "cleo": "severe"}
    for name, page in pages(study).items():
        for place, image_id in enumerate("abcd"):
            grade = grades[name] if place < 2 else "moderate"
            page.put(image_id, answer(**chosen(grade, drusen="mild" if place else "severe")))
    found = overview(study)
    grade, tessellated, severity = found["questions"]
    assert grade["given"] == {"none": 2, "mild": 2, "moderate": 6, "severe": 2}
    assert grade["units"] == 4
    assert grade["kappa"] is not None
    assert tessellated["given"] == {"absent": 0, "present": 0}
    assert tessellated["reason"] == "no image has two readings yet"
    assert severity["kappa"] == pytest.approx(1)
    one, two = found["groups"]
    assert one["questions"][0]["given"] == {"none": 2, "mild": 2, "moderate": 4, "severe": 0}
    assert two["questions"][0]["units"] == 0
    everybody = cohen([(0, 1), (0, 1), (2, 2), (2, 2)])
    assert one["questions"][0]["kappa"] == pytest.approx(everybody)


def cohen(pairs: list[tuple[int, int]]) -> float:
    """Cohen's kappa with quadratic weights of the pairs in both orders: then both readers have the same frequencies."""
    first, second = zip(*pairs, *((b, a) for a, b in pairs), strict=True)
    return float(cohen_kappa_score(first, second, weights="quadratic", labels=range(4)))


def patterns_of(units: list[list[int]]) -> Counter[Any]:
    return Counter(tuple(sorted(Counter(GRADES[grade] for grade in unit).items())) for unit in units)


def test_kappa_of_two_readers_is_cohens() -> None:
    random = np.random.default_rng(0)
    pairs = [(int(a), int(np.clip(a + random.integers(-1, 2), 0, 3))) for a in random.integers(0, 4, 200)]
    found = choice_agreement(patterns_of([list(pair) for pair in pairs]), GRADES, ordered=True)
    assert found.coefficients.kappa == pytest.approx(cohen(pairs), abs=1e-12)
    assert found.units == 200
    assert found.equal
    assert found.coefficients.kappa_interval is not None
    low, high = found.coefficients.kappa_interval
    assert low < cohen(pairs) < high
    first, second = zip(*pairs, *((b, a) for a, b in pairs), strict=True)
    names = choice_agreement(patterns_of([list(pair) for pair in pairs]), GRADES, ordered=False)
    assert names.coefficients.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


@pytest.mark.parametrize("ordered", [True, False])
def test_alpha_is_krippendorffs(ordered: bool) -> None:
    random = np.random.default_rng(1)
    units = [list(map(int, random.integers(0, 4, size))) for size in random.integers(1, 6, 60)]
    several = [unit for unit in units if len(unit) >= 2]

    def apart(a: int, b: int) -> float:
        return float((a - b) ** 2) if ordered else float(a != b)

    values = [value for unit in several for value in unit]
    observed = sum(sum(apart(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in several)
    expected = sum(apart(a, b) for a, b in permutations(values, 2)) / (len(values) - 1)
    found = choice_agreement(patterns_of(units), GRADES, ordered=ordered)
    assert found.coefficients.alpha == pytest.approx(1 - observed / expected, abs=1e-12)
    assert found.units == len(several)
    assert not found.equal
    assert found.given == tuple(sum(unit.count(grade) for unit in units) for grade in range(4))


def test_a_mistake_by_one_step_counts_less_than_one_by_three() -> None:
    near = choice_agreement(patterns_of([[0, 0], [1, 1], [2, 2], [3, 3], [0, 1]]), GRADES, ordered=True)
    far = choice_agreement(patterns_of([[0, 0], [1, 1], [2, 2], [3, 3], [0, 3]]), GRADES, ordered=True)
    assert near.coefficients.kappa is not None
    assert far.coefficients.kappa is not None
    assert near.coefficients.kappa > far.coefficients.kappa + 0.3


def test_where_all_choose_the_same_nothing_is_defined() -> None:
    found = choice_agreement(patterns_of([[1, 1], [1, 1]]), GRADES, ordered=True)
    assert found.coefficients.kappa is None
    assert found.coefficients.alpha_interval is None
    assert choice_agreement({}, GRADES, ordered=True).units == 0


@pytest.mark.sqlite
def test_a_study_remembers_what_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: [each.close() for each in sockets])
    words = ["annotate", "data.root=photographs", "port=0", "folder=study"]
    asked = "questions={grade:{choices:[0,1,2]},certainty:{of:finding,choices:[possible,certain]}}"
    assert main([*words, asked]) == 0
    assert "grade, certainty" in capsys.readouterr().out
    study = open_study(tmp_path, source="folder")
    study.storage.close()
    assert main([*words]) == 0
    study = open_study(tmp_path / "study", questions=as_questions({"grade": {"choices": [0, 1, 2]}}))
    page = Page(client_of(study))
    assert page.put("a", answer(normal=True, choices={"": {"grade": "2"}})).status_code == 200
    capsys.readouterr()
    assert main([*words, "questions={grade:{choices:[0,1]}}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "this study asks grade, certainty, and readings exist" in line
    assert main([*words, asked]) == 0
    assert main([*words, "export=out"]) == 0
    assert json.loads((tmp_path / "out" / "study.json").read_text())["answers"][0]["choices"] == {"": {"grade": "2"}}
