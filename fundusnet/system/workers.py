"""Worker processes that read or draw photographs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock

import cv2

from fundusnet.errors import UserError
from fundusnet.system.orphans import die_with_parent

GRACE = 60
_GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes that end with this process, however it ends.

    Raises:
        UserError: A worker died.
    """
    # spawn: forking a process that already runs threads (OpenCV's, torch's) can lock up.
    pool = ProcessPoolExecutor(workers, mp_context=_Spawn(), initializer=_begin_pool_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, perhaps out of memory; run the same command again with fewer workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Process(SpawnProcess):
    """Does not run the caller's script again, which may have no ``if __name__ == "__main__"``."""

    _one_at_a_time = Lock()

    def start(self) -> None:
        # A new process is told by these which script its parent runs.
        script = vars(sys.modules["__main__"])
        with self._one_at_a_time:
            # A new process inherits this, and may not know a method that a library added, as joblib does.
            method = multiprocessing.get_start_method(allow_none=True)
            multiprocessing.set_start_method("spawn", force=True)
            kept: dict[str, object] = {name: script[name] for name in ("__file__", "__spec__") if name in script}
            script.pop("__file__", None)
            script["__spec__"] = None
            try:
                with group_signals_blocked():
                    super().start()
            finally:
                script.update(kept)
                multiprocessing.set_start_method(method, force=True)


class _Spawn(SpawnContext):
    Process = _Process


@contextmanager
def group_signals_blocked() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM, also in processes that start meanwhile, until ``begin_worker`` has its handlers.

    Otherwise a signal to the process group would end a starting worker, and the parent with an error.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker(*_: object) -> None:
    """Prepare this process to work for its parent, which decides when it ends; a loader's ``worker_init_fn``.

    Ctrl-C and SIGTERM reach the whole process group. The parent handles them, for which it may need a worker's items,
    and then ends its workers; after SIGTERM a worker lives for at most ``GRACE`` seconds more.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _GROUP_SIGNALS)


def _begin_pool_worker() -> None:
    begin_worker()
    # One process a core; libraries that are imported from here on, such as torch, start no threads of their own.
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)  # not in a forked process, where it can lock up
