"""Links, sessions, and protection against requests from other sites."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from studies import Page, answer, client_of, link_of, open_study

from fundusnet.annotation.access import SESSION_SECONDS, can_sign_in, csrf_token, end_sessions
from fundusnet.annotation.request_guard import LARGEST_BODY
from fundusnet.annotation.study import Study
from fundusnet.annotation.tables import links, sessions
from fundusnet.errors import UserError


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(tmp_path, ["anna", "ben"], ["ada"])


def test_a_link_signs_in_once(study: Study) -> None:
    token = link_of(study, "anna")
    page = Page(client_of(study, links=True), token)
    assert page.session["annotator"]["name"] == "anna"
    second = client_of(study, links=True)
    answered = second.get(f"/join/{token}", follow_redirects=False)
    assert answered.status_code == 403
    assert "set-cookie" not in answered.headers
    assert second.get("/api/session").status_code == 401


def test_a_mail_program_that_previews_a_link_does_not_use_it_up(study: Study) -> None:
    token = link_of(study, "anna")
    scanner = client_of(study, links=True)
    assert scanner.get(f"/join/{token}").status_code == 200  # it even follows to the page, but asks for nothing there
    page = Page(client_of(study, links=True), token)
    assert page.session["annotator"]["name"] == "anna"
    assert scanner.get("/api/session").status_code == 401
    assert page.get("/api/queue").status_code == 200
    assert client_of(study, links=True).get(f"/join/{token}", follow_redirects=False).status_code == 403


def test_the_first_requests_of_a_page_may_come_together(study: Study) -> None:
    client = client_of(study, links=True)
    client.get(f"/join/{link_of(study, 'anna')}", follow_redirects=False)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: client.get("/api/queue").status_code, range(8)))
    assert codes == [200] * 8


def test_only_one_of_several_simultaneous_sessions_of_a_link_is_signed_in(study: Study) -> None:
    token = link_of(study, "anna")
    clients = [client_of(study, links=True) for _ in range(4)]
    for client in clients:
        client.get(f"/join/{token}", follow_redirects=False)
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda client: client.get("/api/session").status_code, clients))
    assert sorted(codes) == [200, 401, 401, 401]


def test_a_new_link_invalidates_the_unused_one(study: Study) -> None:
    first, second = link_of(study, "anna"), link_of(study, "anna")
    assert client_of(study, links=True).get(f"/join/{first}", follow_redirects=False).status_code == 403
    assert client_of(study, links=True).get(f"/join/{second}", follow_redirects=False).status_code == 303


@pytest.mark.parametrize("token", ["x", "%2e%2e", "é", "a" * 5000, "%00", "None"])
def test_no_other_token_signs_in(study: Study, token: str) -> None:
    link_of(study, "anna")
    client = client_of(study, links=True)
    assert client.get(f"/join/{token}", follow_redirects=False).status_code in (403, 404)
    assert client.get("/api/queue").status_code == 401


def test_nothing_in_the_database_signs_in(study: Study) -> None:
    token = link_of(study, "anna")
    client = client_of(study, links=True)
    with study.storage.read() as connection:
        kept = connection.scalar(sa.select(links.c.token_hash))
    assert token not in str(kept)
    assert client.get(f"/join/{kept}", follow_redirects=False).status_code == 403
    secret = next(iter(Page(client, token).client.cookies.jar)).value
    with study.storage.read() as connection:
        hashes = list(connection.scalars(sa.select(sessions.c.token_hash)))
    assert secret not in hashes
    client.cookies.clear()
    client.cookies.set(f"fundusnet_{study.key}", hashes[0])
    assert client.get("/api/queue").status_code == 401


def test_the_cookie_stays_with_the_page(study: Study) -> None:
    for public, secure in ((None, False), ("https://reading.example.org", True)):
        client = client_of(study, links=True, public=public)
        cookie = client.get(f"/join/{link_of(study, 'anna')}", follow_redirects=False).headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert ("Secure" in cookie.split("; ")) == secure


def test_two_studies_on_one_machine_have_different_cookies(tmp_path: Path, study: Study) -> None:
    assert open_study(tmp_path / "other").key != study.key


def test_sessions_end(study: Study) -> None:
    page = Page(client_of(study, links=True), link_of(study, "anna"))
    anna = page.session["annotator"]["id"]
    with study.storage.write() as connection:
        assert can_sign_in(connection, anna)
        connection.execute(sa.update(sessions).values(created=time.time() - SESSION_SECONDS - 1))
        assert not can_sign_in(connection, anna)
    assert page.get("/api/queue").status_code == 401
    other = Page(client_of(study, links=True), link_of(study, "anna"))
    with study.storage.write() as connection:
        end_sessions(connection, anna)
    assert other.put("a", answer()).status_code == 401


def test_an_annotator_who_leaves_cannot_sign_in_and_keeps_the_readings(tmp_path: Path, study: Study) -> None:
    page = Page(client_of(study, links=True), link_of(study, "anna"))
    unused = link_of(study, "anna")
    page.put("a", answer())
    study.enrol(["ben", "cleo"])
    assert page.get("/api/queue").json() == {"images": []}
    for address in ("/api/images/a", "/api/images/a/photograph"):
        assert page.get(address).json()["code"] == "left"
    assert client_of(study, links=True).get(f"/join/{unused}", follow_redirects=False).status_code == 403
    study.enrol(["anna", "ben"])
    assert page.get("/api/images/a").json()["answer"]["version"] == 1
    assert page.put("a", answer(version=1)).json()["version"] == 2


def test_restarting_without_names_lets_nobody_in_without_a_link(tmp_path: Path, study: Study) -> None:
    again = open_study(tmp_path)
    assert again.enrol([]) is True
    assert [person.name for person in again.people()] == ["anna", "ben", "ada"]
    assert client_of(again, links=True).get("/api/session").status_code == 401


def test_restarting_with_some_names_leaves_the_other_roles_as_they_were(study: Study) -> None:
    study.enrol(["anna", "cleo"])
    roles = {person.name: person.role for person in study.people()}
    assert roles == {"anna": "annotator", "ada": "adjudicator", "cleo": "annotator"}
    study.enrol([], ["max"])
    assert {person.name for person in study.people()} == {"anna", "cleo", "max"}


@pytest.mark.parametrize(
    ("readers", "adjudicators", "message"),
    [
        (["anna", "anna"], [], "'anna' is given twice"),
        (["anna"], ["anna"], "'anna' is given twice"),
        (["ada"], [], "ada is already adjudicator of this study and cannot be annotator"),
        ([""], [], "'' is not a valid name"),
        ([" anna"], [], "' anna' is not a valid name"),
        (["a\nb"], [], "is not a valid name"),
        (["x" * 81], [], "is not a valid name"),
    ],
)
def test_names_are_checked(study: Study, readers: list[str], adjudicators: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study.enrol(readers, adjudicators)
    assert [person.name for person in study.people()] == ["anna", "ben", "ada"]


@pytest.mark.parametrize("token", [None, "", "x", "é"])
def test_a_request_without_the_sessions_token_changes_nothing(study: Study, token: str | None) -> None:
    page = Page(client_of(study, links=True), link_of(study, "anna"))
    headers = {} if token is None else {"X-CSRF-Token": token.encode()}
    refused = page.client.put("/api/images/a/answer", json=answer(), headers=headers)
    assert refused.status_code == 403
    assert page.get("/api/images/a").json()["answer"]["version"] == 0


def test_the_token_of_another_session_is_refused(study: Study) -> None:
    anna = Page(client_of(study, links=True), link_of(study, "anna"))
    ben = Page(client_of(study, links=True), link_of(study, "ben"))
    headers = {"X-CSRF-Token": ben.session["csrf"]}
    assert anna.client.put("/api/images/a/answer", json=answer(), headers=headers).status_code == 403
    assert csrf_token("one") != csrf_token("two")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_only_the_page_itself_may_write(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    page = Page(client_of(open_study(tmp_path)))
    sent = {"X-CSRF-Token": page.session["csrf"], **headers}
    assert page.client.put("/api/images/a/answer", json=answer(), headers=sent).status_code == status


def test_other_sites_cannot_start_a_session(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    client = client_of(study)
    answered = client.get("/api/session", headers={"Sec-Fetch-Site": "cross-site"})
    assert answered.status_code == 403
    with study.storage.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(sessions)) == 0


@pytest.mark.parametrize(
    ("host", "name", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8765", 200),
        ("127.0.0.1", "localhost", 200),
        ("127.0.0.1", "[::1]:8765", 200),
        ("127.0.0.1", "LOCALHOST:1", 200),
        ("127.0.0.1", "evil.example", 421),
        ("127.0.0.1", "127.0.0.1.evil.example", 421),
        ("127.0.0.1", "localhost.evil.example:8765", 421),
        ("127.0.0.1", "192.168.1.5", 421),
        ("127.0.0.1", "", 421),
        ("127.0.0.1", "[::1", 421),
        ("0.0.0.0", "192.168.1.5:8765", 200),
        ("0.0.0.0", "evil.example", 421),
        ("192.168.1.5", "192.168.1.5", 200),
        ("192.168.1.5", "192.168.1.6", 421),
        ("127.0.0.1", "reading.example.org", 200),
    ],
)
def test_requests_for_a_foreign_host_name_are_refused(tmp_path: Path, host: str, name: str, status: int) -> None:
    client = client_of(open_study(tmp_path), host=host, public="https://reading.example.org/")
    for address in ("/api/session", "/"):
        assert client.get(address, headers={"Host": name}).status_code == status


def test_every_response_carries_the_safety_headers(tmp_path: Path) -> None:
    page = Page(client_of(open_study(tmp_path)))
    for address in ("/", "/api/session", "/api/images/a/photograph", "/nothing", "/api/images/zzz", "/static/nothing"):
        headers = page.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert page.get("/api/session").headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in page.get("/api/session", headers={"Origin": "http://evil"}).headers
    assert "no-store" not in page.get("/api/images/a/photograph").headers["cache-control"]


def test_an_oversized_body_is_refused(tmp_path: Path) -> None:
    page = Page(client_of(open_study(tmp_path)))
    headers = {"X-CSRF-Token": page.session["csrf"], "Content-Type": "application/json"}
    body = b" " * (LARGEST_BODY + 1)
    assert page.client.put("/api/images/a/answer", content=body, headers=headers).status_code == 413
    chunks = (b" " * 1000 for _ in range(3))  # sent without saying how long
    assert page.client.put("/api/images/a/answer", content=chunks, headers=headers).status_code == 411
