"""``study.json`` of an export: what a manifest has no column for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fundusnet.annotation.answers import Answer, ChoiceDecision, Decision
from fundusnet.annotation.suggestions import Suggestion
from fundusnet.errors import UserError

RECORD = "study.json"
FORMAT = 1


class RecordedAnswer(Answer):
    """An answer in ``study.json``."""

    image_id: str
    annotator: str
    saved: float
    state: Literal["done", "ungradable"]


class RecordedDecision(Decision):
    """A decision in ``study.json``."""

    image_id: str
    adjudicator: str
    saved: float


class RecordedChoice(ChoiceDecision):
    """A decision on a question in ``study.json``."""

    image_id: str
    adjudicator: str
    saved: float


class RecordedSuggestion(BaseModel):
    """What networks suggested, in ``study.json``."""

    model_config = ConfigDict(extra="forbid")

    image_id: str
    networks: str
    made: float
    uncertainty: float
    findings: dict[str, list[str]]
    probabilities: dict[str, float]
    disc: tuple[float, float] | None
    fovea: tuple[float, float] | None
    points: str

    def suggestion(self) -> Suggestion:
        """The record as what it is of."""
        fields = ("findings", "probabilities", "disc", "fovea", "points", "uncertainty")
        return Suggestion(**{name: getattr(self, name) for name in fields})


class ShownSuggestion(BaseModel):
    """Who was shown a suggestion, in ``study.json``."""

    model_config = ConfigDict(extra="forbid")

    annotator: str
    image_id: str
    networks: str
    at: float


class SuggestedShare(BaseModel):
    """Which images were to have suggestions (``is_suggested``), in ``study.json``."""

    model_config = ConfigDict(extra="forbid")

    seed: int
    share: float


class RecordedReader(BaseModel):
    """The group of an annotator, in ``study.json`` of a study with groups."""

    model_config = ConfigDict(extra="forbid")

    annotator: str
    group: str


class Record(BaseModel):
    """``study.json``."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    study: str
    exported: str
    answers: list[RecordedAnswer]
    decisions: list[RecordedDecision]
    choice_decisions: list[RecordedChoice] = []
    suggestions: list[RecordedSuggestion] = []
    shown: list[ShownSuggestion] = []
    shares: list[SuggestedShare] = []
    readers: list[RecordedReader] = []


def read_record(folder: Path) -> Record:
    """``study.json`` of an export; raises UserError if no export wrote it."""
    try:
        return Record.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise UserError(f"{folder / RECORD} was not written by an export ({reason}); export again") from error
