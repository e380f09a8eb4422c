"""The web server of a study: the pages and their HTTP API."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse
from pydantic import BaseModel

from fundusnet.annotation.access import (
    DEVICE_LINK_SECONDS,
    SESSION_SECONDS,
    Person,
    SignedOutError,
    csrf_token,
    end_session,
    end_sessions,
    is_csrf_token,
    new_link,
    new_session,
    signed_in,
    start_session,
)
from fundusnet.annotation.adjudication import adjudication_cases, image_with_readings, save_decision
from fundusnet.annotation.answers import REASONS, Answer, Decision
from fundusnet.annotation.file_work import FileWork
from fundusnet.annotation.guidelines import PICTURES, guideline_picture, read_guidelines
from fundusnet.annotation.overview import overview
from fundusnet.annotation.refusals import add_refusals
from fundusnet.annotation.request_guard import RequestGuard
from fundusnet.annotation.static_files import add_static_files
from fundusnet.annotation.storage import setting
from fundusnet.annotation.study import MissingError, Study, matching
from fundusnet.annotation.suggester import Suggester
from fundusnet.annotation.suggestions import note_shown, stored_suggestion
from fundusnet.data.regions import REGIONS


@dataclass(frozen=True)
class ServerState:
    """What every request needs.

    Attributes:
        study: The study.
        links: Whether people sign in by links.
        cookie: Name of the session cookie.
        secure: Whether the cookie is sent over HTTPS only.
        suggester: Makes suggestions; None if there are none.
        files: Runs what opens photographs.
    """

    study: Study
    links: bool
    cookie: str
    secure: bool
    suggester: Suggester | None = None
    files: FileWork = field(default_factory=FileWork)


def create_app(
    study: Study,
    *,
    links: bool,
    host: str = "127.0.0.1",
    public: str | None = None,
    suggester: Suggester | None = None,
) -> FastAPI:
    """The web application.

    Args:
        study: What it serves.
        links: Whether people sign in by links; otherwise every visitor is the only annotator.
        host: Address the server listens on.
        public: Address that browsers use, if it is another; requests for any other host name are refused.
        suggester: Makes suggestions, if there are any.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Cookies are shared by all ports of a machine, so each study needs its own cookie name.
    secure = bool(public and public.startswith("https"))
    app.state.server = ServerState(study, links, f"fundusnet_{study.key}", secure, suggester)
    app.include_router(router)
    add_static_files(app)
    app.add_middleware(RequestGuard, host=host, public=public)
    add_refusals(app)
    return app


# Dependencies that do not block are async; each of the others costs a turn in the thread pool.
async def server_state(request: Request) -> ServerState:
    """The state that ``create_app`` set up."""
    found: ServerState = request.app.state.server
    return found


State = Annotated[ServerState, Depends(server_state)]


async def secret(request: Request, state: State) -> str:
    """The session's secret from the cookie; "" if there is none."""
    return request.cookies.get(state.cookie, "")


Secret = Annotated[str, Depends(secret)]


def sender(state: State, secret: Secret) -> Person:
    """The person who is signed in, even one who left: what they did before counts; else ``SignedOutError``."""
    return signed_in(state.study.storage, secret)


Sender = Annotated[Person, Depends(sender)]


async def reader(sender: Sender) -> Person:
    """The person who is signed in and takes part; else ``SignedOutError``."""
    if not sender.active:
        raise SignedOutError("left", "you no longer take part in this study; what this browser keeps is still sent")
    return sender


Reader = Annotated[Person, Depends(reader)]


async def checked_sender(request: Request, sender: Sender, secret: Secret) -> Person:
    """The sender, if the request carries the session's CSRF token; else 403."""
    if not is_csrf_token(request.headers.get("x-csrf-token"), secret):
        raise HTTPException(403, "the request lacks this session's token; reload the page")
    return sender


CheckedSender = Annotated[Person, Depends(checked_sender)]


async def writer(sender: CheckedSender, reader: Reader) -> Person:
    """The person who takes part, if the request carries the session's CSRF token."""
    return reader


Writer = Annotated[Person, Depends(writer)]


async def adjudicator(state: State, reader: Reader) -> Person:
    """The person who is signed in, if an adjudicator; else 403, because annotators must not see others' readings.

    Without links there is only one person, who may see everything.
    """
    if state.links and reader.role != "adjudicator":
        raise HTTPException(403, "only adjudicators may see others' readings")
    return reader


Adjudicator = Annotated[Person, Depends(adjudicator)]
router = APIRouter()


@router.get("/join/{link}")
def join(link: str, state: State) -> Response:
    """Start a session by an unused link."""
    with state.study.storage.write() as connection:
        secret = start_session(connection, link)
    if secret is None:
        return PlainTextResponse("This link was used before or is not valid. Ask for a new one.", 403)
    response = RedirectResponse("/", 303)
    _set_cookie(state, response, secret)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/api/session")
