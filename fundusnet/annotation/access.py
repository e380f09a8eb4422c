"""Access to a study: one-time links and sessions."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from fundusnet.annotation.storage import Storage
from fundusnet.annotation.tables import annotators, links, sessions

SESSION_SECONDS = 90 * 24 * 3600
LINK_SECONDS = 14 * 24 * 3600
DEVICE_LINK_SECONDS = 15 * 60
"""Of a link that a reader makes for another device."""


@dataclass(frozen=True)
class Person:
    """A person who takes part in the study.

    Attributes:
        id: Key in the annotators table.
        name: As in ``annotators``, ``adjudicators`` or ``administrators``.
        role: "annotator", "adjudicator" or "administrator".
        active: Whether they take part now. Those who left may only send the answers that they gave before.
    """

    id: int
    name: str
    role: str
    active: bool = True


class SignedOutError(Exception):
    """The request is of nobody who is signed in.

    Attributes:
        code: "signed_out", "expired", or "revoked" where whoever leads the study ended the session.
    """

    def __init__(self, code: str, line: str) -> None:
        super().__init__(line)
        self.code = code


_NOT_SIGNED_IN = ("signed_out", "you are not signed in; open your link again, or ask for a new one")
_EXPIRED = ("expired", f"you signed in more than {SESSION_SECONDS // 86400} days ago; ask for a new link")
_ENDED = {
    "signed_out": ("signed_out", "you signed out; open a new link to go on"),
    "revoked": ("revoked", "your sign-in was ended by whoever leads the study; ask for a new link"),
}


def new_link(connection: Connection, annotator_id: int, seconds: float = LINK_SECONDS) -> str:
    """A token that signs this annotator in once, for ``seconds``; earlier unused ones become invalid."""
    connection.execute(sa.delete(links).where(links.c.annotator_id == annotator_id, links.c.used.is_(False)))
    token = secrets.token_urlsafe(32)
    row = {"token_hash": _hash(token), "annotator_id": annotator_id, "used": False, "expires": time.time() + seconds}
    connection.execute(sa.insert(links).values(row))
    return token


def can_sign_in(connection: Connection, annotator_id: int) -> bool:
    """Whether this annotator has a session, or a link that is still valid."""
    unused = sa.select(links.c.token_hash).where(links.c.annotator_id == annotator_id, *_valid_link())
    active = sa.select(sessions.c.token_hash).where(
        sessions.c.annotator_id == annotator_id,
        sessions.c.created > time.time() - SESSION_SECONDS,
        sessions.c.link_hash.is_(None),
        sessions.c.ended.is_(None),
    )
    return connection.scalar(unused.limit(1)) is not None or connection.scalar(active.limit(1)) is not None


def start_session(connection: Connection, token: str) -> str | None:
    """Start a session by a link.

    The link is used up by the session's first request rather than here: mail programs that preview links open them but
    request nothing further.

    Returns:
        The secret of the session; None if the link was used before, has ended, or never existed.
    """
    annotator_id = connection.scalar(
        sa.select(links.c.annotator_id)
        .join(annotators)
        .where(links.c.token_hash == _hash(token), *_valid_link(), annotators.c.active)
    )
    return None if annotator_id is None else new_session(connection, annotator_id, _hash(token))


def new_session(connection: Connection, annotator_id: int, link_hash: str | None = None) -> str:
    """Sign an annotator in; returns the secret for the cookie, of which only the hash is stored."""
    secret = secrets.token_urlsafe(32)
    row = {"token_hash": _hash(secret), "annotator_id": annotator_id, "created": time.time(), "link_hash": link_hash}
    connection.execute(sa.insert(sessions).values(row))
    return secret


def end_session(connection: Connection, secret: str) -> None:
    """Sign out in one browser."""
    connection.execute(sa.update(sessions).where(sessions.c.token_hash == _hash(secret)).values(ended="signed_out"))


def end_sessions(connection: Connection, annotator_id: int, why: str = "revoked") -> None:
    """Sign an annotator out everywhere, and end the links."""
    mine = (sessions.c.annotator_id == annotator_id, sessions.c.ended.is_(None))
    connection.execute(sa.update(sessions).where(*mine).values(ended=why))
    connection.execute(sa.delete(links).where(links.c.annotator_id == annotator_id, links.c.used.is_(False)))


def signed_in(storage: Storage, secret: str) -> Person:
    """The owner of a session, who may have left the study since.

    Raises:
        SignedOutError: The session does not exist, is too old, or was ended.
    """
    if not secret:
        raise SignedOutError(*_NOT_SIGNED_IN)
    with storage.read() as connection:
        found = connection.execute(
            sa.select(annotators, sessions.c.link_hash, sessions.c.created, sessions.c.ended)
            .join(sessions)
            .where(sessions.c.token_hash == _hash(secret))
        ).first()
    if found is None:
        raise SignedOutError(*_NOT_SIGNED_IN)
    if found.ended is not None:
        raise SignedOutError(*_ENDED[found.ended])
    if found.created <= time.time() - SESSION_SECONDS:
        raise SignedOutError(*_EXPIRED)
    if found.link_hash is not None:
        with storage.write() as connection:
            if not _claim_link(connection, found.link_hash, secret):
                raise SignedOutError(*_NOT_SIGNED_IN)
    return Person(found.id, found.name, found.role, found.active)


def csrf_token(session: str) -> str:
    """The token that a page repeats in its requests; another site can make a browser send the cookie, but not this."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def is_csrf_token(given: str | None, session: str) -> bool:
    """Whether ``given`` is the session's CSRF token, compared in constant time."""
    return hmac.compare_digest((given or "").encode(), csrf_token(session).encode())


def _valid_link() -> tuple[sa.ColumnElement[bool], ...]:
    return links.c.used.is_(False), links.c.expires > time.time()


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


def _hash(token: str) -> str:
    # Tokens are 256 random bits and cannot be guessed, so a plain hash is enough.
    return hashlib.sha256(token.encode()).hexdigest()
