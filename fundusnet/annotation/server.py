"""The web server of a study: the pages and their HTTP API."""

from __future__ import annotations

from fastapi import FastAPI

from fundusnet.annotation.api import account, adjudication, guidelines, images, people, suggestions
from fundusnet.annotation.api.senders import ServerState
from fundusnet.annotation.refusals import add_refusals
from fundusnet.annotation.request_guard import RequestGuard
from fundusnet.annotation.static_files import add_static_files
from fundusnet.annotation.study import Study
from fundusnet.annotation.suggester import Suggester


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
    for each in (account, images, suggestions, guidelines, adjudication, people):
        app.include_router(each.router)
    add_static_files(app)
    app.add_middleware(RequestGuard, host=host, public=public)
    add_refusals(app)
    return app
