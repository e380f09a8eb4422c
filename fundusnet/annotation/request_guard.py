"""Protection against requests from other sites, and against requests that are too large or never end."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fundusnet.annotation.refusals import CODES, refusal

LARGEST_BODY = 64 * 1024
BODY_SECONDS = 10.0
"""Within which a request has to be complete."""
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
            await refusal(status, CODES[status], line)(scope, receive, send_with_headers)
            return
        if scope["method"] not in ("GET", "HEAD"):
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    receive = await _received(receive)
            except TimeoutError:
                line = "the request did not end"
                answer = refusal(408, "slow", line)
                answer.headers["Connection"] = "close"
                await answer(scope, receive, send_with_headers)
                return
        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(_hostname(host)):
            return 421, f"unknown host name '{host[:80]}'; open the address that the server printed"
        if "\0" in scope["path"]:  # PostgreSQL has no text with it
            return 404, "there is no such page"
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


async def _received(receive: Receive) -> Receive:
    """The complete body as one message, cut off where it exceeds the limit; then what ``receive`` says."""
    body, more = b"", True
    first: Message = {"type": "http.disconnect"}
    while more and len(body) <= LARGEST_BODY:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    else:
        if len(body) <= LARGEST_BODY:
            first = {"type": "http.request", "body": body, "more_body": False}
    waiting = [first]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


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
