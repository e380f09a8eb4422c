"""Reads and prepares photographs in worker processes ahead of the network, in order, a few at a time."""

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
from fundusnet.prediction.preparation import InputSpec, PreparedPhotograph, prepare_photograph
from fundusnet.system.workers import worker_pool


@dataclass(frozen=True)
class ReadResult:
    """A prepared photograph, or the reason why it cannot be read.

    Attributes:
        entry: The photograph; patient and eye are filled in from a DICOM header.
        picture: None if the photograph cannot be read.
        reason: Empty if it can.
    """

    entry: Entry
    picture: PreparedPhotograph | None
    reason: str = ""


def prefetch(
    entries: Sequence[Entry], root: Path, specs: Sequence[InputSpec], workers: int, ahead: int
) -> Generator[ReadResult, None, None]:
    """Read ``entries`` in order, with at most ``ahead`` of them waiting in memory.

    Args:
        entries: The photographs.
        root: Folder that their paths are relative to.
        specs: What each network expects of a photograph.
        workers: Worker processes; 0 reads in this process.
        ahead: Photographs to hold in memory.

    Raises:
        UserError: A worker process died.
    """
    read = partial(_read, root=root, specs=specs)
    workers = min(workers, len(entries) // 2)  # a process takes longer to start than a photograph to read
    if workers <= 0:
        yield from map(read, entries)
        return
    with worker_pool(workers) as pool:
        yield from _in_order(pool, read, entries, max(ahead, 2 * workers))


def _in_order(
    pool: ProcessPoolExecutor, read: partial[ReadResult], entries: Iterable[Entry], ahead: int
) -> Iterator[ReadResult]:
    queue = iter(entries)
    running: deque[Future[ReadResult]] = deque(pool.submit(read, entry) for entry in islice(queue, ahead))
    while running:
        result = running.popleft().result()
        for entry in islice(queue, 1):
            running.append(pool.submit(read, entry))
        yield result


def _read(entry: Entry, root: Path, specs: Sequence[InputSpec]) -> ReadResult:
    file = root / entry.path
    try:
        picture = prepare_photograph(file, specs, entry.points)
    except Unreadable as error:
        return ReadResult(entry, None, str(error))
    if dicom.looks_like_dicom(file):
        patient_id, eye = dicom.patient_and_eye(file)
        entry = replace(entry, patient_id=entry.patient_id or patient_id, eye=entry.eye or eye)
    return ReadResult(entry, picture)
