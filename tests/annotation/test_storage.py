"""Nothing acknowledged is lost: by kill -9, by another tab, or by a lost reply."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from running import Server
from studies import Page, answer, client_of, link_of, open_study, write_photographs

from fundusnet.annotation.manifest_import import import_readings
from fundusnet.annotation.storage import Storage
from fundusnet.annotation.study_export import export_study
from fundusnet.annotation.tables import answers, assignments, tallies
from fundusnet.data.manifest import read_manifest
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError


def test_every_sqlite_connection_is_durable(tmp_path: Path) -> None:
    storage = Storage(f"sqlite:///{tmp_path / 'x.sqlite'}")
    with storage.read() as one, storage.read() as two:
        for connection in (one, two):
            assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
            assert connection.scalar(sa.text("PRAGMA synchronous")) == 2  # FULL
            assert connection.scalar(sa.text("PRAGMA foreign_keys")) == 1


def test_a_failed_write_is_rolled_back(tmp_path: Path) -> None:
    storage = open_study(tmp_path).storage
    settings = sa.text("INSERT INTO settings (name, value) VALUES ('x', 'y')")

    def fail() -> None:
        with storage.write() as connection:
            connection.execute(settings)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with storage.read() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM settings WHERE name = 'x'")) == 0


def test_a_read_transaction_sees_one_state(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    page = Page(client_of(study))
    count = sa.select(sa.func.count()).select_from(answers)
    with study.storage.read() as connection:
        assert connection.scalar(count) == 0
        page.put("a", answer())
        assert connection.scalar(count) == 0
    with study.storage.read() as connection:
        assert connection.scalar(count) == 1


def test_many_tabs_at_once_make_one_version(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    page = Page(client_of(study))
    start = threading.Barrier(12)

    def save(number: int) -> int:
        start.wait()
        return int(page.put("a", answer(comment=str(number))).status_code)

    with ThreadPoolExecutor(12) as pool:
        codes = sorted(pool.map(save, range(12)))
    assert codes == [200] + [409] * 11
    with study.storage.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(answers)) == 1


def test_one_change_sent_many_times_at_once_is_kept_once(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    page = Page(client_of(study))
    body, start = answer(), threading.Barrier(12)

    def save(_: int) -> Any:
        start.wait()
        return page.put("a", body).json()["version"]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(save, range(12))) == [1] * 12
    with study.storage.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(answers)) == 1


def test_readers_who_save_at_once_wait_for_each_other_and_are_all_counted(tmp_path: Path) -> None:
    names = ["anna", "ben", "cleo"]
    study = open_study(tmp_path, names, ["ada"])
    pages = {name: Page(client_of(study, links=True), link_of(study, name)) for name in names}
    start = threading.Barrier(12)

    def save(name: str, image_id: str) -> list[int]:
        start.wait()  # three readers of each image, and four images of each reader
        sent = [pages[name].put(image_id, answer(version)) for version in range(8)]
        return [each.status_code for each in sent]

    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(save, name, image_id) for name in names for image_id in "abcd"]
        assert [each.result() for each in sent] == [[200] * 8] * 12
    found = Page(client_of(study, links=True), link_of(study, "ada")).get("/api/overview").json()
    assert [(row["done"], row["total"]) for row in found["annotators"]] == [(4, 4)] * 3
    with study.storage.read() as connection:
        assert connection.scalars(sa.select(tallies.c.gradable)).all() == [3] * 4


def test_a_study_from_links_to_export_on_each_database(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben", "cleo"], ["ada"])
    for number, name in enumerate(["anna", "ben", "cleo"]):
        page = Page(client_of(study, links=True), link_of(study, name))
        page.put("a", answer(findings={"drusen": ["macula"]} if number else {}, normal=not number, comment="ø 🙂"))
        page.put("b", answer(findings={"drusen": ["macula"]} if not number else {}, normal=bool(number)))
        page.put("c", answer(state="ungradable", ungradable="blurred", disc=None, fovea=None))
    ada = Page(client_of(study, links=True), link_of(study, "ada"))
    assert [entry["image_id"] for entry in ada.get("/api/adjudication").json()] == ["b"]
    assert [row["done"] for row in ada.get("/api/overview").json()["annotators"]] == [3, 3, 3]
    body = {"finding": "drusen", "present": True, "regions": ["temporal"], "version": 0}
    with ThreadPoolExecutor(6) as pool:
        sent = list(pool.map(lambda _: ada.put("b", body, "/api/adjudication/{}").status_code, range(6)))
    assert sorted(sent) == [200] + [409] * 5
    folder = export_study(study, tmp_path / "out")
    assert set(read_manifest(folder).readings["annotator_id"]) >= {"adjudicated-1", "adjudicated-2", "ben"}
    again = open_study(tmp_path, ["anna", "ben", "cleo"], ["ada"])
    assert again.key == study.key
    assert import_readings(again, folder) == 0


@pytest.mark.sqlite
def test_killed_in_the_middle_of_a_burst_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    names, images = ["anna", "ben", "cleo", "dora"], "abcdef"
    write_photographs(tmp_path / "photographs", images)
    server = Server("data.root=photographs", "folder=study", "readings_per_image=4",
                    f"annotators=[{','.join(names)}]", folder=tmp_path)  # fmt: skip
    clients = {}
    for name in names:
        clients[name] = httpx2.Client(base_url=server.address, timeout=20)
        assert clients[name].get(server.links[name]).status_code in (303, 200, 404)
    acknowledged: dict[str, list[tuple[str, str, int]]] = {name: [] for name in names}
    unknown: dict[str, list[tuple[str, dict[str, Any]]]] = {name: [] for name in names}
    clicks = threading.Semaphore(0)

    def click(name: str) -> None:
        client = clients[name]
        csrf = client.get("/api/session").json()["csrf"]
        versions = dict.fromkeys(images, 0)
        for number in range(10_000):
            image_id = images[number % len(images)]
            regions = [region for bit, region in enumerate(REGIONS.values()) if number >> bit & 1]
            body = answer(versions[image_id], state="todo", findings={"drusen": regions}, seconds=float(number))
            try:
                sent = client.put(f"/api/images/{image_id}/answer", json=body, headers={"X-CSRF-Token": csrf})
            except httpx2.TransportError:
                unknown[name].append((image_id, body))
                return
            assert sent.status_code == 200, sent.text
            versions[image_id] = sent.json()["version"]
            acknowledged[name].append((image_id, body["change"], versions[image_id]))
            clicks.release()

    threads = [threading.Thread(target=click, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for _ in range(120):
        assert clicks.acquire(timeout=60)
    server.kill()
    for thread in threads:
        thread.join()

    server.start(server.port)
    try:
        for name in names:  # the page sends what it never heard of again, in its session of before
            csrf = clients[name].get("/api/session").json()["csrf"]
            for image_id, body in unknown[name]:
                sent = clients[name].put(f"/api/images/{image_id}/answer", json=body, headers={"X-CSRF-Token": csrf})
                assert sent.status_code == 200, sent.text
                acknowledged[name].append((image_id, body["change"], sent.json()["version"]))
    finally:
        assert server.stop() == 0

    assert sum(map(len, unknown.values())) > 0
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'study' / 'study.sqlite'}")
    with engine.connect() as connection:
        stored = connection.execute(sa.select(answers.c.image_id, answers.c.change, answers.c.version)).all()
        newest = connection.execute(sa.select(assignments.c.version).where(assignments.c.version > 0)).scalars().all()
        assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"
    engine.dispose()
    everything = [change for changes in acknowledged.values() for change in changes]
    assert sorted(tuple(row) for row in stored) == sorted(everything)
    assert sum(newest) == len(everything)


@pytest.mark.sqlite
def test_a_page_continues_after_a_server_restart(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photographs")
    server = Server("data.root=photographs", "folder=study", folder=tmp_path)
    client = httpx2.Client(base_url=server.address, timeout=20)
    csrf = client.get("/api/session").json()["csrf"]
    server.kill()
    with pytest.raises(httpx2.TransportError):
        client.get("/api/session")
    server.start(server.port)
    sent = client.put("/api/images/a/answer", json=answer(), headers={"X-CSRF-Token": csrf})
    assert sent.json()["version"] == 1
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "database=nonsense cannot be used"),
        ("sqlite:////nowhere/at/all.sqlite", "unable to open database file"),
        ("mysql+pymysql://me:secret@nowhere/x", "needs the module pymysql"),
        ("oddbase://x", "cannot be used"),
    ],
)
def test_a_wrong_database_is_one_line_without_the_password(address: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        Storage(address)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_an_unreachable_postgres_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="cannot be used") as refused:
            Storage(f"postgresql+psycopg://me:secret@127.0.0.1:{taken.getsockname()[1]}/x")
    assert "secret" not in str(refused.value)
