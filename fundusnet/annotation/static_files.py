"""The pages and their parts, served from memory: they answer whatever disk, database or threads wait for."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response

STATIC = Path(__file__).parent / "static"
PAGES = {"/": "annotate.html", "/overview": "overview.html", "/adjudicate": "adjudicate.html", "/people": "people.html"}


def add_static_files(app: FastAPI) -> None:
    """Serve the pages, and everything in ``static/`` below ``/static/``."""
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            app.add_api_route(f"/static/{file.relative_to(STATIC).as_posix()}", _answer(file), methods=["GET", "HEAD"])
    for address, name in PAGES.items():
        app.add_api_route(address, _answer(STATIC / name), methods=["GET", "HEAD"])


def _answer(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    # So that browsers load the new files after the package was updated.
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"', "Cache-Control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return answer
