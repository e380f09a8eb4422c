"""Near-identical photographs: every usual kind of copy is found, and different eyes are not confused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import tiny_prepared

from fundusnet.data.crop import crop_square, find_field
from fundusnet.data.decode import Photograph, read_photograph
from fundusnet.data.duplicates import close_hashes, duplicate_groups, fingerprint, similar_structure
from fundusnet.data.listing import photographs
from fundusnet.data.overlap import seen_before
from fundusnet.data.sources import load_source

Picture = NDArray[np.uint8]


def jpeg(picture: Picture, quality: int) -> Picture:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream))


def scaled(picture: Picture, factor: float, offset: float = 0.0) -> Picture:
    return np.clip(picture * factor + offset * (picture > 0), 0, 255).astype(np.uint8)


def cropped(picture: Picture, share: float) -> Picture:
    edge = int(share * len(picture))
    return picture[edge:-edge, edge:-edge]


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "the same": lambda picture: picture,
    "encoded again": lambda picture: jpeg(picture, 60),
    "encoded badly": lambda picture: jpeg(picture, 30),
    "half the size": lambda picture: cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),  # type: ignore[return-value]
    "cropped by 2 %": lambda picture: cropped(picture, 0.02),
    "brighter": lambda picture: scaled(picture, 1.25),
    "darker": lambda picture: scaled(picture, 0.7),
    "more contrast": lambda picture: scaled(picture, 1.3, -25),
}


def prepared(picture: Picture) -> Picture:
    photograph = Photograph(picture, picture.shape[1], picture.shape[0], 1)
    return crop_square(photograph, find_field(picture), 256)[0]


def groups(pictures: list[Picture]) -> list[int]:
    pixels = np.stack([prepared(picture) for picture in pictures])
    found = [fingerprint(picture) for picture in pixels]
    hashes = np.array([number for number, _ in found], dtype=np.uint64)
    return duplicate_groups(hashes, np.stack([structure for _, structure in found]), pixels).tolist()


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    folder = tmp_path_factory.mktemp("eyes") / "drawn"
    manifest = load_source("synthetic", folder, {"images": 24, "size": 320})
    return [read_photograph(folder / path).pixels for path in manifest.images["path"]]


def test_different_drawn_eyes_are_no_copies(eyes: list[Picture]) -> None:
    assert set(groups(eyes)) == {-1}


@pytest.mark.parametrize("kind", list(COPIES))
def test_a_copy_of_a_drawn_eye_is_found(eyes: list[Picture], kind: str) -> None:
    found = groups([*eyes, *(COPIES[kind](eye) for eye in eyes)])
    own = sum(one == other >= 0 for one, other in zip(found[: len(eyes)], found[len(eyes) :], strict=True))
    assert own >= len(eyes) - 1
    assert len(set(found) - {-1}) == own  # no two eyes in one group


@pytest.mark.parametrize("distance", [0, 1, 3, 8, 10, 20])
def test_the_index_of_hashes_misses_nothing(distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**63, 600, dtype=np.uint64) * 2 + rng.integers(0, 2, 600, dtype=np.uint64)
    hashes[:300] &= np.uint64(0xFFFF)  # alike, so that buckets are full
    for row in range(500, 600):  # planted: each differs from another in up to 12 bits
        for bit in rng.choice(64, rng.integers(0, 13), replace=False):
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
        hashes[row] ^= hashes[row] ^ hashes[row - 400] if row % 2 else np.uint64(0)
    expected = {
        (one, other)
        for one in range(600)
        for other in range(one + 1, 600)
        if int(hashes[one] ^ hashes[other]).bit_count() <= distance
    }
    for few in (0, 1000):
        monkeypatch.setattr("fundusnet.data.duplicates._FEW", few)
        found = [tuple(pair) for pairs in close_hashes(hashes, distance) for pair in np.stack(pairs, axis=1).tolist()]
        assert len(expected) > 0 and sorted(found) == sorted(expected)


@pytest.mark.real
class TestRealPhotographs:
    def test_different_patients_are_no_copies(self, real_data: Path) -> None:
        files = sorted((real_data / "false_duplicates").glob("*.jpg"))
        assert len(files) == 4
        assert set(groups([read_photograph(file).pixels for file in files])) == {-1}

    def test_few_eyes_before_one_camera_need_a_close_comparison(self, real_data: Path) -> None:
        files = sorted((real_data / "idrid_points").glob("*.jpg"))[::2]
        found = [fingerprint(prepared(read_photograph(file).pixels)) for file in files]
        close = np.concatenate(
            list(close_hashes(np.array([number for number, _ in found], dtype=np.uint64), 8)), axis=1
        )
        structures = np.stack([structure for _, structure in found])
        similar = similar_structure(structures[close[0]], structures[close[1]])
        assert close.shape[1] > 50 and similar.mean() < 0.05

    @pytest.mark.parametrize("kind", ["encoded badly", "cropped by 2 %", "cropped by 4 %", "more contrast"])
    def test_copies_are_found(self, real_data: Path, kind: str) -> None:
        files = photographs(real_data / "keh")[::40] + sorted((real_data / "idrid").rglob("IDRiD_1*.jpg"))[:8]
        pictures = [read_photograph(file, 8 if "idrid" in str(file) else 1).pixels for file in files]
        copy = COPIES.get(kind) or (lambda picture: cropped(picture, 0.04))
        found = groups([*pictures, *(copy(picture) for picture in pictures)])
        own = sum(one == other >= 0 for one, other in zip(found[: len(files)], found[len(files) :], strict=True))
        assert len(files) > 20 and own >= 0.95 * len(files)


def test_sets_that_publish_the_same_images_are_known_by_their_ids(tmp_path: Path) -> None:
    one, other = tiny_prepared(tmp_path / "one", seed=1), tiny_prepared(tmp_path / "other", seed=2)  # the same ids
    rows = np.arange(4)
    assert len(seen_before(one, rows, other, rows)) == 0
    airogs, justraigs = (
        replace(each, info={**each.info, "source": name}) for each, name in ((one, "airogs"), (other, "justraigs"))
    )
    assert seen_before(airogs, rows, justraigs, rows[:2]).tolist() == [0, 1]
    assert len(seen_before(airogs, rows, replace(other, info={**other.info, "source": "aptos"}), rows)) == 0
    assert seen_before(one, rows, one, rows).tolist() == [0, 1, 2, 3]
