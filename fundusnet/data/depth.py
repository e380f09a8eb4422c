"""Grey levels of more than eight bits, as cameras store them, in eight."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def to_eight_bits(values: npt.NDArray[Any], bits: int = 16) -> tuple[npt.NDArray[np.uint8], bool]:
    """The upper eight of the bits in use, and whether these are fewer than the 16 that the file offers.

    Cameras store 10, 12 or 14 bits in files of 16, of which the upper ones are then zero.

    Args:
        values: Unsigned integers of any shape.
        bits: Bits that the file says are stored; fewer than 16 are taken as they are.
    """
    highest = int(values.max(initial=0))
    used = next((each for each in (8, 10, 12, 14) if highest < 2**each), 16) if bits == 16 else bits
    return np.minimum(values >> max(used - 8, 0), 255).astype(np.uint8), used < bits
