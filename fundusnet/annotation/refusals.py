"""Every error as one line of JSON, with a code by which the page decides what to say and whether to try again."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fundusnet.annotation.access import SignedOutError
from fundusnet.annotation.photographs import PhotographAway
from fundusnet.annotation.storage import BusyError, DiskFullError
from fundusnet.annotation.study import ConflictError, MissingError
from fundusnet.data.decode import Unreadable
from fundusnet.errors import UserError

log = logging.getLogger(__name__)
CODES = {403: "forbidden", 404: "missing", 408: "slow", 411: "invalid", 413: "invalid", 421: "unknown_host"}


def refusal(status: int, code: str, text: str, **more: Any) -> JSONResponse:
    """The answer to a request that is refused; whoever gets a 503 or 507 should try again."""
    headers = {"Retry-After": "2"} if status in (503, 507) else None
    return JSONResponse({"error": " ".join(text.split()), "code": code, **more}, status, headers)


def add_refusals(app: FastAPI) -> None:
    """Answer every error with ``refusal``."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, CODES.get(error.status_code, "invalid"), str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return refusal(422, "invalid", f"{place}: {first['msg']}" if place else first["msg"])

    @app.exception_handler(UserError)
    async def wrong(_: Request, error: UserError) -> JSONResponse:
        return refusal(422, "invalid", str(error))

    @app.exception_handler(SignedOutError)
    async def signed_out(_: Request, error: SignedOutError) -> JSONResponse:
        return refusal(401, error.code, str(error))

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> JSONResponse:
        return refusal(503, "busy", str(error))

    @app.exception_handler(DiskFullError)
    async def disk_full(_: Request, error: DiskFullError) -> JSONResponse:
        log.error("%s", error)
        return refusal(507, "disk_full", str(error))

    @app.exception_handler(PhotographAway)
    async def away(_: Request, error: PhotographAway) -> JSONResponse:
        return refusal(503, "photographs_away", str(error))

    @app.exception_handler(Unreadable)
    async def unreadable(_: Request, error: Unreadable) -> JSONResponse:
        return refusal(422, "unreadable", f"the photograph cannot be shown: {error}")

    @app.exception_handler(MissingError)
    async def missing(_: Request, __: MissingError) -> JSONResponse:
        return refusal(404, "missing", "no such image is assigned to you")

    @app.exception_handler(ConflictError)
    async def conflict(_: Request, error: ConflictError) -> JSONResponse:
        line = "a newer version was saved in the meantime, perhaps in another tab"
        return refusal(409, "conflict", line, **{error.what: error.stored})
