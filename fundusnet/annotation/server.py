"""The web server of a study: what the page asks over HTTP, answered from a ``Study``."""

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
    Gate,
    Person,
    csrf_token,
    new_session,
    redeem,
    same_token,
    signed_in,
)
from fundusnet.annotation.adjudication import adjudicated_image, decide, overview, to_adjudicate
from fundusnet.annotation.answers import REASONS, Answer, Decision
from fundusnet.annotation.study import ConflictError, MissingError, Study
from fundusnet.data.decode import Unreadable
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError

STATIC = Path(__file__).parent / "static"
PAGES = {"/": "annotate.html", "/overview": "overview.html", "/adjudicate": "adjudicate.html"}
KEYS = "1234567890"


@dataclass(frozen=True)
class Served:
    """What every request needs: the study, whether people sign in by links, and the session cookie.

    ``decoding`` lets few photographs be decoded at once, so that nobody's answer waits for others' pictures.
    """

    study: Study
    links: bool
    cookie: str
    secure: bool
    decoding: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(max(1, (os.cpu_count() or 2) // 2)))


def create_app(study: Study, *, links: bool, host: str = "127.0.0.1", public: str | None = None) -> FastAPI:
    """The application: with ``links`` people sign in by theirs, without everyone is the one annotator there is.

    Args:
        host, public: where it listens, and the address browsers know it by, if another; no other name is answered to.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A browser's cookies are one for all ports of a machine, so two studies' must not share a name.
    app.state.served = Served(study, links, f"fundusnet_{study.key}", bool(public and public.startswith("https")))
    app.include_router(router)
    for address, file in PAGES.items():
        app.add_api_route(address, _page(STATIC / file), methods=["GET"])
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Gate, host=host, public=public)
    _add_errors(app)
    return app


# Dependencies that wait for nothing are async: the others each cost a turn in a queue of threads.
async def served(request: Request) -> Served:
    """What ``create_app`` set up."""
    found: Served = request.app.state.served
    return found


Here = Annotated[Served, Depends(served)]


async def secret(request: Request, here: Here) -> str:
    """The session's secret, from the cookie; "" without one."""
    return request.cookies.get(here.cookie, "")


Secret = Annotated[str, Depends(secret)]


def reader(here: Here, secret: Secret) -> Person:
    """Who is signed in; 401 where nobody is."""
    found = signed_in(here.study.storage, secret)
    if found is None:
        raise HTTPException(401, "you are not signed in; open your link again, or ask for a new one")
    return found


Reader = Annotated[Person, Depends(reader)]


async def writer(request: Request, reader: Reader, secret: Secret) -> Person:
    """Who is signed in, on a page that knows the session's token; 403 elsewhere."""
    if not same_token(request.headers.get("x-csrf-token"), secret):
        raise HTTPException(403, "the request lacks this session's token; reload the page")
    return reader


Writer = Annotated[Person, Depends(writer)]


async def adjudicator(here: Here, reader: Reader) -> Person:
    """Who is signed in, if an adjudicator; 403 for others, who must not see each other's readings.

    One person alone, without links, has nobody to be blind to.
    """
    if here.links and reader.role != "adjudicator":
        raise HTTPException(403, "this shows others' readings, so it is for adjudicators")
    return reader


Adjudicator = Annotated[Person, Depends(adjudicator)]
router = APIRouter()


@router.get("/join/{link}")
def join(link: str, here: Here) -> Response:
    """Begin a session by a link that nobody has used yet."""
    with here.study.storage.write() as connection:
        secret = redeem(connection, link)
    if secret is None:
        return PlainTextResponse("This link was used before or is not valid. Ask for a new one.", 403)
    response = RedirectResponse("/", 303)
    _admit(here, response, secret)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/api/session")
def session(here: Here, secret: Secret, response: Response) -> dict[str, Any]:
    """Who is signed in, and what the page has to know first."""
    if not here.links and signed_in(here.study.storage, secret) is None:
        (only,) = here.study.people()
        with here.study.storage.write() as connection:
            secret = new_session(connection, only.id)
        _admit(here, response, secret)
    reading = reader(here, secret)
    return {
        "annotator": {"id": reading.id, "name": reading.name, "role": reading.role},
        "csrf": csrf_token(secret),
        "study": here.study.key,
        "pages": [] if here.links and reading.role != "adjudicator" else ["overview", "adjudicate"],
        "findings": [
            {"name": name, "label": label(name), "key": KEYS[place] if place < len(KEYS) else None}
            for place, name in enumerate(here.study.findings)
        ],
        "regions": [{"id": number, "name": name, "label": label(name)} for number, name in REGIONS.items()],
        "reasons": list(REASONS),
        "progress": here.study.progress(reading),
    }


@router.get("/api/queue")
def queue(here: Here, reader: Reader) -> dict[str, Any]:
    """The annotator's images in their order."""
    return {"images": here.study.queue(reader)}


@router.get("/api/images/{image_id}")
async def image(image_id: str, here: Here, reader: Reader) -> dict[str, Any]:
    """One image, and the answer so far."""
    await _develop(here, reader, image_id)
    return await to_thread.run_sync(here.study.image, reader, image_id)


@router.get("/api/images/{image_id}/photograph")
async def photograph(
    image_id: str, here: Here, reader: Reader, request: Request, size: Literal["screen", "full"] = "screen"
) -> Response:
    """The photograph as JPEG, at screen size or its own."""
    path = await _develop(here, reader, image_id)
    photographs = here.study.photographs
    headers = {"ETag": f'"{photographs.mark(path)}-{size}"', "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if size == "full":
        content = await to_thread.run_sync(photographs.full, path, limiter=here.decoding)
    else:
        content = await to_thread.run_sync(photographs.screen, path)
    return Response(content, media_type="image/jpeg", headers=headers)


async def _develop(here: Served, reader: Person, image_id: str) -> str:
    """Path of a photograph that this reader may see, once it is known what it looks like."""
    path, known = await to_thread.run_sync(_look_up, here.study, reader, image_id)
    if not known:
        await to_thread.run_sync(here.study.photographs.view, path, limiter=here.decoding)
    return path


def _look_up(study: Study, reader: Person, image_id: str) -> tuple[str, bool]:
    if not study.may_see(reader, image_id):
        raise MissingError
    path = study.path(image_id)
    return path, study.photographs.known(path)


@router.put("/api/images/{image_id}/answer")
def save(image_id: str, answer: Answer, here: Here, writer: Writer) -> dict[str, Any]:
    """Keep an answer: on disk before this returns."""
    version, progress = here.study.save(writer, image_id, answer)
    return {"version": version, "progress": progress}


@router.get("/api/overview")
def show_overview(here: Here, _: Adjudicator) -> dict[str, Any]:
    """How the study stands."""
    return overview(here.study)


@router.get("/api/adjudication")
def questions(here: Here, _: Adjudicator) -> list[dict[str, Any]]:
    """Images and findings to decide on, or decided."""
    return to_adjudicate(here.study)


@router.get("/api/adjudication/{image_id}")
def question(image_id: str, here: Here, _: Adjudicator) -> dict[str, Any]:
    """One image with its readings side by side."""
    return adjudicated_image(here.study, image_id)


@router.put("/api/adjudication/{image_id}")
def settle(image_id: str, decision: Decision, here: Here, _: Adjudicator, writer: Writer) -> dict[str, Any]:
    """Keep a decision."""
    return {"version": decide(here.study, writer, image_id, decision)}


def _admit(here: Served, response: Response, secret: str) -> None:
    response.set_cookie(
        here.cookie, secret, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict", secure=here.secure
    )


def label(name: str) -> str:
    """A finding's or region's name as people write it: rnfl_defect → RNFL defect."""
    words = name.replace("_", " ")
    return words.replace("rnfl", "RNFL") if words.startswith("rnfl") else words.capitalize()


def _page(file: Path) -> Any:
    def page() -> FileResponse:
        # The page is new after an update of the package, at the latest when the server was started again.
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    return page


def _add_errors(app: FastAPI) -> None:
    """Every refusal as one line of JSON."""

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
        return line(404, "no such image among yours")

    @app.exception_handler(ConflictError)
    def conflict(_: Request, error: ConflictError) -> JSONResponse:
        return line(409, "this was saved elsewhere since, perhaps in another tab", **{error.what: error.stored})
