"""Ending processes with the one that started them: a killed training leaves no process behind."""

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


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent has ended (on Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        # The parent ended before this call; in a container it may itself be process 1.
        if os.getppid() == 1 and (parent is None or parent.pid != 1):
            os.kill(os.getpid(), signal.SIGKILL)


def end_with_parent(every: float = 1.0) -> None:
    """Send this process SIGTERM when its parent has ended; for workers that a thread of the parent started.

    The kernel's way would end them with that thread.
    """
    if any(thread.name == WATCH for thread in threading.enumerate()):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()