def session(state: State, secret: Secret, response: Response) -> dict[str, Any]:
    """The person who is signed in, and what the page needs to start."""
    try:
        reading = signed_in(state.study.storage, secret)
    except SignedOutError:
        if state.links:
            raise
        (reading,) = state.study.people()
        with state.study.storage.write() as connection:
            secret = new_session(connection, reading.id)
        _set_cookie(state, response, secret)
    return {
        "annotator": {"id": reading.id, "name": reading.name, "role": reading.role},
        "csrf": csrf_token(secret),
        "study": state.study.key,
        "links": state.links,
        "left": not reading.active,
        "pages": [] if state.links and reading.role != "adjudicator" else ["overview", "adjudicate"],
        "findings": [{"name": name, "label": label(name)} for name in state.study.findings],
        "regions": [{"id": number, "name": name, "label": label(name)} for number, name in REGIONS.items()],
        "reasons": list(REASONS),
        "progress": state.study.progress(reading),
    }


class SignOut(BaseModel):
    """Which sessions to end: this one, or all of the person's."""

    everywhere: bool = False


@router.post("/api/sign-out")
def sign_out(body: SignOut, state: State, sender: CheckedSender, secret: Secret, response: Response) -> dict[str, Any]:
    """End this session, or all sessions of this person."""
    with state.study.storage.write() as connection:
        if body.everywhere:
            end_sessions(connection, sender.id, "signed_out")
        else:
            end_session(connection, secret)
    response.delete_cookie(state.cookie, path="/", httponly=True, samesite="strict", secure=state.secure)
    return {}


@router.post("/api/link")
def make_link(state: State, writer: Writer) -> dict[str, Any]:
    """A link that signs the same person in on another device, once and soon."""
    if not state.links:
        raise HTTPException(404, "this study has no links; open its address on the other device")
    with state.study.storage.write() as connection:
        token = new_link(connection, writer.id, DEVICE_LINK_SECONDS)
        return {"link": f"{setting(connection, 'address') or ''}/join/{token}", "seconds": DEVICE_LINK_SECONDS}


@router.get("/api/queue")
def queue(state: State, sender: Sender, search: str = "", limit: int | None = None) -> Response:
    """The annotator's images in reading order, none for one who left; with ``search``, those whose id contains it."""
    found = state.study.queue(sender) if sender.active else []
    return _json({"images": matching(found, search)[:limit]})


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
    version, progress = state.study.save(sender, image_id, answer)
    return {"version": version, "progress": progress}


@router.get("/api/images/{image_id}/suggestion")
def show_suggestion(image_id: str, state: State, reader: Reader) -> dict[str, Any]:
    """What the networks suggest for an image: ``state`` is ready, waiting (ask again), or none.

    Whoever reads an image without suggestions gets none, whatever is stored. The networks are never waited for.
    """
    suggester = state.suggester
    if not state.study.is_assigned(reader, image_id):
        raise MissingError
    if suggester is None or not suggester.has(image_id):
        return {"state": "none"}
    found = suggester.ask(image_id)
    if found is None:
        reason = suggester.why_not(image_id)
        return {"state": "none", "reason": reason} if reason else {"state": "waiting"}
    return {"state": "ready", "networks": suggester.networks, **found}


@router.put("/api/images/{image_id}/suggestion")
def put_suggestion_shown(image_id: str, state: State, writer: Writer) -> dict[str, Any]:
    """Store that the page showed the suggestion for an image to this reader."""
    suggester = state.suggester
    if not state.study.is_assigned(writer, image_id) or suggester is None or not suggester.has(image_id):
        raise MissingError
    with state.study.storage.write() as connection:
        if stored_suggestion(connection, image_id, suggester.networks) is None:
            raise MissingError
        note_shown(connection, writer.id, image_id, suggester.networks)
    return {"networks": suggester.networks}


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


@router.get("/api/overview")
def show_overview(state: State, _: Adjudicator) -> Response:
    """Progress, agreement and open questions of the study."""
    return _json(overview(state.study))


@router.get("/api/adjudication")
def list_cases(state: State, _: Adjudicator) -> Response:
    """Findings that are undecided or were decided by an adjudicator."""
    return _json(adjudication_cases(state.study))


@router.get("/api/adjudication/{image_id}")
async def show_case(image_id: str, state: State, _: Adjudicator) -> dict[str, Any]:
    """One image with its readings side by side."""
    return await state.files.decode(image_with_readings, state.study, image_id)


@router.put("/api/adjudication/{image_id}")
def put_decision(image_id: str, decision: Decision, state: State, _: Adjudicator, writer: Writer) -> dict[str, Any]:
    """Save a decision."""
    return {"version": save_decision(state.study, writer, image_id, decision)}


def _set_cookie(state: ServerState, response: Response, secret: str) -> None:
    response.set_cookie(
        state.cookie, secret, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict", secure=state.secure
    )


def label(name: str) -> str:
    """A finding's or region's name for display.

    Examples:
        >>> label("rnfl_defect"), label("disc_superior")
        ('RNFL defect', 'Disc superior')
    """
    words = name.replace("_", " ")
    return words.replace("rnfl", "RNFL") if words.startswith("rnfl") else words.capitalize()


def _json(value: Any) -> Response:
    # FastAPI's own conversion of 100,000 entries takes seconds.
    return Response(json.dumps(value, ensure_ascii=False), media_type="application/json")
