"""What every benchmark shares: calls timed in turn, and the figure that comes of it."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

Clock = Callable[[], float]
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What was measured.
        against: The rival or the limit.
        value: The median; a ratio, unless ``unit`` says otherwise.
        low: First quartile; equal to ``value`` if it was measured once.
        high: Third quartile.
        goal: What ``value`` should reach; None = for information.
        limit: Whether the goal is the most that ``value`` may be, not the least.
        unit: Written after the numbers.
        detail: The measurements behind the ratio, for people.
        miss: Why the goal is missed, where it is.
    """

    what: str
    against: str
    value: float
    low: float
    high: float
    goal: float | None = None
    limit: bool = False
    unit: str = "×"
    detail: str = ""
    miss: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.limit else self.value >= self.goal


def alternate(calls: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.process_time) -> Seconds:
    """Seconds of each call in every round, after one that does not count.

    Each round makes all calls, every second one in reverse order, so that other load affects all of them alike.
    Processor time, unless the clock says otherwise: other programs lengthen wall-clock time.
    """
    taken: Seconds = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in list(calls.items())[:: 1 if number % 2 else -1]:
            start = clock()
            call()
            if number:
                taken[name].append(clock() - start)
    return taken


def ratio(what: str, against: str, ours: Iterable[float], theirs: Iterable[float], **more: object) -> Figure:
    """How many times as long as ``ours`` ``theirs`` take, by round; ``more`` are fields of ``Figure``."""
    ours, theirs = list(ours), list(theirs)
    each = [b / a for a, b in zip(ours, theirs, strict=True)]
    seconds = f"{_short(statistics.median(ours))} against {_short(statistics.median(theirs))}"
    return of_rounds(what, against, each, **{"detail": seconds, **more})


def of_rounds(what: str, against: str, values: list[float], **more: object) -> Figure:
    """The median and the quartiles of values of several rounds."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values
    return Figure(what, against, middle, low, high, **more)  # type: ignore[arg-type]


def once(what: str, against: str, value: float, **more: object) -> Figure:
    """A value that was measured once."""
    return Figure(what, against, value, value, value, **more)  # type: ignore[arg-type]


def children_time() -> float:
    """Processor seconds of this process's finished children."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def peak_mib() -> float:
    """Peak memory of this process; not ``ru_maxrss``, which a process inherits from its parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class PeakMemory:
    """The most memory that this process holds itself meanwhile, MiB: without the pages of files that it has mapped.

    Read every 10 ms and at the end, so that what is held for less may be missed.
    """

    mib = 0.0

    def __enter__(self) -> Self:
        self._done = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._done.wait(0.01)
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            self.mib = max(self.mib, int(status.split("RssAnon:")[1].split()[0]) / 1024)


def in_process(module: str, *words: object, path: Path | None = None) -> dict[str, Any]:
    """The JSON that ``python -m module words…`` prints last: what must not be measured in this process.

    Args:
        module: A module of ``benchmarks``.
        words: Its arguments.
        path: A folder of modules that it imports beside the installed ones.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    paths = [str(path or ""), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return found


def show(figures: Iterator[Figure]) -> None:
    """Print figures as they come: one JSON object a line."""
    for figure in figures:
        print(json.dumps(asdict(figure)), flush=True)


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"
