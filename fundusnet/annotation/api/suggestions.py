"""Suggestions of trained networks, for readers who get them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from fundusnet.annotation.api.senders import Reader, State, Writer
from fundusnet.annotation.study import MissingError
from fundusnet.annotation.suggestions import networks_shown, note_shown

router = APIRouter()


@router.get("/api/images/{image_id}/suggestion")
def show_suggestion(image_id: str, state: State, reader: Reader) -> dict[str, Any]:
    """What the networks suggest for an image: ``state`` is ready, waiting (ask again), or none.

    Whoever reads an image without suggestions gets none, whatever is stored. The networks are never waited for.
    """
    if not state.study.is_assigned(reader, image_id):
        raise MissingError
    return state.suggester.offer(reader.id, image_id) if state.suggester else {"state": "none"}


class Shown(BaseModel):
    """The networks whose suggestion the page showed."""

    networks: str


@router.put("/api/images/{image_id}/suggestion")
def put_suggestion_shown(image_id: str, body: Shown, state: State, writer: Writer) -> dict[str, Any]:
    """Store that the page showed the suggestion for an image to this reader."""
    suggester = state.suggester
    if not state.study.is_assigned(writer, image_id) or suggester is None:
        raise MissingError
    with state.study.storage.write() as connection:
        offered = suggester.has(image_id) or networks_shown(connection, writer.id, image_id)
        if not offered or not note_shown(connection, writer.id, image_id, body.networks):
            raise MissingError
    return {}
