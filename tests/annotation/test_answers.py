"""Which answers are refused, and with which message."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from studies import FINDINGS, answer

from fundusnet.annotation.answers import REASONS, Answer, Decision, check_answer, check_decision
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError

SIZE = (120, 100)


def check(body: dict[str, Any], size: tuple[int, int] | None = SIZE) -> None:
    check_answer(Answer.model_validate(body), FINDINGS, size)


@pytest.mark.parametrize(
    "changes",
    [
        {"findings": {"drusen": ["macula", "temporal"], "hemorrhage": ["disc_superior"]}},
        {"normal": True},
        {"normal": True, "disc": None, "fovea": None},
        {"state": "todo"},
        {"state": "todo", "findings": {"drusen": []}},
        {"state": "skipped", "findings": {"drusen": []}, "disc": None},
        {"state": "ungradable", "ungradable": "blurred", "disc": None, "fovea": None},
        {"normal": True, "disc": [0, 0], "fovea": [120, 100]},
        {"normal": True, "comment": "überall\n\tDrusen 🙂"},
    ],
)
def test_accepted(changes: dict[str, Any]) -> None:
    check(answer(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"findings": {"drusn": ["macula"]}}, "unknown finding 'drusn'; choose from drusen"),
        ({"findings": {"drusen": ["Macula"]}}, "unknown region 'Macula'; choose from disc_superior"),
        ({"findings": {"drusen": ["macula"], "": []}}, "unknown finding ''"),
        ({"findings": {"drusen": ["macula"]}, "normal": True}, "normal or has findings"),
        ({"normal": False, "findings": {}}, "nothing is marked"),
        ({"findings": {"drusen": ["macula"], "hemorrhage": []}}, "hemorrhage has no region"),
        ({"disc": None}, "regions need disc and fovea"),
        ({"disc": [180.5, 3]}, "disc (180.5, 3) is outside the photograph of 120x100"),
        ({"fovea": [3, -0.1]}, "fovea (3, -0.1) is outside"),
        ({"disc": [50, 50], "fovea": [50.3, 50.9]}, "are on the same pixel"),
        ({"state": "ungradable"}, "needs a reason"),
        ({"ungradable": "blurred"}, "needs a reason, and no other image"),
        ({"state": "ungradable", "ungradable": "ugly"}, "unknown reason 'ugly'; choose from blurred"),
        ({"comment": "a\x00b"}, "control characters"),
        ({"comment": "\x1b[31m"}, "control characters"),
    ],
)
def test_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        check(answer(**changes))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"disc": [float("nan"), 3]},
        {"disc": [1]},
        {"disc": [1, 2, 3]},
        {"fovea": ["1", "2"]},
        {"fovea": [True, False]},
        {"seconds": -1},
        {"seconds": float("inf")},
        {"version": -1},
        {"version": "1"},
        {"version": 1.5},
        {"change": "1"},
        {"normal": "yes"},
        {"state": "finished"},
        {"comment": "x" * 2001},
        {"findings": [["drusen", "macula"]]},
        {"findings": {"drusen": "macula"}},
        {"findings": {"drusen": ["macula"] * 9}},
        {"admin": True},
        {"comment": "\ud800"},  # half a character, which no database keeps
    ],
)
def test_malformed_answers_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Answer.model_validate(answer(**changes))


def test_points_of_an_unreadable_photograph_are_refused() -> None:
    check(answer(normal=True, disc=None, fovea=None), size=None)
    with pytest.raises(UserError, match="cannot be read"):
        check(answer(), size=None)


@given(st.lists(st.sampled_from(list(REGIONS.values())), max_size=8))
def test_regions_are_stored_once_each_by_number(regions: list[str]) -> None:
    body = Answer.model_validate(answer(state="todo", findings={"drusen": regions}))
    stored = body.content()["findings"]
    assert stored == {"drusen": [name for name in REGIONS.values() if name in set(regions)]}


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_accepted(reason: str) -> None:
    check(answer(state="ungradable", ungradable=reason))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"finding": "drusen", "present": True, "regions": []}, "present without a region"),
        ({"finding": "drusen", "present": False, "regions": ["macula"]}, "not present but has regions"),
        ({"finding": "drusen", "present": None, "regions": ["macula"]}, "not present but has regions"),
        ({"finding": "x", "present": False, "regions": []}, "unknown finding 'x'"),
        ({"finding": "drusen", "present": True, "regions": ["x"]}, "unknown region 'x'"),
    ],
)
def test_decisions_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_decision(Decision.model_validate({"version": 0, "change": str(uuid4()), **body}), FINDINGS)
