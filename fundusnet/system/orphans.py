"""No process outlives the one that started it: a killed training leaves nothing behind that computes or writes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
WATCH = "end-with-parent"


def die_with_parent(*_: object) -> None:
    """Have the kernel kill this process when its parent is gone (Linux; nothing elsewhere).

    Takes and ignores arguments, so that it serves as a loader's ``worker_init_fn``.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        # Gone before the call; in a container the parent itself may be number 1.
        if os.getppid() == 1 and (parent is None or parent.pid != 1):
            os.kill(os.getpid(), signal.SIGKILL)


def end_with_parent(every: float = 1.0) -> None:
    """Ask this process to end (SIGTERM) when its parent is gone; for workers that a thread of their parent started.

    There the kernel's way would end the worker with the thread.
    """
    if any(thread.name == WATCH for thread in threading.enumerate()):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()
