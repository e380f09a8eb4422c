"""What goes wrong around a study is told as what it is, keeps the answers, and passes."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from running import Server
from studies import Page, answer, client_of, link_of, open_study, write_photographs

from fundusnet.annotation import file_work
from fundusnet.annotation.access import DEVICE_LINK_SECONDS, LINK_SECONDS
from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.study import Study
from fundusnet.annotation.tables import links


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(tmp_path, ["anna", "ben"], ["ada"])


@pytest.fixture
def anna(study: Study) -> Page:
    return Page(client_of(study, links=True), link_of(study, "anna"))


def post(page: Page, address: str, body: Any = None) -> Any:
    return page.client.post(address, json=body, headers={"X-CSRF-Token": page.session["csrf"]})


def test_a_reader_has_several_devices(study: Study, anna: Page) -> None:
    made = post(anna, "/api/link").json()
    assert made["seconds"] == DEVICE_LINK_SECONDS
    tablet = Page(client_of(study, links=True), made["link"].rpartition("/")[2])
    assert tablet.session["annotator"]["name"] == "anna"
    tablet.put("a", answer())
    assert anna.get("/api/images/a").json()["answer"]["version"] == 1


def test_signing_out_ends_one_session_or_all(study: Study, anna: Page) -> None:
    tablet = Page(client_of(study, links=True), post(anna, "/api/link").json()["link"].rpartition("/")[2])
    signed_out = post(tablet, "/api/sign-out", {})
    assert signed_out.status_code == 200
    assert "Max-Age=0" in signed_out.headers["set-cookie"]
    assert tablet.get("/api/session").status_code == 401
    assert anna.get("/api/queue").status_code == 200
    third = Page(client_of(study, links=True), post(anna, "/api/link").json()["link"].rpartition("/")[2])
    cookies = dict(third.client.cookies)
    post(anna, "/api/sign-out", {"everywhere": True})
    third.client.cookies.update(cookies)
    refused = third.put("a", answer())
    assert (refused.status_code, refused.json()["code"]) == (401, "signed_out")


def test_nobody_else_can_sign_somebody_out(anna: Page) -> None:
    assert anna.client.post("/api/sign-out", json={}).status_code == 403
    assert anna.client.post("/api/link", json={}).status_code == 403
    assert anna.get("/api/queue").status_code == 200


def test_links_end(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    token = link_of(study, "anna")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LINK_SECONDS - 60)
    assert client_of(study, links=True).get(f"/join/{token}", follow_redirects=False).status_code == 303
    monkeypatch.setattr(time, "time", lambda: now + LINK_SECONDS + 60)
    assert client_of(study, links=True).get(f"/join/{token}", follow_redirects=False).status_code == 403


@pytest.mark.sqlite
def test_links_of_old_studies_end_too(tmp_path: Path, study: Study) -> None:
    link_of(study, "anna")
    study.storage.close()
    with sqlite3.connect(tmp_path / "study.sqlite") as connection:
        connection.execute("ALTER TABLE links DROP COLUMN expires")
    study = open_study(tmp_path)
    with study.storage.read() as connection:
        (expires,) = connection.scalars(sa.select(links.c.expires))
    assert 0 < expires - time.time() <= LINK_SECONDS


@pytest.mark.sqlite
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_its_owner_can_read_the_database(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        study = open_study(tmp_path)
        with study.storage.read():
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("study.sqlite*")}
    finally:
        os.umask(before)
    assert set(modes) == {"study.sqlite", "study.sqlite-wal", "study.sqlite-shm"}
    assert set(modes.values()) == {0o600}
    (tmp_path / "study.sqlite").chmod(0o644)  # as 0.1.0 left it
    open_study(tmp_path)
    assert stat.S_IMODE((tmp_path / "study.sqlite").stat().st_mode) == 0o600


@pytest.mark.sqlite
def test_a_locked_database_is_busy_and_nothing_else_waits(study: Study, anna: Page, tmp_path: Path) -> None:
    study.storage.patience = 0.2
    with sqlite3.connect(tmp_path / "study.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = anna.put("a", answer())
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"]
        assert "trying again" in refused.json()["error"]
        assert anna.get("/api/queue").status_code == 200
        assert anna.get("/").status_code == 200
        other.execute("ROLLBACK")
    assert anna.put("a", answer()).json()["version"] == 1


@pytest.mark.sqlite
def test_a_full_disk_is_told_and_passes(study: Study, anna: Page) -> None:
    with study.storage.write() as connection:
        pages = connection.scalar(sa.text("PRAGMA page_count"))

    def limit(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(study.storage._engine, "checkout", limit)
    codes = [anna.put("a", answer(version=version, comment="x" * 2000)) for version in range(30)]
    refused = next(each for each in codes if each.status_code != 200)
    assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
    kept = anna.get("/api/images/a").json()["answer"]["version"]
    assert kept == sum(each.status_code == 200 for each in codes)
    sa.event.remove(study.storage._engine, "checkout", limit)
    sa.event.listen(
        study.storage._engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count=1000000")
    )
    assert anna.put("a", answer(version=kept)).json()["version"] == kept + 1


def test_photographs_are_shown_though_the_disk_is_full(anna: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Photographs, "_write", full)
    assert anna.get("/api/images/a").json()["width"] == 120
    assert anna.get("/api/images/a/photograph").headers["content-type"] == "image/jpeg"


def test_photographs_that_are_away_come_back_by_themselves(anna: Page, tmp_path: Path) -> None:
    assert anna.get("/api/images/a").status_code == 200
    (tmp_path / "photographs").rename(tmp_path / "away")
    for address in ("/api/images/a", "/api/images/b", "/api/images/a/photograph", "/api/images/b/photograph?size=full"):
        refused = anna.get(address)
        assert (refused.status_code, refused.json()["code"]) == (503, "photographs_away")
    # What was seen can be saved all the same; what was not is kept until it can be checked.
    assert anna.put("a", answer()).json()["version"] == 1
    assert anna.put("b", answer()).json()["code"] == "photographs_away"
    (tmp_path / "away").rename(tmp_path / "photographs")
    assert anna.get("/api/images/b").status_code == 200
    assert anna.put("b", answer()).json()["version"] == 1


def test_a_drive_that_hangs_is_away_and_stops_nothing_else(
    anna: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_work, "PATIENCE", 0.05)
    monkeypatch.setattr(file_work, "_MOST_HUNG", 3)
    opened = []
    look_up = Photographs.look_up

    def hang(self: Photographs, path: str) -> Any:
        opened.append(path)
        time.sleep(1)
        return look_up(self, path)

    monkeypatch.setattr(Photographs, "look_up", hang)
    for _ in range(6):
        assert anna.get("/api/images/a").json()["code"] == "photographs_away"
    assert len(opened) == 3
    assert anna.get("/api/queue").status_code == 200
    monkeypatch.setattr(Photographs, "look_up", look_up)
    monkeypatch.setattr(file_work, "PATIENCE", 8.0)
    time.sleep(1.2)
    assert anna.get("/api/images/a").status_code == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    write_photographs(folder / "photographs")
    server = Server("data.root=photographs", "folder=study", "annotators=[anna,ben]", folder=folder)
    yield server
    server.stop()


@pytest.mark.slow
def test_requests_that_never_end_are_ended(server: Server) -> None:
    head = b"PUT /api/images/a/answer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    parts = (b"", b"GET / HT", head, head + b"Content-Length: 100\r\n\r\n{", head + b"Content-Length: 0\r\n\r\nGET /")
    hanging = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in parts]
    for connection, part in zip(hanging, parts, strict=True):
        connection.sendall(part)
    start = time.monotonic()
    answers = []
    for connection in hanging:
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
        answers.append(received)
    assert time.monotonic() - start < 15
    assert b"408" in answers[3].splitlines()[0]


@pytest.mark.sqlite
@pytest.mark.slow
def test_sign_in_is_ended_from_the_command_line_while_the_server_runs(server: Server) -> None:

    def command(*words: str) -> str:
        line = [sys.executable, "-m", "fundusnet", "annotate", "data.root=photographs", "folder=study", *words]
        return subprocess.run(line, cwd=server.folder, check=True, capture_output=True, text=True).stdout

    client, tablet = (httpx2.Client(base_url=server.address) for _ in range(2))
    client.get(server.links["anna"])
    assert client.get("/api/session").status_code == 200
    tablet.get(command("links=[anna]").split()[1])
    assert [each.get("/api/session").status_code for each in (client, tablet)] == [200, 200]
    command("sign_out=[anna]")
    for each in (client, tablet):
        assert each.get("/api/session").json()["code"] == "revoked"
