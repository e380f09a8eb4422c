"""Arrays in ``.npy`` files that are written and read a few rows at a time.

With plain seeks, not through a map: pages of a map would count as this process's memory, all of them by the end.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Begin a file for an array of this ``shape``, whose rows are to follow."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array in a file; the first row comes next."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype
