"""A study from its first day to its last: readers join and leave, photographs move, the machine fails again and again.

Most answers are written into the database while the server is down (``large_study.answer_directly``), since a server
takes hours for them; the others are sent by simulated pages, which keep what is not acknowledged and send it again, as
the real page does. Each round ends with ``kill -9`` in the middle of such a burst.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
from large_study import Took, answer_directly, draw_photographs, megabytes, processor_seconds, put, random_answer
from running import Server

from fundusnet.annotation.storage import Storage
from fundusnet.annotation.tables import annotators, answers, assignments, images
from fundusnet.annotation.tallies import ANSWERED

GENERAL, SPECIAL, TEST = 27, 25, 0.1
"""Readers of the training set, readers of the test set, and the share of photographs in it."""
READINGS, THREADS = 3, 6
GROUPS = "groups={general:{splits:[train,val]},specialists:{splits:[test]}}"


@dataclass
class Person:
    """A reader and the page in the reader's browser.

    Attributes:
        name: Of the reader.
        page: Keeps the cookie.
        unsent: Image → what the page has sent and heard nothing of.
    """

    name: str
    page: httpx2.Client
    unsent: dict[str, dict[str, Any]] = field(default_factory=dict)


class SimulatedStudy:
    """The life of one study, see ``live``.

    Args:
        folder: For photographs and study.
        photographs: How many.
        clicks: Answers that pages send in each round.
        rounds: Starts of the server, each of which but the last ends with a kill.

    Attributes:
        server: The real one, running after ``live``.
        people: Name → person, also those who left.
        adjudicator: The page of an adjudicator.
        acknowledged: (reader, image, version) → change, of all answers that are stored for sure.
        restarts: What each start took, until a page is answered.
        memory: Of the server at the end of each round, in megabytes.
    """

    def __init__(self, folder: Path, photographs: int, clicks: int, rounds: int = 21, seed: int = 0) -> None:
        self.folder, self.clicks, self.rounds = folder, clicks, rounds
        self.chance = random.Random(seed)
        self.people: dict[str, Person] = {}
        self.acknowledged: dict[tuple[str, str, int], str] = {}
        self.restarts: list[Took] = []
        self.memory: list[float] = []
        self._lock = threading.Lock()
        self._heard = threading.Semaphore(0)
        self._groups = {"general": _names("general", GENERAL), "specialists": _names("special", SPECIAL)}
        self._begin(draw_photographs(folder / "photographs", photographs, max(10, photographs // 60)))

    def live(self, say: Callable[[str], object] = print) -> None:
        """Run all rounds, and let everybody finish in the last one."""
        while_down, while_served = self._changes()
        for number in range(self.rounds):
            while_down.get(number, _nothing)()
            self.start()
            while_served.get(number, _nothing)()
            self._resend()
            last = number == self.rounds - 1
            self._burst(kill=not last)
            if not last:
                self._answer_directly(1 / (self.rounds - 1 - number))
            say(
                f"round {number + 1:2d}: start {self.restarts[-1].wall:5.1f} s, of the processor "
                f"{self.restarts[-1].processor:5.1f} s; {len(self.acknowledged)} answers; {self.memory[-1]:.0f} MB"
            )

    # What happens

    def _changes(self) -> tuple[dict[int, Callable[[], object]], dict[int, Callable[[], object]]]:
        """Round → what happens before its start, and round → what happens while it is served.

        People change in the first half. Later, those who stay have read more than an even share would be.
        """
        half = self.rounds // 2
        while_down = {
            2: lambda: self._move_folders(0.3),
            half - 3: self._replace_people,
            half - 1: lambda: self._take_away(0.02),
            half + 1: self._bring_back,
            half + 3: lambda: self._move_folders(0.5),
        }
        while_served = {
            1: lambda: self._change_people(join={"general": ["newcomer1"]}),
            2: lambda: self._change_people(leave=["general03", "special07"]),
            half - 4: lambda: self._change_people(join={"specialists": ["newcomer2"]}, leave=["general11"]),
        }
        return while_down, while_served

    def _begin(self, paths: list[str]) -> None:
        self._hidden: list[dict[str, str]] = []
        self._table = [
            {"image_id": Path(path).stem, "path": path, "split": "test" if self.chance.random() < TEST else "train"}
            for path in paths
        ]
        self._write_table()
        self._words = ["data=csv", "data.root=photographs", "folder=study"]
        first = [GROUPS, "adjudicators=[ada]", f"annotators={_described(self._groups)}"]
        self.server = Server(*self._words, *first, folder=self.folder)
        self.server.words = tuple(self._words)
        self._port = self.server.port
        for name, link in self.server.links.items():
            self._sign_in(name, link)
        self.adjudicator = self.people.pop("ada").page
        self.server.kill()
        self._storage = Storage(f"sqlite:///{self.folder / 'study' / 'study.sqlite'}")

    def _write_table(self) -> None:
        with (self.folder / "photographs" / "images.csv").open("w", newline="") as stream:
            table = csv.DictWriter(stream, ["image_id", "path", "split"])
            table.writeheader()
            table.writerows(self._table)

    def _move_folders(self, share: float) -> None:
        """Move some of the folders, and rename their photographs, also in the table."""
        folders = sorted({str(Path(row["path"]).parent) for row in self._table})
        chosen = set(self.chance.sample(folders, round(share * len(folders))))
        for row in self._table:
            old = Path(row["path"])
            if str(old.parent) not in chosen:
                continue
            new = Path("moved", f"{len(self.restarts)}", old.parent.name, f"eye{old.name}")
            (self.folder / "photographs" / new).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / "photographs" / old).rename(self.folder / "photographs" / new)
            row |= {"path": str(new), "image_id": new.stem}
        self._write_table()

    def _take_away(self, share: float) -> None:
        """Take photographs away for a while."""
        self._hidden = self.chance.sample(self._table, round(share * len(self._table)))
        gone = {row["path"] for row in self._hidden}
        self._table = [row for row in self._table if row["path"] not in gone]
        self._write_table()

    def _bring_back(self) -> None:
        self._table += self._hidden
        self._write_table()

    def _change_people(self, join: dict[str, list[str]] | None = None, leave: list[str] | None = None) -> None:
        """While the study is served, by a command of its own."""
        more = [f"join={_described(join)}"] if join else []
        more += [f"leave=[{','.join(leave)}]"] if leave else []
        words = [sys.executable, "-m", "fundusnet", "annotate", *self._words, *more]
        printed = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=True).stdout
        self._note_roster(join or {}, leave or [])
        for line in printed.splitlines():
            name, _, link = line.partition(": ")
            if "/join/" in link:
                self._sign_in(name, link)

    def _replace_people(self) -> None:
        """At a start with another roster: two leave, one who left is back, and one is new."""
        self._note_roster({"general": ["general03"], "specialists": ["newcomer3"]}, ["general20", "special01"])
        self.server.words = (*self._words, "adjudicators=[ada]", f"annotators={_described(self._groups)}")

    def _note_roster(self, join: dict[str, list[str]], leave: list[str]) -> None:
        for group, names in self._groups.items():
            self._groups[group] = [name for name in names if name not in leave] + join.get(group, [])

    # What the server and the readers do

    def start(self) -> None:
        """Start the server, and wait until it answers a page."""
        start = time.perf_counter()
        self.server.start(self._port)
        assert httpx2.get(f"{self.server.address}/api/session").status_code == 401
        self.restarts.append(Took(time.perf_counter() - start, processor_seconds(self.server)))
        self.server.words = tuple(self._words)
        for name, link in self.server.links.items():
            if name not in self.people and name != "ada":
                self._sign_in(name, link)

    def _sign_in(self, name: str, link: str) -> None:
        page = httpx2.Client(base_url=self.server.address, timeout=60)
        assert page.get(link).status_code == 303
        page.get("/api/session").raise_for_status()
        self.people[name] = Person(name, page)

    def _resend(self) -> None:
        """Every page sends what it heard nothing of, whoever reads these images now."""
        for person in self.people.values():
            csrf = person.page.get("/api/session").raise_for_status().json()["csrf"] if person.unsent else ""
            for image_id, body in list(person.unsent.items()):
                self._hear(person, image_id, body, put(person.page, csrf, image_id, body))

    def _hear(self, person: Person, image_id: str, body: dict[str, Any], sent: httpx2.Response) -> None:
        assert sent.status_code == 200, (person.name, image_id, sent.text)
        with self._lock:
            self.acknowledged[person.name, image_id, sent.json()["version"]] = body["change"]
        person.unsent.pop(image_id, None)
        self._heard.release()

    def _burst(self, *, kill: bool) -> None:
        """Some answers of all readers at once; with ``kill``, the server is killed before they are done."""
        names = list(chain.from_iterable(self._groups.values()))
        shares = {name: self.clicks // len(names) + (self.chance.random() < 0.5) for name in names}
        seeds = {name: self.chance.random() for name in names}
        self._heard = threading.Semaphore(0)
        with ThreadPoolExecutor(THREADS) as pool:
            done = [pool.submit(self._click, self.people[name], shares[name], seeds[name]) for name in names]
            until = self.chance.uniform(0.4, 0.8) * sum(shares.values()) if kill else float("inf")
            heard = 0
            while heard < until and not all(each.done() for each in done):
                heard += self._heard.acquire(timeout=0.1)
            self.memory.append(megabytes(self.server))
            if kill:
                self.server.kill()
        for each in done:
            each.result()

    def _click(self, person: Person, count: int, seed: float) -> None:
        """Answer images that are to do, and change an answer now and then; ends when the server does not answer."""
        chance = random.Random(seed)
        try:
            csrf = person.page.get("/api/session").raise_for_status().json()["csrf"]
            queue = person.page.get("/api/queue").raise_for_status().json()["images"]
            todo = iter([entry["image_id"] for entry in queue if entry["state"] == "todo"])
            done = [entry["image_id"] for entry in queue if entry["state"] in ANSWERED]
            for _ in range(count):
                again = done and chance.random() < 0.1
                image_id = chance.choice(done) if again else next(todo, None)
                if image_id is None:
                    return
                shown = person.page.get(f"/api/images/{image_id}").raise_for_status().json()
                body = random_answer(chance, shown["answer"]["version"])
                person.unsent[image_id] = body
                self._hear(person, image_id, body, put(person.page, csrf, image_id, body))
        except httpx2.TransportError:
            return

    def _answer_directly(self, share: float) -> None:
        """While the server is down: each reader answers about ``share`` of what is to do, some more than others."""
        with self._storage.read() as connection:
            names = {row.id: row.name for row in connection.execute(sa.select(annotators))}
            unsent = {(person.name, image_id) for person in self.people.values() for image_id in person.unsent}
            todo = sa.select(assignments.c.annotator_id, assignments.c.image_id)
            found = connection.execute(todo.where(assignments.c.shown, assignments.c.version == 0)).all()
        pace = {name: min(1.0, share * self.chance.uniform(0.7, 1.3)) if share < 1 else 1.0 for name in names.values()}
        given = [
            (reader, image_id)
            for reader, image_id in found
            if self.chance.random() < pace[names[reader]] and (names[reader], image_id) not in unsent
        ]
        for row in answer_directly(self._storage, given, self.chance):
            self.acknowledged[names[row["annotator_id"]], row["image_id"], 1] = row["change"]

    # What must be true

    def check(self) -> dict[str, float]:
        """Assert that nothing is lost or bent; returns the largest spread of shares in each group, as a fraction."""
        with self._storage.read() as connection:
            stored = {
                (name, image_id, version): change
                for name, image_id, version, change in connection.execute(
                    sa.select(annotators.c.name, answers.c.image_id, answers.c.version, answers.c.change).join(answers)
                )
            }
            assert stored == self.acknowledged, "an answer was lost, doubled or invented"
            assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"
            newest = sa.select(annotators.c.name, assignments.c.image_id, assignments.c.version).join(assignments)
            versions = {(name, image_id): version for name, image_id, version in connection.execute(newest)}
            finished = sa.select(sa.func.count()).where(
                assignments.c.image_id == images.c.image_id, assignments.c.shown, assignments.c.state.in_(ANSWERED)
            )
            read = list(connection.scalars(sa.select(finished.scalar_subquery()).select_from(images)))
            listed = connection.scalar(sa.select(sa.func.count()).select_from(images).where(images.c.listed))
        for reader, image_id, version in stored:
            assert versions[reader, image_id] >= version
        # No photograph became another one, and each has its readings.
        assert listed == len(self._table) == len(read)
        assert min(read) >= READINGS
        people = self.adjudicator.get("/api/overview").raise_for_status().json()["annotators"]
        assert sum(row["done"] for row in people) == len({key[:2] for key in stored}) == sum(read)
        spread = {}
        for group, names in self._groups.items():
            active = [row for row in people if row["active"] and row["group"] == group]
            assert {row["name"] for row in active} == set(names)
            totals = [row["total"] for row in active]
            spread[group] = (max(totals) - min(totals)) / (sum(totals) / len(totals))
        return spread


def _nothing() -> None:
    """In most rounds."""


def _names(group: str, count: int) -> list[str]:
    return [f"{group}{number:02d}" for number in range(1, count + 1)]


def _described(groups: dict[str, list[str]]) -> str:
    return "{" + ",".join(f"{group}:[{','.join(names)}]" for group, names in groups.items()) + "}"
