"""Who sends a request, and what every request needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from fundusnet.annotation.access import Person, SignedOutError, is_csrf_token, signed_in
from fundusnet.annotation.file_work import FileWork
from fundusnet.annotation.study import Study
from fundusnet.annotation.suggester import Suggester


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
    if state.links and reader.role == "annotator":
        raise HTTPException(403, "only adjudicators may see others' readings")
    return reader


Adjudicator = Annotated[Person, Depends(adjudicator)]


async def administrator(state: State, reader: Reader) -> Person:
    """The person who is signed in, if an administrator; else 403. Without links, the only person is one."""
    if state.links and reader.role != "administrator":
        raise HTTPException(403, "only administrators may manage people")
    return reader


Administrator = Annotated[Person, Depends(administrator)]
