"""Photographs that occur in two prepared sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fundusnet.data.duplicates import HASH_DISTANCE, fingerprint, same_photograph, similar_structure
from fundusnet.data.prepared import PreparedSet
from fundusnet.system.progress import track

# Sources that publish the same photographs under the same names.
SAME_IMAGES = (frozenset(("airogs", "justraigs")),)


def seen_before(
    new: PreparedSet, rows: NDArray[np.int64], known: PreparedSet, known_rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of ``rows`` of ``new`` whose photograph is one of ``known_rows`` of ``known``.

    The rule is that of near-identical photographs within a set (``fundusnet.data.duplicates``). In sets of
    ``SAME_IMAGES`` an id is enough.
    """
    ids = set[str]()
    if {new.info.get("source"), known.info.get("source")} in SAME_IMAGES:
        ids = set(known.manifest.images["image_id"].iloc[known_rows])
    hashes, structures = _fingerprints(known, known_rows)
    found = []
    for row, number, structure in zip(rows, *_fingerprints(new, rows), strict=True):
        close = np.flatnonzero(np.bitwise_count(hashes ^ number) <= HASH_DISTANCE)
        close = close[similar_structure(structure, structures[close])]
        picture = np.asarray(new.pixels[row])
        if str(new.manifest.images["image_id"].iloc[row]) in ids or any(
            same_photograph(picture, np.asarray(known.pixels[known_row])) for known_row in known_rows[close]
        ):
            found.append(row)
    return np.array(found, dtype=np.int64)


def _fingerprints(prepared: PreparedSet, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.float16]]:
    found = [fingerprint(np.asarray(prepared.pixels[row])) for row in track(rows, "compare photographs")]
    hashes = np.array([one for one, _ in found], dtype=np.uint64)
    return hashes, np.array([structure for _, structure in found], dtype=np.float16).reshape(len(rows), -1)
