"""The web server of a study: the pages and their HTTP API."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from fundusnet.annotation.access import (
    SESSION_SECONDS,
    Person,
    RequestGuard,
    csrf_token,
    is_csrf_token,
    new_session,
    signed_in,
    start_session,
)
from fundusnet.annotation.adjudication import adjudication_cases, image_with_readings, overview, save_decision
from fundusnet.annotation.answers import REASONS, Answer, Decision
from fundusnet.annotation.study import ConflictError, MissingError, Study
from fundusnet.annotation.suggester import Suggester
from fundusnet.annotation.suggestions import note_shown, stored_suggestion
from fundusnet.data.decode import Unreadable
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError

STATIC = Path(__file__).parent / "static"
PAGES = {"/": "annotate.html", "/overview": "overview.html", "/adjudicate": "adjudicate.html"}
KEYS = "1234567890"


@dataclass(frozen=True)
class ServerState:
    """What every request needs.

    Attributes:
        study: The study.
        links: Whether people sign in by links.
        cookie: Name of the session cookie.
        secure: Whether the cookie is sent over HTTPS only.
        suggester: Makes suggestions; None if there are none.
        decoding: Limits how many photographs are decoded at once, so that saving an answer never waits for decoding.
    """

    study: Study
    links: bool
    cookie: str
    secure: bool
    suggester: Suggester | None = None
    decoding: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(max(1, (os.cpu_count() or 2) // 2)))


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
    for address, file in PAGES.items():
        app.add_api_route(address, _page(STATIC / file), methods=["GET"])
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(RequestGuard, host=host, public=public)
    _add_errors(app)
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


def reader(state: State, secret: Secret) -> Person:
    """The person who is signed in; else 401."""
    found = signed_in(state.study.storage, secret)
    if found is None:
        raise HTTPException(401, "you are not signed in; open your link again, or ask for a new one")
    return found


Reader = Annotated[Person, Depends(reader)]


async def writer(request: Request, reader: Reader, secret: Secret) -> Person:
    """The person who is signed in, if the request carries the session's CSRF token; else 403."""
    if not is_csrf_token(request.headers.get("x-csrf-token"), secret):
        raise HTTPException(403, "the request lacks this session's token; reload the page")
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
    if not state.links and signed_in(state.study.storage, secret) is None:
        (only,) = state.study.people()
        with state.study.storage.write() as connection:
            secret = new_session(connection, only.id)
        _set_cookie(state, response, secret)
    reading = reader(state, secret)
    return {
        "annotator": {"id": reading.id, "name": reading.name, "role": reading.role},
        "csrf": csrf_token(secret),
        "study": state.study.key,
        "pages": [] if state.links and reading.role != "adjudicator" else ["overview", "adjudicate"],
        "findings": [
            {"name": name, "label": label(name), "key": KEYS[place] if place < len(KEYS) else None}
            for place, name in enumerate(state.study.findings)
        ],
        "regions": [{"id": number, "name": name, "label": label(name)} for number, name in REGIONS.items()],
        "reasons": list(REASONS),
        "progress": state.study.progress(reading),
    }


@router.get("/api/queue")
def queue(state: State, reader: Reader) -> dict[str, Any]:
    """The annotator's images in reading order."""
    return {"images": state.study.queue(reader)}


@router.get("/api/images/{image_id}")
async def image(image_id: str, state: State, reader: Reader) -> dict[str, Any]:
    """One image with the current answer."""
    await _decode(state, reader, image_id)
    return await to_thread.run_sync(state.study.image, reader, image_id)


@router.get("/api/images/{image_id}/photograph")
async def photograph(
    image_id: str, state: State, reader: Reader, request: Request, size: Literal["screen", "full"] = "screen"
) -> Response:
    """The photograph as JPEG, at screen size or full size."""
    path = await _decode(state, reader, image_id)
    photographs = state.study.photographs
    headers = {"ETag": f'"{photographs.content_key(path)}-{size}"', "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if size == "full":
        content = await to_thread.run_sync(photographs.full, path, limiter=state.decoding)
    else:
        content = await to_thread.run_sync(photographs.screen, path)
    return Response(content, media_type="image/jpeg", headers=headers)


async def _decode(state: ServerState, reader: Person, image_id: str) -> str:
    """Path of a photograph that this reader may see, after it has been decoded."""
    path, decoded = await to_thread.run_sync(_look_up, state.study, reader, image_id)
    if not decoded:
        await to_thread.run_sync(state.study.photographs.geometry, path, limiter=state.decoding)
    return path


def _look_up(study: Study, reader: Person, image_id: str) -> tuple[str, bool]:
    if not study.can_see(reader, image_id):
        raise MissingError
    path = study.path(image_id)
    return path, study.photographs.is_decoded(path)


@router.put("/api/images/{image_id}/answer")
def put_answer(image_id: str, answer: Answer, state: State, writer: Writer) -> dict[str, Any]:
    """Save an answer; it is on disk before this returns."""
    version, progress = state.study.save(writer, image_id, answer)
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
        return {"state": "none", "reason": suggester.failed} if suggester.failed else {"state": "waiting"}
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


@router.get("/api/overview")
def show_overview(state: State, _: Adjudicator) -> dict[str, Any]:
    """Progress, agreement and open questions of the study."""
    return overview(state.study)


@router.get("/api/adjudication")
def list_cases(state: State, _: Adjudicator) -> list[dict[str, Any]]:
    """Findings that are undecided or were decided by an adjudicator."""
    return adjudication_cases(state.study)


@router.get("/api/adjudication/{image_id}")
def show_case(image_id: str, state: State, _: Adjudicator) -> dict[str, Any]:
    """One image with its readings side by side."""
    return image_with_readings(state.study, image_id)


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


def _page(file: Path) -> Any:
    def page() -> FileResponse:
        # So that browsers load the new page after the package was updated.
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    return page


def _add_errors(app: FastAPI) -> None:
    """Answer every error with one line of JSON."""

    def line(status: int, text: str, **more: Any) -> JSONResponse:
        return JSONResponse({"error": " ".join(text.split()), **more}, status)

    @app.exception_handler(StarletteHTTPException)
    def refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return line(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return line(422, f"{place}: {first['msg']}" if place else first["msg"])

    @app.exception_handler(UserError)
    def wrong(_: Request, error: UserError) -> JSONResponse:
        return line(422, str(error))

    @app.exception_handler(Unreadable)
    def unreadable(_: Request, error: Unreadable) -> JSONResponse:
        return line(422, f"the photograph cannot be shown: {error}")

    @app.exception_handler(MissingError)
    def missing(_: Request, __: MissingError) -> JSONResponse:
        return line(404, "no such image is assigned to you")

    @app.exception_handler(ConflictError)
    def conflict(_: Request, error: ConflictError) -> JSONResponse:
        return line(
            409, "a newer version was saved in the meantime, perhaps in another tab", **{error.what: error.stored}
        )
