"""Processes beside this one that read or draw photographs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

import cv2

from fundusnet.errors import UserError
from fundusnet.orphans import die_with_parent


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes, each with one thread of OpenCV, that end with this process however it ends.

    Raises
    ------
    UserError: a worker died.
    """
    # spawn: forking a process that already runs threads (OpenCV's, torch's) can lock up.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, perhaps for want of memory; run the same command again with fewer workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends the pool in order
    cv2.setNumThreads(1)
