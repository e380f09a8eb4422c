"""A folder that one process uses at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fundusnet.errors import UserError

LINGERING = 10.0  # seconds that a killed run may take to release its folder


@contextmanager
def folder_lock(folder: Path, patience: float = LINGERING) -> Iterator[None]:
    """Lock the folder against other processes; the lock of a killed process is released.

    Raises:
        UserError: Another process still holds it after ``patience`` seconds.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UserError(f"another process uses {folder}; wait for it, or end it") from None
                time.sleep(0.2)
            except OSError:
                break  # a network file system without locks on folders
        yield
    finally:
        os.close(handle)
