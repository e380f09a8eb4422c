"""The drawn eyes and the study that the tests of the pages share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
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
    return server.links.pop(min(server.links))


@pytest.fixture
def reader(browser: Browser, server: Server, link: str) -> Iterator[Reader]:
    """An annotator of the drawn eyes, at the first photograph."""
    reader = new_reader(browser, server).open(link)
    yield reader
    reader.tab.context.close()
    assert reader.problems == []
