"""How the C library keeps memory that was freed."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of large tensors instead of returning it to the system after each use.

    The system hands memory out page by page, zeroed; for the maps of a network on a processor that takes as long as to
    compute them: a training step of EfficientNet-Lite0 becomes 1.6 times as fast, its features of 1024 pixels twice.
    The process stays as large as it once was.

    Returns:
        Whether the C library is one that can be told so, glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 64 << 20)])
