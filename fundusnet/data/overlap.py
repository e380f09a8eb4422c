"""Photographs that occur in two prepared sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fundusnet.data.duplicates import HASH_DISTANCE, THUMBNAIL_DIFFERENCE, fingerprint, same_photograph
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
    hashes, thumbnails = _fingerprints(known, known_rows)
    found = []
    for row, number, thumbnail in zip(rows, *_fingerprints(new, rows), strict=True):
        close = np.flatnonzero(np.bitwise_count(hashes ^ number) <= HASH_DISTANCE)
        difference = np.abs(thumbnails[close] - thumbnail).mean(axis=(1, 2))
        picture = np.asarray(new.pixels[row])
        if str(new.manifest.images["image_id"].iloc[row]) in ids or any(
            each < THUMBNAIL_DIFFERENCE and same_photograph(picture, np.asarray(known.pixels[known_rows[place]]), each)
            for place, each in zip(close, difference.tolist(), strict=True)
        ):
            found.append(row)
    return np.array(found, dtype=np.int64)


def _fingerprints(prepared: PreparedSet, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    found = [fingerprint(np.asarray(prepared.pixels[row])) for row in track(rows, "compare photographs")]
    hashes = np.array([one for one, _ in found], dtype=np.uint64)
    return hashes, np.array([thumbnail for _, thumbnail in found], dtype=np.float32).reshape(len(rows), 32, 32)
