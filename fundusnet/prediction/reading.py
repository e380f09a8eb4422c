"""Photographs read and decoded by worker processes ahead of the network, in order, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from fundusnet.data import dicom
from fundusnet.data.decode import Unreadable
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.picture import Picture, View, read_picture
from fundusnet.system.workers import worker_pool


@dataclass(frozen=True)
class Read:
    """What became of a photograph: its ``picture``, or None and the ``reason``."""

    entry: Entry
    picture: Picture | None
    reason: str = ""


def read_ahead(
    entries: Sequence[Entry], root: Path, views: Sequence[View], workers: int, ahead: int
) -> Generator[Read, None, None]:
    """Read ``entries`` below ``root``, in order; never more than ``ahead`` pictures wait in memory.

    Args:
        workers: processes beside this one; 0 works in this one.

    Raises:
        UserError: a worker died.
    """
    work = partial(_read, root=root, views=views)
    workers = min(workers, len(entries) // 2)  # a process takes longer to start than a photograph to read
    if workers <= 0:
        yield from map(work, entries)
        return
    with worker_pool(workers) as pool:
        yield from _in_order(pool, work, entries, max(ahead, 2 * workers))


def _in_order(pool: ProcessPoolExecutor, work: partial[Read], entries: Iterable[Entry], ahead: int) -> Iterator[Read]:
    queue = iter(entries)
    running: deque[Future[Read]] = deque(pool.submit(work, entry) for entry in islice(queue, ahead))
    while running:
        done = running.popleft().result()
        for entry in islice(queue, 1):
            running.append(pool.submit(work, entry))
        yield done


def _read(entry: Entry, root: Path, views: Sequence[View]) -> Read:
    file = root / entry.path
    try:
        picture = read_picture(file, views)
    except Unreadable as error:
        return Read(entry, None, str(error))
    if dicom.looks_like_dicom(file):
        patient_id, eye = dicom.patient_and_eye(file)
        entry = replace(entry, patient_id=entry.patient_id or patient_id, eye=entry.eye or eye)
    return Read(entry, picture)
