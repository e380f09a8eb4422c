"""What adjudicators see and decide: the overview, findings that are undecided, and questions that are disputed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from fundusnet.annotation.adjudication import adjudication_cases, image_with_readings, save_decision
from fundusnet.annotation.answers import ChoiceDecision, Decision
from fundusnet.annotation.api.plain_json import as_json
from fundusnet.annotation.api.senders import Adjudicator, State, Writer
from fundusnet.annotation.choice_adjudication import save_choice
from fundusnet.annotation.overview import overview

router = APIRouter()


@router.get("/api/overview")
def show_overview(state: State, _: Adjudicator) -> Response:
    """Progress, agreement and open questions of the study."""
    return as_json(overview(state.study))


@router.get("/api/adjudication")
def list_cases(state: State, _: Adjudicator) -> Response:
    """Findings and questions that are undecided or were decided by an adjudicator."""
    return as_json(adjudication_cases(state.study))


@router.get("/api/adjudication/{image_id}")
async def show_case(image_id: str, state: State, _: Adjudicator) -> dict[str, Any]:
    """One image with its readings side by side."""
    return await state.files.decode(image_with_readings, state.study, image_id)


@router.put("/api/adjudication/{image_id}")
def put_decision(image_id: str, decision: Decision, state: State, _: Adjudicator, writer: Writer) -> dict[str, Any]:
    """Save a decision on a finding."""
    return {"version": save_decision(state.study, writer, image_id, decision)}


@router.put("/api/adjudication/{image_id}/choice")
def put_choice(image_id: str, decision: ChoiceDecision, state: State, _: Adjudicator, writer: Writer) -> dict[str, Any]:
    """Save a decision on a question."""
    return {"version": save_choice(state.study, writer, image_id, decision)}
