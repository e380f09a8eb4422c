"""A study of 100,000 photographs with three readings each: how long a restart, an overview, a case and an image take.

``python benchmarks/annotation_scale.py [PHOTOGRAPHS [FOLDER]]`` draws the photographs (small ones, each different),
starts a study of 52 readers, writes the answers into its database, and then uses the real server: restarts it, lets a
reader join, and times requests of an adjudicator and a reader. A second run on the same FOLDER uses what is there.
Exits with status 1 if a goal of ``GOALS`` is missed.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from uuid import UUID, uuid4

import cv2
import httpx2
import numpy as np
import sqlalchemy as sa

from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.storage import Storage, forget_setting
from fundusnet.annotation.study import Study
from fundusnet.annotation.tables import answers, assignments
from fundusnet.annotation.tallies import recount_all
from fundusnet.data.regions import REGIONS
from fundusnet.data.sources import load_source

READERS = [f"reader{number:02d}" for number in range(52)]
FINDINGS = ["drusen", "hemorrhage", "hard_exudate"]
GOALS = {"restart": 5.0, "overview": 0.3, "case": 0.3, "next image": 0.1}  # seconds


def main() -> int:
    """Measure and print; 0 if all goals are met."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(name)
        if not (folder / "study" / "study.sqlite").exists():
            _fill(folder, count)
        found = _measure(folder)
    missed = [name for name, goal in GOALS.items() if found[name] >= goal]
    for name, seconds in found.items():
        print(f"{name:<28} {seconds:8.3f}" + (f"   goal {GOALS[name]}" if name in GOALS else ""))
    return int(bool(missed))


def _fill(folder: Path, count: int) -> None:
    start = time.perf_counter()
    _draw(folder / "photographs", count)
    print(f"{time.perf_counter() - start:8.1f} s to draw {count} photographs")
    start = time.perf_counter()
    (folder / "study").mkdir()
    storage = Storage(f"sqlite:///{folder / 'study' / 'study.sqlite'}")
    study = Study(storage, Photographs(folder / "photographs", folder / "study" / "screen"), FINDINGS)
    study.begin(load_source("folder", folder / "photographs"), 0)
    study.enrol(READERS, ["ada"])
    print(f"{time.perf_counter() - start:8.1f} s for the first start")
    start = time.perf_counter()
    chance = random.Random(0)
    with storage.write() as connection:
        dealt = connection.execute(sa.select(assignments.c.annotator_id, assignments.c.image_id)).all()
        rows = []
        for reader, image_id in dealt:
            state, content = _answer(chance)
            change = str(UUID(int=chance.getrandbits(128)))
            seconds = chance.uniform(5, 60)
            rows.append(
                {"annotator_id": reader, "image_id": image_id, "version": 1, "change": change, "state": state,
                 "content": content, "seconds": seconds, "saved": time.time()}
            )  # fmt: skip
        connection.execute(sa.insert(answers), rows)
        connection.execute(
            sa.text(
                "UPDATE assignments SET version = 1, (state, seconds) = (SELECT state, seconds FROM answers AS a WHERE "
                "a.annotator_id = assignments.annotator_id AND a.image_id = assignments.image_id)"
            )
        )
        forget_setting(connection, "tallies")
        recount_all(connection)
    storage.close()
    print(f"{time.perf_counter() - start:8.1f} s to write and add up {len(rows)} answers")


def _answer(chance: random.Random) -> tuple[str, dict[str, object]]:
    content: dict[str, object] = {
        "findings": {}, "normal": False, "ungradable": None, "comment": "", "disc": [44.0, 32.0], "fovea": [20.0, 34.0],
        "disc_origin": "placed", "fovea_origin": "placed",
    }  # fmt: skip
    if chance.random() < 0.03:
        return "ungradable", content | {"ungradable": "blurred"}
    marked = {
        name: chance.sample(list(REGIONS.values()), chance.randint(1, 3))
        for name, share in zip(FINDINGS, (0.2, 0.1, 0.05), strict=True)
        if chance.random() < share
    }
    return "done", content | {"findings": marked, "normal": not marked}


def _measure(folder: Path) -> dict[str, float]:
    words = [sys.executable, "-m", "fundusnet", "annotate", "data.root=photographs", "folder=study"]
    found: dict[str, float] = {}
    start = time.perf_counter()
    server = subprocess.Popen([*words, "port=0"], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    printed = ""
    for line in server.stdout:
        printed += line
        if line.startswith("stop with"):
            break
    found["restart"] = time.perf_counter() - start
    address = re.search(r"annotate at (\S+)/", printed)
    assert address is not None, printed
    try:
        clients = {}
        for name in ("ada", READERS[0]):
            link = subprocess.run([*words, f"links=[{name}]"], cwd=folder, capture_output=True, text=True, check=True)
            clients[name] = httpx2.Client(base_url=address[1], timeout=120)
            clients[name].get(link.stdout.split()[1])
        ada, reader = clients.values()
        found["memory before, MB"] = _megabytes(server.pid)
        found["overview"] = _seconds(lambda: ada.get("/api/overview"), 7)
        cases: list[dict[str, str]] = []
        found["list of cases"] = _seconds(lambda: cases.extend(ada.get("/api/adjudication").json()), 1)
        chance = random.Random(0)
        found["case"] = _seconds(
            lambda: ada.get(f"/api/adjudication/{chance.choice(cases)['image_id']}").raise_for_status(), 30
        )
        csrf = reader.get("/api/session").json()["csrf"]
        queue: list[dict[str, str]] = []
        found["queue"] = _seconds(lambda: queue.extend(reader.get("/api/queue").json()["images"]), 1)
        found["search in the queue"] = _seconds(lambda: reader.get("/api/queue?search=77&limit=20"), 5)
        own = iter(queue)
        found["next image"] = _seconds(
            lambda: reader.get(f"/api/images/{next(own)['image_id']}").raise_for_status(), 50
        )

        def save() -> None:
            image_id = next(own)["image_id"]
            stored = reader.get(f"/api/images/{image_id}").json()["answer"]
            change = str(uuid4())
            body = json.dumps(stored | {"change": change, "comment": "again"})
            headers = {"X-CSRF-Token": csrf, "Content-Type": "application/json"}
            sent = reader.put(f"/api/images/{image_id}/answer", content=body, headers=headers)
            assert sent.status_code == 200, sent.text

        found["image and save"] = _seconds(save, 50)
        start = time.perf_counter()
        subprocess.run([*words, f"join=[newcomer{time.time_ns()}]"], cwd=folder, check=True, capture_output=True)
        found["a reader joins, command"] = time.perf_counter() - start
        for _ in range(20):
            ada.get("/api/overview")
        found["memory after, MB"] = _megabytes(server.pid)
    finally:
        server.kill()
        server.wait()
    return found


def _seconds(work: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return median(taken)


def _megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 1e6


def _draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    field = cv2.circle(np.zeros((64, 64), np.uint8), (32, 32), 30, 1, -1)[..., None]
    for number in range(count):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        picture = cv2.resize(rng.integers(40, 120, (6, 6, 3), dtype=np.uint8), (64, 64))
        cv2.circle(picture, (32 + (12 if number % 2 else -12), 32), 5, (180, 220, 250), -1)
        cv2.imwrite(str(place / f"{number:06d}.jpg"), picture * field)


if __name__ == "__main__":
    sys.exit(main())
