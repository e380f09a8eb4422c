"""Photographs read and decoded by worker processes ahead of the network, in order, a few at a time."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import cv2

from fundusnet.data import dicom
from fundusnet.data.decode import Unreadable
from fundusnet.errors import UserError
from fundusnet.orphans import die_with_parent
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.picture import Picture, View, read_picture


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

    Parameters
    ----------
    workers: processes beside this one; 0 works in this one.

    Raises
    ------
    UserError: a worker died.
    """
    work = partial(_read, root=root, views=views)
    workers = min(workers, len(entries) // 2)  # a process takes longer to start than a photograph to read
    if workers <= 0:
        yield from map(work, entries)
        return
    # spawn: forking a process that already runs torch's threads can lock up.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield from _in_order(pool, work, entries, max(ahead, 2 * workers))
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps for want of memory: run the same command with fewer workers, it resumes"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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


def _begin() -> None:
    """A worker ends with this process, however that ends, and leaves Ctrl-C to it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
