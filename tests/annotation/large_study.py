"""Studies of tens of thousands of photographs: made within minutes, and timed as the page uses them."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import httpx2
import numpy as np
import sqlalchemy as sa
from running import Server
from studies import answer

from fundusnet.annotation.storage import Storage
from fundusnet.annotation.tables import answers, assignments
from fundusnet.annotation.tallies import recount, recount_progress
from fundusnet.data.regions import REGIONS

FINDINGS = {"drusen": 0.2, "hemorrhage": 0.1, "hard_exudate": 0.05}
"""How often each is marked."""
GOALS = {"restart": 5.0, "overview": 0.3, "case": 0.3, "next image": 0.1}
"""Seconds, less than which each takes with 100,000 photographs and three readings of each."""


def draw_photographs(folder: Path, count: int, per_folder: int = 1000) -> list[str]:
    """Write tiny photographs, each different; returns their paths below ``folder``."""
    rng = np.random.default_rng(0)
    field = cv2.circle(np.zeros((64, 64), np.uint8), (32, 32), 30, 1, -1)[..., None]
    paths = []
    for number in range(count):
        paths.append(f"{number // per_folder:03d}/{number:06d}.jpg")
        (folder / paths[-1]).parent.mkdir(parents=True, exist_ok=True)
        picture = cv2.resize(rng.integers(40, 120, (6, 6, 3), dtype=np.uint8), (64, 64))
        cv2.circle(picture, (32 + (12 if number % 2 else -12), 32), 5, (180, 220, 250), -1)
        cv2.imwrite(str(folder / paths[-1]), picture * field)
    return paths


def random_answer(chance: random.Random, version: int = 0) -> dict[str, Any]:
    """What a reader sends: often normal, sometimes with findings, now and then ungradable."""
    body: dict[str, Any] = {"disc": [44.0, 32.0], "fovea": [20.0, 34.0], "seconds": round(chance.uniform(5, 60), 1)}
    if chance.random() < 0.03:
        return answer(version, **body, state="ungradable", ungradable="blurred")
    marked = {
        name: chance.sample(list(REGIONS.values()), chance.randint(1, 3))
        for name, share in FINDINGS.items()
        if chance.random() < share
    }
    return answer(version, **body, findings=marked, normal=not marked)


def answer_directly(storage: Storage, given: Iterable[tuple[int, str]], chance: random.Random) -> list[dict[str, Any]]:
    """Store a first answer to each (annotator id, image id) as ``save_answer`` would, all in one transaction."""
    rows = []
    for annotator_id, image_id in given:
        body = random_answer(chance)
        key = {"annotator_id": annotator_id, "image_id": image_id, "version": 1, "saved": time.time()}
        content = {name: value for name, value in body.items() if name not in ("version", "change", "state", "seconds")}
        rows.append(key | {name: body[name] for name in ("change", "state", "seconds")} | {"content": content})
    if rows:
        with storage.write() as connection:
            connection.execute(sa.insert(answers), rows)
            here = (
                assignments.c.annotator_id == sa.bindparam("reader"),
                assignments.c.image_id == sa.bindparam("image"),
            )
            said = {name: sa.bindparam(f"new_{name}") for name in ("version", "state", "seconds")}
            connection.execute(
                sa.update(assignments).where(*here).values(said),
                [
                    {"reader": row["annotator_id"], "image": row["image_id"]}
                    | {f"new_{name}": row[name] for name in said}
                    for row in rows
                ],
            )
            recount(connection, {row["image_id"] for row in rows})
            recount_progress(connection)
    return rows


@dataclass(frozen=True)
class Took:
    """Seconds that one thing took.

    Attributes:
        wall: By the clock, which other programs slow.
        processor: Of the server's process, all threads together.
    """

    wall: float
    processor: float


def measure(server: Server, adjudicator: httpx2.Client, reader: httpx2.Client) -> dict[str, Took]:
    """How long the server takes for what pages ask for, each the median of several requests (processor: their mean)."""
    chance = random.Random(0)
    found: dict[str, Took] = {}

    def timed(name: str, times: int, work: Callable[[], object]) -> None:
        walls, before = [], processor_seconds(server)
        for _ in range(times):
            start = time.perf_counter()
            work()
            walls.append(time.perf_counter() - start)
        found[name] = Took(median(walls), (processor_seconds(server) - before) / times)

    def get(client: httpx2.Client, address: str) -> Any:
        return client.get(address).raise_for_status().json()

    timed("overview", 10, lambda: get(adjudicator, "/api/overview"))
    cases: list[dict[str, Any]] = []
    timed("list of cases", 1, lambda: cases.extend(get(adjudicator, "/api/adjudication")))
    timed("case", 30, lambda: get(adjudicator, f"/api/adjudication/{chance.choice(cases)['image_id']}"))
    queue: list[dict[str, Any]] = []
    timed("queue", 1, lambda: queue.extend(get(reader, "/api/queue")["images"]))
    timed("search in the queue", 5, lambda: get(reader, "/api/queue?search=77&limit=20"))
    own = cycle(queue)  # of a small study, fewer than are asked for
    timed("next image", 50, lambda: get(reader, f"/api/images/{next(own)['image_id']}"))
    csrf = get(reader, "/api/session")["csrf"]

    def save() -> None:
        image_id = next(own)["image_id"]
        stored = get(reader, f"/api/images/{image_id}")["answer"]
        put(reader, csrf, image_id, random_answer(chance, stored["version"])).raise_for_status()

    timed("image and save", 50, save)
    return found


def print_figures(found: Mapping[str, Took]) -> bool:
    """Print what each thing took; whether a goal was missed by the clock."""
    for name, took in found.items():
        goal = f"   goal {GOALS[name]}" if name in GOALS else ""
        print(f"{name:<20} {took.wall:7.3f} s, of the processor {took.processor:7.3f} s{goal}")
    return any(found[name].wall >= goal for name, goal in GOALS.items())


def put(client: httpx2.Client, csrf: str, image_id: str, body: Mapping[str, Any]) -> httpx2.Response:
    """Send an answer as the page does."""
    headers = {"X-CSRF-Token": csrf, "Content-Type": "application/json"}
    return client.put(f"/api/images/{image_id}/answer", content=json.dumps(body), headers=headers)


def processor_seconds(server: Server) -> float:
    """Processor time of the server so far, in steps of 10 ms."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(server: Server) -> float:
    """Memory of the server that is in use now."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
