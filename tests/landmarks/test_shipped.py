"""The localiser that comes with the package, on drawn eyes and, where they are here, on photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fundusnet.data.sources import load_source
from fundusnet.data.sources.idrid import load as load_idrid
from fundusnet.errors import UserError
from fundusnet.landmarks.localizer import SHIPPED, Localizer, locate_in_prepared, shipped
from fundusnet.landmarks.points import Landmarks
from fundusnet.runs.checkpoints import load_checkpoint, write_checkpoint

RADIUS = 0.2  # of the distance between disc and fovea


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[np.ndarray, np.ndarray]]:
    """Twelve drawn eyes of 384 pixels, each with its disc and fovea ``(2, 2)``."""
    root = tmp_path_factory.mktemp("eyes")
    manifest = load_source("synthetic", root / "drawn", {"images": 12, "size": 384, "seed": 11})
    columns = ["disc_x", "disc_y", "fovea_x", "fovea_y"]
    return [
        (cv2.imread(str(manifest.root / row["path"]))[..., ::-1], row[columns].to_numpy(dtype=float).reshape(2, 2))
        for _, row in manifest.images.iterrows()
    ]


def errors(found: Landmarks, points: np.ndarray) -> list[float]:
    """Distances in disc radii; infinite where nothing was found."""
    radius = RADIUS * np.hypot(*(points[0] - points[1]))
    return [
        float(np.hypot(each.x - x, each.y - y)) / radius if each else float("inf")
        for each, (x, y) in zip((found.disc, found.fovea), points, strict=True)
    ]


def test_it_is_small_enough_for_a_wheel_and_holds_plain_values() -> None:
    assert SHIPPED.stat().st_size + SHIPPED.with_suffix(".json").stat().st_size < 8e6
    assert load_checkpoint(SHIPPED)["fundusnet"]["task"] == "landmarks"


def test_it_finds_the_points_of_drawn_eyes(eyes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    found = np.array([errors(shipped()(image), points) for image, points in eyes])
    assert (np.median(found, axis=0) < 0.5).all()
    assert (found < 1).mean() > 0.8


def test_it_follows_the_photograph_in_any_frame(eyes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Larger, smaller, mirrored and with borders: the points move along, in pixels of the picture given."""
    image, points = min(eyes, key=lambda eye: max(errors(shipped()(eye[0]), eye[1])))
    larger = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    bordered = cv2.copyMakeBorder(image, 40, 90, 130, 10, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    frames = {
        "larger": (larger, points * 2 + 0.5),
        "bordered": (bordered, points + np.array([130, 40])),
        "mirrored": (np.ascontiguousarray(image[:, ::-1]), np.array([383, 0]) + points * np.array([-1, 1])),
    }
    for name, (picture, moved) in frames.items():
        assert max(errors(shipped()(picture), moved)) < 0.6, name


def test_a_fovea_outside_a_picture_of_the_disc_is_not_found(eyes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    unsure = 0
    for image, (disc, fovea) in eyes:
        half = int(0.5 * np.hypot(*(disc - fovea)))
        x, y = disc.astype(int)
        crop = image[max(y - half, 0) : y + half, max(x - half, 0) : x + half]
        unsure += shipped()(np.ascontiguousarray(crop)).fovea is None
    assert unsure >= 10


def test_nothing_is_found_in_a_black_picture() -> None:
    assert shipped()(np.zeros((200, 300, 3), np.uint8)) == Landmarks(None, None)


def test_prepared_pictures_get_points_in_their_own_pixels(eyes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    image, points = min(eyes, key=lambda eye: max(errors(shipped()(eye[0]), eye[1])))
    small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
    found = np.array(locate_in_prepared(small)).reshape(2, 2)
    radius = RADIUS * np.hypot(*(points[0] - points[1])) / 3
    assert (np.hypot(*(found - ((points + 0.5) / 3 - 0.5)).T) / radius < 1).all()


def test_a_network_for_findings_is_no_localiser(tmp_path: Path) -> None:
    file = tmp_path / "best.ckpt"
    write_checkpoint(file, {"state_dict": {}, "hyper_parameters": {}, "fundusnet": {"task": "findings"}})
    with pytest.raises(UserError, match="is not a localiser of disc and fovea; train one with experiment=landmarks"):
        Localizer.from_run(file)


@pytest.mark.real
def test_photographs_of_idrid_at_full_size(real_data: Path) -> None:
    """It was trained on these, so this is a test of the frames, not of the network."""
    manifest = load_idrid(real_data / "idrid", task="grading")
    found = []
    for _, row in manifest.images.dropna(subset=["disc_x", "fovea_x"]).iloc[::40].iterrows():
        image = cv2.imread(str(manifest.root / row["path"]))[..., ::-1]
        points = row[["disc_x", "disc_y", "fovea_x", "fovea_y"]].to_numpy(dtype=float).reshape(2, 2)
        found.append(errors(shipped()(np.ascontiguousarray(image)), points))
    assert len(found) > 3
    assert (np.median(found, axis=0) < 0.2).all()
