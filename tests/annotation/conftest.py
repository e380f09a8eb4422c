"""The drawn eyes and the study that the tests of the pages share, and databases of each kind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
import studies
from browsing import IMAGES, SIZE, Reader, Server, Start, new_reader

from fundusnet.data.manifest import Manifest, write_manifest
from fundusnet.data.sources.synthetic import load

if TYPE_CHECKING:
    from playwright.sync_api import Browser

READERS = 60
SPLITS = ("train", "train", "val", "val", "test", "test", "train", "train")


@pytest.fixture(scope="package")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn eyes, right and left in turns, with their points and a split; readings are what the tests make."""
    folder = tmp_path_factory.mktemp("eyes")
    drawn = load(folder / "drawn", images=IMAGES, size=SIZE, seed=1)
    images = drawn.images.assign(split=SPLITS, patient_id=[f"p{row}" for row in range(IMAGES)])
    write_manifest(Manifest(drawn.root, images), folder / "drawn")
    for table in ("lesions.csv", "readings.csv"):
        assert not (folder / "drawn" / table).exists()
    return folder / "drawn"


@pytest.fixture(scope="package")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start servers of studies of a manifest."""
    servers: list[Server] = []

    def begin(root: Path, *overrides: str) -> Server:
        folder = tmp_path_factory.mktemp("study") / "study"
        servers.append(Server(folder, f"data.root={root}", *overrides))
        return servers[-1]

    yield begin
    for server in servers:
        server.kill()


@pytest.fixture(scope="package")
def server(eyes: Path, start: Start) -> Server:
    """A study of the drawn eyes with an annotator for every test: all read everything, and nobody sees the others."""
    names = ",".join(f"reader{number}" for number in range(READERS))
    return start(eyes, "data=csv", f"annotators=[{names}]", f"readings_per_image={READERS}")


@pytest.fixture(scope="package")
def one(eyes: Path, start: Start) -> Server:
    """A study of one person, who may see all pages."""
    return start(eyes, "data=csv")


@pytest.fixture
def link(server: Server) -> str:
    """The link of an annotator who has read nothing yet."""
    if not server.runs:
        server.start()
    return server.newcomer()


@pytest.fixture
def reader(browser: Browser, server: Server, link: str) -> Iterator[Reader]:
    """An annotator of the drawn eyes, at the first photograph."""
    reader = new_reader(browser, server).open(link)
    yield reader
    reader.tab.context.close()
    assert reader.problems == []


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of its own; skipped where none is installed."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin"), Path(shutil.which("postgres") or "/nowhere").resolve().parent]
    programs = next((folder for folder in found if (folder / "initdb").exists()), None)
    if programs is None:
        pytest.skip("no PostgreSQL here")
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 and "postgres" in {entry.pw_name for entry in pwd.getpwall()} else None
    folder = Path(tempfile.mkdtemp(prefix="fundusnet-postgres-"))
    data = folder / "data"
    try:
        if user:
            shutil.chown(folder, user)
        base: dict[str, Any] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
        initdb = [programs / "initdb", "-D", data, "-U", "fundusnet", "-A", "trust", "-N"]
        subprocess.run(initdb, check=True, **base)
        # fsync only slows the tests: none of them cuts the power.
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "max_connections=500")
        command = [programs / "postgres", "-D", data, *(word for option in options for word in ("-c", option))]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, **base)
        deadline = time.monotonic() + 60
        while not (folder / ".s.PGSQL.5432").exists():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"postgresql+psycopg://fundusnet@/postgres?host={folder}"
        server.send_signal(signal.SIGINT)  # a fast shutdown, whoever is still connected
        server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of studies in this process on each kind of database."""
    one_kind = any(metafunc.definition.get_closest_marker(name) for name in ("sqlite", "browser"))
    if "open_study" in vars(metafunc.module) and not one_kind:
        kinds = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
        metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of database of the studies that ``open_study`` opens."""
    kind: str = getattr(request, "param", "sqlite")
    if kind == "postgresql":
        server: str = request.getfixturevalue("postgres")
        urls: dict[Path, str] = {}
        monkeypatch.setattr(studies, "url_of", lambda folder: urls.setdefault(folder, _new_schema(server)))
    return kind


def _new_schema(server: str) -> str:
    """The URL of an empty schema, which is made in a hundredth of the time of a database."""
    name = f"study{uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return f"{server}&options=-csearch_path%3D{name}"
