"""What administrators manage: people and their links, a reader's answers, and the export."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from fundusnet.annotation.api.plain_json import as_json
from fundusnet.annotation.api.senders import Administrator, ServerState, State, Writer
from fundusnet.annotation.people import (
    add_person,
    answers_of,
    people,
    renew_link,
    set_active,
    sign_out_everywhere,
)
from fundusnet.annotation.roster import ROLES
from fundusnet.annotation.study_export import export_tables
from fundusnet.errors import UserError

router = APIRouter()


class NewPerson(BaseModel):
    """Somebody who is to take part."""

    name: str
    role: str
    group: str = ""


class TakingPart(BaseModel):
    """Whether somebody takes part."""

    active: bool


@router.get("/api/people")
def list_people(state: State, _: Administrator) -> dict[str, Any]:
    """Everybody who ever took part, and what a new person can be."""
    return {"people": people(state.study), "roles": list(ROLES), "groups": list(state.study.plan.groups)}


@router.post("/api/people")
def post_person(body: NewPerson, state: State, _: Administrator, _writer: Writer) -> dict[str, Any]:
    """Let somebody take part; the answer has their link."""
    _with_links(state)
    return {"link": add_person(state.study, body.name, body.role, body.group)}


@router.put("/api/people/{person_id}")
def put_person(person_id: int, body: TakingPart, state: State, me: Administrator, _writer: Writer) -> dict[str, Any]:
    """Let somebody leave or return."""
    _with_links(state)
    if person_id == me.id and not body.active:
        raise UserError("you cannot take yourself out of the study; ask another administrator")
    set_active(state.study, person_id, active=body.active)
    return {}


@router.post("/api/people/{person_id}/link")
def post_link(person_id: int, state: State, _: Administrator, _writer: Writer) -> dict[str, Any]:
    """A new link for somebody."""
    _with_links(state)
    return {"link": renew_link(state.study, person_id)}


@router.post("/api/people/{person_id}/sign-out")
def post_sign_out(person_id: int, state: State, _: Administrator, _writer: Writer) -> dict[str, Any]:
    """Sign somebody out everywhere."""
    _with_links(state)
    sign_out_everywhere(state.study, person_id)
    return {}


@router.get("/api/people/{person_id}/answers")
def show_answers(person_id: int, state: State, _: Administrator, offset: int = 0) -> Response:
    """A part of what somebody has answered, the newest first."""
    return as_json(answers_of(state.study, person_id, max(0, offset)))


@router.get("/api/export")
def export(state: State, _: Administrator) -> FileResponse:
    """The tables of an export, without the photographs, as a ZIP file."""
    folder = Path(tempfile.mkdtemp(prefix="fundusnet-export-"))
    try:
        tables = export_tables(state.study, folder / "tables")
        with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(tables.iterdir()):
                packed.write(file, file.name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(
        folder / "export.zip",
        filename="fundusnet-export.zip",
        media_type="application/zip",
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )


def _with_links(state: ServerState) -> None:
    if not state.links:
        raise HTTPException(404, "this study has no links, and one reader only; start it with annotators=[...]")
