"""Studies small enough to make in a test, and a page without a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from fastapi.testclient import TestClient

from fundusnet.annotation.access import new_link
from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.server import create_app
from fundusnet.annotation.storage import Storage
from fundusnet.annotation.study import Study
from fundusnet.data.sources import load_source

FINDINGS = ("drusen", "hemorrhage", "rnfl_defect")
WIDTH, HEIGHT = 120, 100


def photograph(disc: str = "right", seed: int = 0) -> np.ndarray:
    """uint8 BGR ``(HEIGHT, WIDTH, 3)``: a reddish, blotchy field with a bright disc on one side."""
    blotches = np.random.default_rng(seed).integers(-25, 25, (6, 7, 1)).astype(np.float32)
    ground = np.array((40, 60, 130)) + cv2.resize(blotches, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None]
    field = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (60, 50), 46, 1, -1)
    picture = np.ascontiguousarray((ground * field[..., None]).clip(0, 255).astype(np.uint8))
    cv2.circle(picture, (60 + (22 if disc == "right" else -22), 50), 6, (150, 200, 240), -1)
    return picture


def write_photographs(folder: Path, names: Sequence[str] = "abcd") -> Path:
    """A folder of PNG photographs, right and left eyes in turns."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        cv2.imwrite(str(folder / f"{name}.png"), photograph(("right", "left")[place % 2], place))
    return folder


def url_of(folder: Path) -> str:
    """The database of the study in ``folder``; the fixture ``database`` may replace this."""
    return f"sqlite:///{folder / 'study.sqlite'}"


def open_study(
    folder: Path,
    readers: Sequence[str] | Mapping[str, Sequence[str]] = (),
    adjudicators: Sequence[str] = (),
    *,
    images: Sequence[str] = "abcd",
    source: str = "folder",
    seed: int = 0,
    readings: int = 3,
    **more: Any,
) -> Study:
    """A study of ``folder/photographs``, drawn where they are missing; ``more`` are arguments of ``Study``."""
    root = folder / "photographs"
    if not root.exists():
        write_photographs(root, images)
    study = Study(
        Storage(url_of(folder)),
        Photographs(root, folder / "screen"),
        FINDINGS,
        readings_per_image=readings,
        **more,
    )
    study.begin(load_source(source, root), seed)
    study.enrol(readers, adjudicators)
    return study


def answer(version: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished answer with one finding, or with ``changes``."""
    body: dict[str, Any] = {
        "version": version,
        "change": str(uuid4()),
        "state": "done",
        "findings": {},
        "normal": False,
        "ungradable": None,
        "comment": "",
        "disc": [80.0, 50.0],
        "fovea": [45.0, 52.0],
        "disc_origin": "placed",
        "fovea_origin": "placed",
        "seconds": 1.5,
    }
    body |= changes
    if not body["findings"] and "normal" not in changes and body["state"] == "done":
        body["findings"] = {"drusen": ["macula"]}
    return body


def client_of(study: Study, *, links: bool = False, **more: Any) -> TestClient:
    """A browser at the study's server, which runs in this process."""
    return TestClient(create_app(study, links=links, **more), base_url="http://127.0.0.1:8765")


def link_of(study: Study, name: str) -> str:
    """A token that signs ``name`` in once."""
    with study.storage.write() as connection:
        return new_link(connection, next(person.id for person in study.people() if person.name == name))


class Page:
    """What the page in the browser does: keeps the cookie, repeats the token."""

    def __init__(self, client: TestClient, link: str | None = None) -> None:
        self.client = client
        if link is not None:
            assert client.get(f"/join/{link}", follow_redirects=False).status_code == 303
        self.session: dict[str, Any] = client.get("/api/session").json()

    def get(self, address: str, **more: Any) -> Any:
        return self.client.get(address, **more)

    def put(self, image_id: str, body: dict[str, Any], address: str = "/api/images/{}/answer") -> Any:
        return self.client.put(address.format(image_id), json=body, headers={"X-CSRF-Token": self.session["csrf"]})
