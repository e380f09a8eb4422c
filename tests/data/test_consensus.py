"""The consensus of readings, worked by hand and against a count by the definition in S1.2."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundusnet.data.consensus import consensus
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError

Reading = tuple[str, str, str, str]


def readings(*rows: Reading) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["image_id", "annotator_id", "finding", "regions"], dtype=str)


def labels(table: pd.DataFrame) -> dict[tuple[str, str], tuple[str, frozenset[str]]]:
    columns = (table[name] for name in ("image_id", "finding", "label", "regions"))
    answer = {(image, finding): (label, where) for image, finding, label, where in zip(*columns, strict=True)}
    assert len(answer) == len(table)
    return answer


THREE_READERS = readings(
    ("i1", "a", "drusen", "macula"),
    ("i1", "b", "drusen", "macula;temporal"),
    ("i1", "c", "", ""),
    ("i2", "a", "", ""),
    ("i2", "b", "", ""),
    ("i2", "c", "membrane", "disc_superior"),
)


def test_two_of_three_make_a_finding_present() -> None:
    assert labels(consensus(THREE_READERS)) == {
        ("i1", "drusen"): ("present", frozenset({"macula", "temporal"})),
        ("i1", "membrane"): ("absent", frozenset()),
        ("i2", "drusen"): ("absent", frozenset()),
        ("i2", "membrane"): ("undecided", frozenset({"disc_superior"})),
    }


def test_the_strict_reading_needs_all_three() -> None:
    assert labels(consensus(THREE_READERS, present=3))["i1", "drusen"][0] == "undecided"
    assert labels(consensus(THREE_READERS, present=1))["i2", "membrane"][0] == "present"


def test_one_annotator_in_several_rows_counts_once() -> None:
    table = readings(("i", "a", "drusen", "macula"), ("i", "a", "drusen", " temporal ; "), ("i", "b", "", ""))
    assert labels(consensus(table)) == {("i", "drusen"): ("undecided", frozenset({"macula", "temporal"}))}


def test_unmarked_findings_are_absent_if_asked_for() -> None:
    table = consensus(THREE_READERS, findings=["rnfl_defect", "drusen"])
    assert table["finding"].tolist() == ["rnfl_defect", "drusen", "membrane"] * 2
    assert labels(table)["i1", "rnfl_defect"] == ("absent", frozenset())


def test_no_readings_give_no_labels() -> None:
    table = consensus(readings(), findings=["drusen"])
    assert table.empty and list(table.columns) == ["image_id", "finding", "label", "regions"]


@pytest.mark.parametrize("present", [0, -1])
def test_a_threshold_below_one_is_refused(present: int) -> None:
    with pytest.raises(UserError, match=r"consensus\.present"):
        consensus(THREE_READERS, present=present)


cells = st.lists(st.sampled_from(list(REGIONS.values())), max_size=3).map(";".join)
rows = st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.sampled_from(["", "f", "g"]), cells)


@settings(max_examples=500, deadline=None)
@given(st.lists(rows, max_size=15), st.integers(1, 4))
def test_labels_follow_the_definition(drawn: list[Reading], present: int) -> None:
    answer = labels(consensus(readings(*drawn), present=present, findings=["f", "g"]))
    assert set(answer) == {(row[0], finding) for row in drawn for finding in "fg"}
    for (image, finding), (label, where) in answer.items():
        marks = [row for row in drawn if row[0] == image and row[2] == finding]
        voters = sum(any(row[1] == annotator for row in marks) for annotator in "abcd")
        assert (label == "present") == (voters >= present)
        assert (label == "absent") == (voters == 0)
        assert where == {name for row in marks for name in row[3].split(";") if name}
