"""The study's guidelines and their pictures."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from fundusnet.annotation.api.senders import Reader, State
from fundusnet.annotation.guidelines import PICTURES, guideline_picture, read_guidelines

router = APIRouter()


@router.get("/api/guidelines")
def show_guidelines(state: State, _: Reader) -> dict[str, str]:
    """The study's guidelines as Markdown, by finding."""
    return read_guidelines(state.study.photographs.study_folder / "guidelines", state.study.findings)


@router.get("/api/guidelines/{name:path}")
def show_guideline_picture(name: str, state: State, _: Reader) -> FileResponse:
    """A picture that the guidelines show."""
    file = guideline_picture(state.study.photographs.study_folder / "guidelines", name)
    if file is None:
        raise HTTPException(404, "the guidelines have no such picture")
    return FileResponse(file, media_type=PICTURES[file.suffix.lower()])
