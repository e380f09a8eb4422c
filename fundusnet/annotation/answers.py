"""What an annotator or adjudicator may send, checked by the rules of the manifest it will end in."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from fundusnet.data.regions import REGIONS
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
STATES = ("todo", "done", "skipped", "ungradable")
NO_ANSWER: dict[str, object] = {
    "findings": {},
    "normal": False,
    "ungradable": None,
    "comment": "",
    "disc": None,
    "fovea": None,
}

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]
Regions = Annotated[list[str], Field(max_length=len(REGIONS))]


class Answer(BaseModel):
    """One annotator's answer on one image; points in pixels of the photograph, upright."""

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

    def content(self) -> dict[str, object]:
        """What is stored beside version, state and time, as JSON values."""
        return {
            "findings": {name: _in_order(regions) for name, regions in self.findings.items()},
            "normal": self.normal,
            "ungradable": self.ungradable,
            "comment": self.comment,
            "disc": list(self.disc) if self.disc else None,
            "fovea": list(self.fovea) if self.fovea else None,
        }


class Decision(BaseModel):
    """An adjudicator's word on one finding of one image; ``present`` null takes an earlier one back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    finding: str
    present: bool | None
    regions: Regions
    version: Annotated[int, Field(ge=0, le=10**9)]
    change: Annotated[UUID, Field(strict=False)] | None = None

    def ordered_regions(self) -> list[str]:
        """The regions once each, by number."""
        return _in_order(self.regions)


def check_answer(answer: Answer, findings: Sequence[str], size: tuple[int, int] | None) -> None:
    """Refuse an answer that the manifest could not hold, or that contradicts itself.

    Args:
        findings: names that may be marked.
        size: (width, height) of the photograph in pixels; None where it cannot be decoded.

    Raises:
        UserError: says what is wrong in one line.
    """
    for finding, regions in answer.findings.items():
        _check_finding(finding, regions, findings)
    if answer.normal and answer.findings:
        raise UserError("an image is normal or has findings; take one of them back")
    if (answer.state == "ungradable") != (answer.ungradable is not None):
        raise UserError("an ungradable image needs a reason, and only such an image has one")
    if answer.ungradable is not None and answer.ungradable not in REASONS:
        raise UserError(f"reason '{answer.ungradable[:40]}' is unknown; use {', '.join(REASONS)}")
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t" for letter in answer.comment):
        raise UserError("the comment holds control characters; remove them")
    _check_points(answer, size)
    if answer.state == "done":
        if not answer.normal and not answer.findings:
            raise UserError("nothing is marked; choose a finding or normal before the image counts as read")
        if bare := [name for name, regions in answer.findings.items() if not regions]:
            raise UserError(f"{bare[0]} has no region; click those it touches or take the finding back")
        if answer.findings and (answer.disc is None or answer.fovea is None):
            raise UserError("regions mean nothing without disc and fovea; send both points")


def check_decision(decision: Decision, findings: Sequence[str]) -> None:
    """Refuse a decision that the manifest could not hold; raises UserError."""
    _check_finding(decision.finding, decision.regions, findings)
    if decision.present and not decision.regions:
        raise UserError(f"{decision.finding} is present without a region; click those it touches")
    if not decision.present and decision.regions:
        raise UserError(f"{decision.finding} is not present but has regions; take them back")


def _check_finding(finding: str, regions: Sequence[str], findings: Sequence[str]) -> None:
    if finding not in findings:
        raise UserError(f"unknown finding '{finding[:40]}'; use {', '.join(findings)}")
    for region in regions:
        if region not in REGIONS.values():
            raise UserError(f"unknown region '{region[:40]}'; use {', '.join(REGIONS.values())}")


def _check_points(answer: Answer, size: tuple[int, int] | None) -> None:
    for name, point in (("disc", answer.disc), ("fovea", answer.fovea)):
        if point is None:
            continue
        if size is None:
            raise UserError("the photograph cannot be read, so no point lies in it; leave disc and fovea empty")
        if not (0 <= point[0] <= size[0] and 0 <= point[1] <= size[1]):
            raise UserError(
                f"{name} ({point[0]:g}, {point[1]:g}) lies outside the picture of {size[0]}x{size[1]} pixels"
            )
    if answer.disc and answer.fovea and max(abs(a - b) for a, b in zip(answer.disc, answer.fovea, strict=True)) < 1:
        raise UserError("disc and fovea stand on the same pixel; mark them apart")


def _in_order(regions: Sequence[str]) -> list[str]:
    return [name for name in REGIONS.values() if name in regions]
