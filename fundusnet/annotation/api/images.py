"""A reader's images: which, what they show, and what the reader answers."""

from __future__ import annotations

from typing import Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from fundusnet.annotation.access import Person
from fundusnet.annotation.answers import Answer
from fundusnet.annotation.api.plain_json import as_json
from fundusnet.annotation.api.senders import CheckedSender, Reader, Sender, ServerState, State
from fundusnet.annotation.queues import matching, queue
from fundusnet.annotation.saving import save_answer
from fundusnet.annotation.study import MissingError, Study

router = APIRouter()


@router.get("/api/queue")
def list_images(state: State, sender: Sender, search: str = "", limit: int | None = None) -> Response:
    """The annotator's images in reading order, none for one who left; with ``search``, those whose id contains it."""
    found = queue(state.study, sender) if sender.active else []
    return as_json({"images": matching(found, search)[:limit]})


@router.get("/api/images/{image_id}")
async def image(image_id: str, state: State, reader: Reader) -> dict[str, Any]:
    """One image with the current answer."""
    await _decode(state, reader, image_id)
    return await state.files.run(state.study.image, reader, image_id)


@router.get("/api/images/{image_id}/photograph")
async def photograph(
    image_id: str, state: State, reader: Reader, request: Request, size: Literal["screen", "full"] = "screen"
) -> Response:
    """The photograph as JPEG, at screen size or full size."""
    path, key = await _decode(state, reader, image_id)
    photographs = state.study.photographs
    headers = {"ETag": f'"{key}-{size}"', "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if size == "full":
        content = await state.files.decode(photographs.full, path)
    else:
        content = await state.files.run(photographs.screen, path)
    return Response(content, media_type="image/jpeg", headers=headers)


async def _decode(state: ServerState, reader: Person, image_id: str) -> tuple[str, str]:
    """Path and content key of a photograph that this reader may see, after it has been decoded."""
    path = await to_thread.run_sync(_visible_path, state.study, reader, image_id)
    key, decoded = await state.files.run(state.study.photographs.look_up, path)
    if not decoded:
        await state.files.decode(state.study.photographs.geometry, path)
    return path, key


def _visible_path(study: Study, reader: Person, image_id: str) -> str:
    if not study.can_see(reader, image_id):
        raise MissingError
    return study.path(image_id)


@router.put("/api/images/{image_id}/answer")
def put_answer(image_id: str, answer: Answer, state: State, sender: CheckedSender) -> dict[str, Any]:
    """Save an answer; it is on disk before this returns."""
    version, progress = save_answer(state.study, sender, image_id, answer)
    return {"version": version, "progress": progress}
