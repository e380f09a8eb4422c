"""A study of 100,000 photographs with three readings each: how long a restart, an overview, a case and an image take.

``PYTHONPATH=tests/annotation python benchmarks/annotation_scale.py [PHOTOGRAPHS [FOLDER]]`` draws the photographs
(small ones, each different), starts a study of 52 readers, writes the answers into its database, and then uses the real
server: restarts it, lets a reader join, and times requests of an adjudicator and a reader. A second run on the same
FOLDER uses what is there.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import sqlalchemy as sa
from large_study import (
    Took,
    answer_directly,
    draw_photographs,
    measure,
    megabytes,
    print_figures,
    processor_seconds,
)
from running import Server

from fundusnet.annotation.storage import Storage
from fundusnet.annotation.tables import assignments

READERS = [f"reader{number:02d}" for number in range(52)]
WORDS = ["data.root=photographs", "folder=study"]


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(name)
        if not (folder / "study" / "study.sqlite").exists():
            fill(folder, count)
        server, ada, reader, restart = started(folder)
        try:
            found = {"restart": restart, **measure(server, ada, reader)}
            before = megabytes(server)
            start = time.perf_counter()
            _command(folder, f"join=[newcomer{time.time_ns()}]")
            print(f"{time.perf_counter() - start:.1f} s for the command that lets a reader join")
            for _ in range(5):
                measure(server, ada, reader)
            print(f"memory {before:.0f} MB, after five times as many requests {megabytes(server):.0f} MB")
        finally:
            server.kill()
    print_figures(found)
    print("load", *(f"{load:.1f}" for load in os.getloadavg()))


def fill(folder: Path, count: int) -> None:
    """Make a study of ``count`` photographs in ``folder``, with three readings of each."""
    draw_photographs(folder / "photographs", count)
    start = time.perf_counter()
    people = [f"annotators=[{','.join(READERS)}]", "adjudicators=[ada]"]
    Server(*WORDS, *people, folder=folder).kill()
    print(f"{time.perf_counter() - start:.1f} s for the first start")
    start = time.perf_counter()
    storage = Storage(f"sqlite:///{folder / 'study' / 'study.sqlite'}")
    with storage.read() as connection:
        dealt = connection.execute(sa.select(assignments.c.annotator_id, assignments.c.image_id)).all()
    answer_directly(storage, dealt, random.Random(0))
    storage.close()
    print(f"{time.perf_counter() - start:.1f} s to write {len(dealt)} answers")


def started(folder: Path) -> tuple[Server, httpx2.Client, httpx2.Client, Took]:
    """The server of that study, started again; pages of an adjudicator and a reader; what the start took."""
    start = time.perf_counter()
    server = Server(*WORDS, folder=folder)
    httpx2.get(f"{server.address}/api/session")
    took = Took(time.perf_counter() - start, processor_seconds(server))
    return server, _page(folder, server, "ada"), _page(folder, server, READERS[0]), took


def _page(folder: Path, server: Server, name: str) -> httpx2.Client:
    client = httpx2.Client(base_url=server.address, timeout=120)
    client.get(_command(folder, f"links=[{name}]").split()[1])
    return client


def _command(folder: Path, word: str) -> str:
    words = [sys.executable, "-m", "fundusnet", "annotate", *WORDS, word]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
