"""Processes beside this one that read or draw photographs."""

from __future__ import annotations

import multiprocessing
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


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes, each with one thread of OpenCV, that end with this process however it ends.

    Raises
    ------
    UserError: a worker died.
    """
    # spawn: forking a process that already runs threads (OpenCV's, torch's) can lock up.
    pool = ProcessPoolExecutor(workers, mp_context=_Spawn(), initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, perhaps for want of memory; run the same command again with fewer workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Process(SpawnProcess):
    """Imports what it works with, and does not run the caller's script again, which may have no ``if __name__``."""

    _one_at_a_time = Lock()

    def start(self) -> None:
        # What tells a new process which script its parent runs.
        script = vars(sys.modules["__main__"])
        with self._one_at_a_time:
            # A new process takes this over before it can know a method that a library added, as joblib does.
            method = multiprocessing.get_start_method(allow_none=True)
            multiprocessing.set_start_method("spawn", force=True)
            kept: dict[str, object] = {name: script[name] for name in ("__file__", "__spec__") if name in script}
            script.pop("__file__", None)
            script["__spec__"] = None
            try:
                super().start()
            finally:
                script.update(kept)
                multiprocessing.set_start_method(method, force=True)


class _Spawn(SpawnContext):
    Process = _Process


def _begin() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends the pool in order
    cv2.setNumThreads(1)
