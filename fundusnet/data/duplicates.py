"""Near-identical photographs: the same photograph saved twice, found by its content."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from fundusnet.data.decode import Pixels
from fundusnet.data.rows import read_header, write_header
from fundusnet.system.progress import track

HASH_DISTANCE = 8
# Correlation of fine structure, not aligned, below which two photographs are not compared closely. Copies have at least
# 0.7, also badly compressed or cropped by 4 % on each side. Different eyes before one camera, of which one pair in a
# hundred has close hashes, have less in 98 % of such pairs.
SIMILAR_STRUCTURE = 0.65
# Mean absolute grey difference of two standardised thumbnails below which two photographs may be the same. Of copies
# with another contrast, or cropped by 3 % on each side, it reaches 0.45.
THUMBNAIL_DIFFERENCE = 0.5
# Correlation of fine structure, aligned, from which two photographs are the same. On real photographs, the most similar
# different eyes have 0.4. Copies have 0.95 and more; those that were compressed badly have 0.8, and thumbnails that
# differ by less than ALIKE. Two photographs of one eye can have 0.9, but their thumbnails differ more.
SAME_STRUCTURE, SAME_COMPRESSED = 0.94, 0.6
ALIKE = 0.12
_THUMBNAIL = 32
_FILES = ("hashes.npy", "structures.npy")
_FEW = 2000  # photographs, up to which all hashes are compared
_AT_ONCE = 20_000_000  # comparisons of hashes in memory
_TOGETHER = 4096  # structures in memory
_MOST_PARTS = 8  # of a hash, beyond which they are too short to tell photographs apart
_LIT = 20  # grey levels, above which a pixel is of the field
_ITERATIONS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
Mask8 = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def write_duplicates(folder: Path, image_ids: Iterable[str], distance: int) -> int:
    """Write ``duplicates.csv`` of the photographs in ``pixels.npy`` beside it.

    Args:
        image_ids: Ids of the photographs, in their order.
        distance: As in ``duplicate_groups``.

    Returns:
        The number of groups.
    """
    files = [folder / name for name in _FILES]
    _write_fingerprints(folder / "pixels.npy", *files)
    pixels, hashes, structures = (np.load(file, mmap_mode="r") for file in (folder / "pixels.npy", *files))
    groups = duplicate_groups(hashes, structures, pixels, distance)
    for file in files:
        file.unlink()
    found = [(image_id, group) for image_id, group in zip(image_ids, groups.tolist(), strict=True) if group >= 0]
    table = pd.DataFrame(found, columns=["image_id", "group"]).sort_values("group", kind="stable")
    table.to_csv(folder / "duplicates.csv", index=False)
    return int(table["group"].nunique())


def _write_fingerprints(pixels: Path, hashes: Path, structures: Path) -> None:
    """Write fingerprints to files as they come: those of a million photographs take 2 GB."""
    numbers = []
    with pixels.open("rb") as stream, structures.open("wb") as out:
        shape, dtype = read_header(stream)
        write_header(out, (shape[0], _THUMBNAIL**2), np.dtype(np.float16))
        for _ in track(range(shape[0]), "looking for duplicates"):
            picture = np.frombuffer(stream.read(math.prod(shape[1:])), dtype=dtype).reshape(shape[1:])
            number, structure = fingerprint(picture)
            numbers.append(number)
            out.write(structure.tobytes())
    np.save(hashes, np.array(numbers, dtype=np.uint64))


def fingerprint(picture: Pixels) -> tuple[int, npt.NDArray[np.float16]]:
    """A 64-bit perceptual hash and the fine structure ``(1024,)``, of length 1, of a prepared picture ``(S, S, 3)``.

    The hash is the sign of the 64 lowest cosine coefficients against their median. All fundus photographs share a
    disc on black, so hashes of different eyes are close: the structure tells most of them apart.
    """
    low = cv2.dct(_thumbnail(picture))[:8, :8].ravel()
    bits = low > np.median(low)
    detail, lit = _structure(picture, 2 * _THUMBNAIL, 1.0, 3.0)
    inside = cv2.erode(lit, np.ones((5, 5)), borderValue=0)  # eyes before one camera share the border of the field
    structure = cv2.resize(detail * inside, (_THUMBNAIL,) * 2, interpolation=cv2.INTER_AREA).ravel()
    structure = structure - structure.mean()
    structure = structure / max(float(np.linalg.norm(structure)), 1e-6)
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), structure.astype(np.float16)


def _thumbnail(picture: Pixels) -> Grey:
    """Green without its wide blur, ``(32, 32)``, of mean 0 and standard deviation 1."""
    # The green channel shows vessels and lesions best; subtracting a wide blur removes the shared disc shape.
    green = cv2.resize(picture[:, :, 1], (4 * _THUMBNAIL, 4 * _THUMBNAIL), interpolation=cv2.INTER_AREA)
    detail = green.astype(np.float32)
    detail -= cv2.GaussianBlur(detail, (0, 0), _THUMBNAIL / 2)
    thumbnail = cv2.resize(detail, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray((thumbnail - thumbnail.mean()) / max(float(thumbnail.std()), 1e-6), dtype=np.float32)


def duplicate_groups(
    hashes: npt.NDArray[np.uint64],
    structures: npt.NDArray[np.float16],
    pixels: Pixels,
    distance: int = HASH_DISTANCE,
) -> Rows:
    """Group of each photograph, -1 if it is alone; groups are numbered by their first member.

    Two photographs are the same if their hashes differ in at most ``distance`` bits, their structures are similar and
    ``same_photograph`` confirms it. A group is a connected component of such pairs.

    Args:
        hashes: ``(N,)``, of ``fingerprint``.
        structures: ``(N, 1024)``, of ``fingerprint``.
        pixels: The photographs ``(N, S, S, 3)``.
        distance: Bits, 0 to 64.
    """
    similar: list[tuple[int, int]] = []
    for ones, others in close_hashes(hashes, distance):
        for at in range(0, len(ones), _TOGETHER):
            one, other = ones[at : at + _TOGETHER], others[at : at + _TOGETHER]
            kept = similar_structure(structures[one], structures[other])
            similar += zip(one[kept].tolist(), other[kept].tolist(), strict=True)
    compared = track(similar, "comparing similar photographs", total=len(similar))
    pairs = [(one, other) for one, other in compared if same_photograph(pixels[one], pixels[other])]
    component = connected(len(hashes), pairs)
    groups = np.full(len(hashes), -1, dtype=np.int64)
    shared = np.bincount(component)[component] > 1
    groups[shared] = np.unique(component[shared], return_inverse=True)[1]  # a component is its first member
    return groups


def similar_structure(one: npt.NDArray[np.float16], other: npt.NDArray[np.float16]) -> npt.NDArray[np.bool_]:
    """Which pairs of structures ``(…, 1024)`` deserve a close comparison of their photographs, ``(…)``."""
    return np.asarray(np.einsum("...i,...i", one.astype(np.float32), other.astype(np.float32)) >= SIMILAR_STRUCTURE)


def close_hashes(hashes: npt.NDArray[np.uint64], distance: int) -> Iterator[tuple[Rows, Rows]]:
    """All pairs of photographs whose hashes differ in at most ``distance`` bits, each once, the earlier one first.

    Of ``distance // 2 + 1`` parts of a hash, one differs in at most one bit (Norouzi et al. 2012). So only hashes are
    compared that agree in a part but for a bit: a million photographs take minutes, not hours.
    """
    count, parts = len(hashes), distance // 2 + 1
    if count < _FEW or parts > _MOST_PARTS:
        for first in range(count - 1):
            close = np.flatnonzero(np.bitwise_count(hashes[first + 1 :] ^ hashes[first]) <= distance) + first + 1
            yield np.full(len(close), first), close
        return
    searched: list[np.uint64] = []  # parts, as masks
    ends = np.linspace(0, 64, parts + 1).astype(int)
    for low, high in pairwise(ends.tolist()):
        part = np.uint64(((1 << (high - low)) - 1) << low)
        value = ((hashes & part) >> np.uint64(low)).astype(np.int64)
        order = np.argsort(value, kind="stable")
        keys, starts = np.unique(value[order], return_index=True)
        bucket = dict(zip(keys.tolist(), np.split(order, starts[1:]), strict=True))
        for key, members in bucket.items():
            # A neighbour with a smaller key has met these already.
            near = [bucket[other] for bit in range(high - low) if (other := key ^ (1 << bit)) > key and other in bucket]
            others = np.concatenate([members, *near])
            for block in np.array_split(np.arange(len(members)), -(-len(members) * len(others) // _AT_ONCE)):
                differ = hashes[members[block]][:, None] ^ hashes[others][None]
                place, other_place = np.nonzero(np.bitwise_count(differ) <= distance)
                # Each member meets each of its own bucket twice, and in a part searched before it met those again.
                new = block[place] < other_place
                for mask in searched:
                    new &= np.bitwise_count(differ[place, other_place] & mask) > 1
                pairs = np.stack([members[block[place[new]]], others[other_place[new]]])
                yield pairs.min(axis=0), pairs.max(axis=0)
        searched.append(part)


def same_photograph(one: Pixels, other: Pixels) -> bool:
    """Whether two prepared pictures ``(S, S, 3)`` are one photograph."""
    difference = float(np.abs(_thumbnail(one) - _thumbnail(other)).mean())
    if difference >= THUMBNAIL_DIFFERENCE:
        return False
    return common_structure(one, other) >= (SAME_COMPRESSED if difference < ALIKE else SAME_STRUCTURE)


def common_structure(one: Pixels, other: Pixels) -> float:
    """How much two prepared pictures show the same vessels, lesions and grain at the same places, -1 to 1.

    Both are filtered to a band of fine structure, aligned by an affine map (Evangelidis and Psarakis 2008, from coarse
    to fine) and correlated where both show a field. Different eyes share the disc on black and the fall of light, which
    a hash sees, and no structure.
    """
    warp = np.eye(2, 3, dtype=np.float32)
    for side, low, high in ((64, 1.5, 8.0), (128, 1.2, 6.0)):
        (first, _), (second, _) = (_structure(each, side, low, high) for each in (one, other))
        warp[:, 2] *= side
        try:
            found = cv2.findTransformECC(first, second, warp, cv2.MOTION_AFFINE, _ITERATIONS, None, 1)  # type: ignore[call-overload]
            warp = found[1]
        except cv2.error:  # it does not converge: nothing in common
            return 0.0
        warp[:, 2] /= side
    side = 256
    (first, lit), (second, lit_too) = (_structure(each, side, 2.0, 6.0) for each in (one, other))
    warp[:, 2] *= side
    back = cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, warp, (side, side), flags=cv2.INTER_LINEAR | back)
    both = (lit > 0) & (cv2.warpAffine(lit_too, warp, (side, side), flags=cv2.INTER_NEAREST | back) > 0)
    if both.sum() < min(lit.sum(), lit_too.sum()) / 4:
        return 0.0
    return float(np.nan_to_num(np.corrcoef(first[both], moved[both])[0, 1]))


def _structure(picture: Pixels, side: int, low: float, high: float) -> tuple[npt.NDArray[np.float32], Mask8]:
    """Green between two blurs, at unit local contrast, ``(side, side)``; and the field without its border, 0 or 1."""
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    lit = cv2.erode((small.max(axis=2) > _LIT).astype(np.uint8), np.ones((side // 16 + 1,) * 2), borderValue=0)
    green, field = small[:, :, 1].astype(np.float32), lit.astype(np.float32)
    weight = cv2.GaussianBlur(field, (0, 0), high) + 1e-3
    detail = cv2.GaussianBlur(green, (0, 0), low) - cv2.GaussianBlur(green * field, (0, 0), high) / weight
    contrast = np.sqrt(cv2.GaussianBlur(detail**2 * field, (0, 0), 2 * high) / weight) + 1
    return np.asarray(detail / contrast * field, dtype=np.float32), np.asarray(lit, dtype=np.uint8)


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Union-find: the smallest member of each item's component, for items 0 … count - 1 joined by ``pairs``."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(item) for item in range(count)], dtype=np.int64)
