"""Access to a study: one-time links, sessions, and protection against requests from other sites."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy import Connection
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fundusnet.annotation.storage import Storage, annotators, links, sessions

SESSION_SECONDS = 90 * 24 * 3600
LARGEST_BODY = 64 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# No inline scripts, no content from other sites, no embedding in a frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Person:
    """A person who takes part in the study.

    Attributes:
        id: Key in the annotators table.
        name: As in ``annotators`` or ``adjudicators``.
        role: "annotator" or "adjudicator".
    """

    id: int
    name: str
    role: str


def new_link(connection: Connection, annotator_id: int) -> str:
    """A token that signs this annotator in once; earlier unused ones become invalid."""
    connection.execute(sa.delete(links).where(links.c.annotator_id == annotator_id, links.c.used.is_(False)))
    token = secrets.token_urlsafe(32)
    connection.execute(sa.insert(links).values(token_hash=_hash(token), annotator_id=annotator_id, used=False))
    return token


def can_sign_in(connection: Connection, annotator_id: int) -> bool:
    """Whether this annotator has a session, or a link that is still valid."""
    unused = sa.select(links.c.token_hash).where(links.c.annotator_id == annotator_id, links.c.used.is_(False))
    active = sa.select(sessions.c.token_hash).where(
        sessions.c.annotator_id == annotator_id,
        sessions.c.created > time.time() - SESSION_SECONDS,
        sessions.c.link_hash.is_(None),
    )
    return connection.scalar(unused) is not None or connection.scalar(active) is not None


def start_session(connection: Connection, token: str) -> str | None:
    """Start a session by a link.

    The link is used up by the session's first request rather than here: mail programs that preview links open them but
    request nothing further.

    Returns:
        The secret of the session; None if the link was used before or never existed.
    """
    annotator_id = connection.scalar(
        sa.select(links.c.annotator_id)
        .join(annotators)
        .where(links.c.token_hash == _hash(token), links.c.used.is_(False), annotators.c.active)
    )
    return None if annotator_id is None else new_session(connection, annotator_id, _hash(token))


def new_session(connection: Connection, annotator_id: int, link_hash: str | None = None) -> str:
    """Sign an annotator in; returns the secret for the cookie, of which only the hash is stored."""
    secret = secrets.token_urlsafe(32)
    row = {"token_hash": _hash(secret), "annotator_id": annotator_id, "created": time.time(), "link_hash": link_hash}
    connection.execute(sa.insert(sessions).values(row))
    return secret


def end_sessions(connection: Connection, annotator_id: int) -> None:
    """Sign an annotator out everywhere."""
    connection.execute(sa.delete(sessions).where(sessions.c.annotator_id == annotator_id))


def signed_in(storage: Storage, secret: str) -> Person | None:
    """The owner of a session; None if it does not exist, is too old, or its owner no longer takes part."""
    if not secret:
        return None
    with storage.read() as connection:
        found = connection.execute(
            sa.select(annotators.c.id, annotators.c.name, annotators.c.role, sessions.c.link_hash)
            .join(sessions)
            .where(
                sessions.c.token_hash == _hash(secret),
                sessions.c.created > time.time() - SESSION_SECONDS,
                annotators.c.active,
            )
        ).first()
    if found is None:
        return None
    if found.link_hash is not None:
        with storage.write() as connection:
            if not _claim_link(connection, found.link_hash, secret):
                return None
    return Person(found.id, found.name, found.role)


def csrf_token(session: str) -> str:
    """The token that a page repeats in its requests; another site can make a browser send the cookie, but not this."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def is_csrf_token(given: str | None, session: str) -> bool:
    """Whether ``given`` is the session's CSRF token, compared in constant time."""
    return hmac.compare_digest((given or "").encode(), csrf_token(session).encode())


class RequestGuard:
    """Refuses requests with a foreign host name, from foreign pages or of excessive size, and adds security headers.

    Another site may point its own name at this machine (DNS rebinding) or send requests blindly; the first is seen in
    ``Host``, the second in ``Origin`` and ``Sec-Fetch-Site``.
    """

    def __init__(self, app: ASGIApp, host: str, public: str | None) -> None:
        """Guard ``app``, which listens on ``host``; ``public`` is the address that browsers use, if it is another."""
        self.app = app
        self.host_names = {*LOOPBACK, host.lower(), socket.gethostname().lower()}
        if public:
            self.host_names.add((urlsplit(public).hostname or "").lower())
        self.any_address = host in ("0.0.0.0", "::")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse one request or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/api/") and "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refused = self._refusal(scope)
        if refused:
            status, line = refused
            await JSONResponse({"error": line}, status)(scope, receive, send_with_headers)
            return
        await self.app(scope, _limited(receive), send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(_hostname(host)):
            return 421, f"unknown host name '{host[:80]}'; open the address that the server printed"
        if scope["path"].startswith("/api/") and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "this request comes from another site; open the page itself"
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
                return 403, "this request comes from another site; open the page itself"
            length = headers.get("content-length", "")
            if not length.isdecimal():
                return 411, "this request has no Content-Length"
            if int(length) > LARGEST_BODY:
                return 413, f"an answer has at most {LARGEST_BODY} bytes"
        return None

    def _is_ours(self, name: str) -> bool:
        return name in self.host_names or (self.any_address and _is_address(name))


def _claim_link(connection: Connection, link_hash: str, secret: str) -> bool:
    """Use up a link for this session; False if another session already did."""
    spent = sa.update(links).where(links.c.token_hash == link_hash, links.c.used.is_(False)).values(used=True)
    ours = connection.execute(spent).rowcount == 1
    if ours:
        connection.execute(sa.update(sessions).where(sessions.c.token_hash == _hash(secret)).values(link_hash=None))
    connection.execute(sa.delete(sessions).where(sessions.c.link_hash == link_hash))
    if ours:
        return True
    # A page may send two first requests at once; the other one may have claimed the link for this session.
    settled = sa.select(sessions.c.token_hash).where(sessions.c.token_hash == _hash(secret))
    return connection.scalar(settled) is not None


def _limited(receive: Receive) -> Receive:
    """``receive`` that disconnects once a body exceeds the limit."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= LARGEST_BODY else {"type": "http.disconnect"}

    return counted


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _hash(token: str) -> str:
    # Tokens are 256 random bits and cannot be guessed, so a plain hash is enough.
    return hashlib.sha256(token.encode()).hexdigest()
