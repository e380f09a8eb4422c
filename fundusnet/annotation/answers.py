"""Answers and decisions that the page sends, checked against the rules of the manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from fundusnet.annotation.questions import Question, check_choices
from fundusnet.data.regions import REGIONS, is_near
from fundusnet.errors import UserError

REASONS = (
    "blurred",
    "too dark",
    "too bright",
    "off centre",
    "artefact",
    "damaged file",
    "no fundus photograph",
    "other",
)
NO_ANSWER: dict[str, object] = {
    "findings": {},
    "normal": False,
    "ungradable": None,
    "comment": "",
    "disc": None,
    "fovea": None,
    "disc_origin": None,
    "fovea_origin": None,
}

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]
Origin = Literal["guessed", "localised", "placed"]
"""Where a point comes from: guessed from the usual place or the reader's last photograph; found in this photograph by
a network; or placed by the reader, by moving or by confirming it."""
Regions = Annotated[list[str], Field(max_length=len(REGIONS))]
Verdict = Literal["confirmed", "refused"]


class SuggestionAnswer(BaseModel):
    """What became of the suggestion that a reader was shown: ``networks`` made it, ``verdicts`` is by finding."""

    model_config = ConfigDict(extra="forbid", strict=True)

    networks: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    verdicts: dict[str, Verdict]


class Answer(BaseModel):
    """One annotator's answer for one image; points are in pixels of the upright photograph."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Annotated[int, Field(ge=0, le=10**9)]
    change: Annotated[UUID, Field(strict=False)]
    state: Literal["todo", "done", "skipped", "ungradable"]
    findings: dict[str, Regions]
    normal: bool
    ungradable: str | None
    comment: Annotated[str, Field(max_length=2000)]
    disc: Annotated[Point, Field(strict=False)] | None
    fovea: Annotated[Point, Field(strict=False)] | None
    seconds: Annotated[float, Field(ge=0, le=10**7, allow_inf_nan=False)]
    disc_origin: Origin | None = None
    fovea_origin: Origin | None = None
    suggestion: SuggestionAnswer | None = None
    choices: dict[str, dict[str, str]] = {}

    def content(self) -> dict[str, object]:
        """The JSON values that are stored besides version, state and time.

        Of a reader who was shown no suggestion nothing is stored about suggestions, of one who was asked nothing
        besides no choices.
        """
        suggestion = {"suggestion": self.suggestion.model_dump()} if self.suggestion else {}
        chosen = {subject: chosen for subject, chosen in self.choices.items() if chosen}
        return (
            suggestion
            | ({"choices": chosen} if chosen else {})
            | {
                "findings": {name: _in_order(regions) for name, regions in self.findings.items()},
                "normal": self.normal,
                "ungradable": self.ungradable,
                "comment": self.comment,
                "disc": list(self.disc) if self.disc else None,
                "fovea": list(self.fovea) if self.fovea else None,
                "disc_origin": self.disc_origin if self.disc else None,
                "fovea_origin": self.fovea_origin if self.fovea else None,
            }
        )


class Decision(BaseModel):
    """An adjudicator's decision on one finding of one image; ``present=None`` withdraws an earlier one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    finding: str
    present: bool | None
    regions: Regions
    version: Annotated[int, Field(ge=0, le=10**9)]
    change: Annotated[UUID, Field(strict=False)] | None = None

    def ordered_regions(self) -> list[str]:
        """The regions without duplicates, in the order of ``REGIONS``."""
        return _in_order(self.regions)


class ChoiceDecision(BaseModel):
    """An adjudicator's decision on one question, of an image (``finding`` "") or of a finding in it.

    ``choice=None`` withdraws an earlier one.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    finding: str
    question: str
    choice: str | None
    version: Annotated[int, Field(ge=0, le=10**9)]
    change: Annotated[UUID, Field(strict=False)] | None = None


def check_answer(
    answer: Answer, findings: Sequence[str], size: tuple[int, int] | None, questions: Sequence[Question] = ()
) -> None:
    """Refuse an answer that the manifest cannot hold or that contradicts itself.

    Args:
        answer: What the page sent.
        findings: Names that may be marked.
        size: (width, height) of the photograph in pixels; None if it cannot be decoded.
        questions: What is asked besides.

    Raises:
        UserError: The answer is invalid.
    """
    for finding, regions in answer.findings.items():
        _check_finding(finding, regions, findings)
    for finding in answer.suggestion.verdicts if answer.suggestion else ():
        _check_finding(finding, (), findings)
    if answer.normal and answer.findings:
        raise UserError("an image is either normal or has findings; undo one of them")
    if (answer.state == "ungradable") != (answer.ungradable is not None):
        raise UserError("an ungradable image needs a reason, and no other image may have one")
    if answer.ungradable is not None and answer.ungradable not in REASONS:
        raise UserError(f"unknown reason '{answer.ungradable[:40]}'; choose from {', '.join(REASONS)}")
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t" for letter in answer.comment):
        raise UserError("the comment holds control characters; remove them")
    _check_points(answer, size)
    check_choices(answer.choices, questions, answer.findings, complete=answer.state == "done")
    if answer.state == "done":
        if findings and not answer.normal and not answer.findings:
            raise UserError("nothing is marked; choose a finding or normal")
        if bare := [name for name, regions in answer.findings.items() if not regions]:
            raise UserError(f"{bare[0]} has no region; click the regions it touches, or remove the finding")
        if answer.findings and (answer.disc is None or answer.fovea is None):
            raise UserError("regions need disc and fovea; send both points")


def check_decision(decision: Decision, findings: Sequence[str]) -> None:
    """Refuse a decision that the manifest cannot hold.

    Raises:
        UserError: The decision is invalid.
    """
    _check_finding(decision.finding, decision.regions, findings)
    if decision.present and not decision.regions:
        raise UserError(f"{decision.finding} is present without a region; click the regions it touches")
    if not decision.present and decision.regions:
        raise UserError(f"{decision.finding} is not present but has regions; remove them")


def check_choice_decision(decision: ChoiceDecision, questions: Sequence[Question], findings: Sequence[str]) -> None:
    """Refuse a decision on a question that is not asked, or with a choice that it does not have.

    Raises:
        UserError: The decision is invalid.
    """
    chosen = {} if decision.choice is None else {decision.question: decision.choice}
    check_choices({decision.finding: chosen}, questions, findings, complete=False)


def _check_finding(finding: str, regions: Sequence[str], findings: Sequence[str]) -> None:
    if finding not in findings:
        raise UserError(f"unknown finding '{finding[:40]}'; choose from {', '.join(findings)}")
    for region in regions:
        if region not in REGIONS.values():
            raise UserError(f"unknown region '{region[:40]}'; choose from {', '.join(REGIONS.values())}")


def _check_points(answer: Answer, size: tuple[int, int] | None) -> None:
    for name, point in (("disc", answer.disc), ("fovea", answer.fovea)):
        if point is None:
            continue
        if size is None:
            raise UserError("the photograph cannot be read; leave disc and fovea empty")
        if not is_near(point, *size):
            raise UserError(
                f"{name} ({point[0]:g}, {point[1]:g}) is outside the photograph of {size[0]}x{size[1]} pixels"
            )
    if answer.disc and answer.fovea and max(abs(a - b) for a, b in zip(answer.disc, answer.fovea, strict=True)) < 1:
        raise UserError("disc and fovea are on the same pixel; move one of them")


def _in_order(regions: Sequence[str]) -> list[str]:
    return [name for name in REGIONS.values() if name in regions]
