"""Arrays in ``.npy`` files that are written and read a few rows at a time.

They use plain reads rather than a memory map, whose pages would all count as memory of this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fundusnet.system.progress import track

_PIECE = 1 << 24  # bytes


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write the header of an array of this ``shape``; its rows follow."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array in a file; leaves the file at the first row."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def concatenate(files: Sequence[Path], target: Path) -> None:
    """Write the rows of all ``files`` in order as one array."""
    count, pieces = 0, 0
    for file in files:
        with file.open("rb") as stream:
            shape, dtype = read_header(stream)
            count += shape[0]
            pieces += -(-(file.stat().st_size - stream.tell()) // _PIECE)
    with target.open("wb") as out:
        write_header(out, (count, *shape[1:]), dtype)
        for piece in track(_pieces(files), f"merging {target.name}", total=pieces):
            out.write(piece)


def _pieces(files: Sequence[Path]) -> Iterator[bytes]:
    for file in files:
        with file.open("rb") as stream:
            read_header(stream)
            while piece := stream.read(_PIECE):
                yield piece
