"""Signing in and out, and what a page needs to start."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel

from fundusnet.annotation.access import (
    DEVICE_LINK_SECONDS,
    SESSION_SECONDS,
    Person,
    SignedOutError,
    csrf_token,
    end_session,
    end_sessions,
    new_link,
    new_session,
    signed_in,
    start_session,
)
from fundusnet.annotation.answers import REASONS
from fundusnet.annotation.api.senders import CheckedSender, Secret, ServerState, State, Writer
from fundusnet.annotation.static_files import STATIC
from fundusnet.annotation.storage import setting
from fundusnet.annotation.tallies import progress_of
from fundusnet.data.regions import REGIONS

router = APIRouter()


@router.get("/join/{link}")
def join(link: str, state: State) -> Response:
    """Start a session by an unused link."""
    with state.study.storage.write() as connection:
        secret = start_session(connection, link)
    if secret is None:
        # A page, which speaks the reader's language.
        return HTMLResponse((STATIC / "link.html").read_bytes(), 403, {"Cache-Control": "no-store"})
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
    with state.study.storage.read() as connection:
        progress = progress_of(connection, reading)
        address = setting(connection, "address")
    return {
        "annotator": {"id": reading.id, "name": reading.name, "role": reading.role},
        "csrf": csrf_token(secret),
        "study": state.study.key,
        "address": address,
        "links": state.links,
        "left": not reading.active,
        "pages": _pages(state, reading),
        "findings": [{"name": name, "label": label(name)} for name in state.study.findings],
        "regions": [{"id": number, "name": name, "label": label(name)} for number, name in REGIONS.items()],
        "questions": [asdict(each) | {"label": label(each.name)} for each in state.study.questions],
        "reasons": list(REASONS),
        "progress": progress,
    }


def _pages(state: ServerState, person: Person) -> list[str]:
    """The pages besides the reading itself."""
    if state.links and person.role == "annotator":
        return []
    manages = not state.links or person.role == "administrator"
    return ["overview", "adjudicate", *(["people"] if manages else [])]


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


def label(name: str) -> str:
    """A finding's or region's name for display.

    Examples:
        >>> label("rnfl_defect"), label("disc_superior")
        ('RNFL defect', 'Disc superior')
    """
    words = name.replace("_", " ")
    return words.replace("rnfl", "RNFL") if words.startswith("rnfl") else words.capitalize()


def _set_cookie(state: ServerState, response: Response, secret: str) -> None:
    response.set_cookie(
        state.cookie, secret, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict", secure=state.secure
    )
