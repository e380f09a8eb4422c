"""Batches of photographs with the points that are known in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fundusnet.config.ranges import Count, NonNegativeInt
from fundusnet.data.augment import Augment
from fundusnet.data.datamodule import FundusDataModule, FundusDataset
from fundusnet.data.loading import Item
from fundusnet.data.manifest import COORDINATES
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.landmarks.points import LANDMARKS

LARGEST_ERROR = 0.6  # of a first look along each axis, in disc radii
LARGEST_SCALE = 1.25  # and factor by which it mistakes the radius


class LandmarkDataModule(FundusDataModule):
    """A prepared set as training, validation and test batches of points.

    A batch holds, besides ``image`` and ``index``: ``points`` float (B, 2, 2), disc and fovea, ``(x, y)`` in pixels of
    the image, NaN = unknown; ``around`` float (B, 2, 2) and ``radius`` float (B,), points near these and about a disc
    radius, as a first look would find them. Augmentation may move a point out of the picture. Only points that the
    source gives count; images without any are left out. Splits are balanced by the side of the eye.

    Args:
        folder, batch_size, num_workers, augment, views, fractions, folds, fold, split_by, seed, relabel: As in
            ``fundusnet.data.datamodule.FundusDataModule``.

    Attributes:
        prepared, rows: As in ``fundusnet.data.datamodule.FundusDataModule``.
        points: ``(N, 2, 2)`` of the prepared set, after ``setup``.
    """

    points: NDArray[np.float32]

    def __init__(
        self,
        folder: str | Path,
        batch_size: Count = 16,
        num_workers: NonNegativeInt | None = 0,
        augment: Augment | None = None,
        views: Count | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        folds: Count | None = None,
        fold: NonNegativeInt = 0,
        split_by: Literal["patient", "image"] = "patient",
        seed: int = 0,
        relabel: Callable[[PreparedSet], PreparedSet] | None = None,
    ) -> None:
        super().__init__(
            folder, batch_size, num_workers, augment, views, fractions, folds, fold, split_by, seed, relabel
        )

    def read_labels(self) -> NDArray[np.float64]:
        """Whether the disc is right of the fovea, 0 or 1; 2 where one of them is unknown, NaN where both are."""
        self.points = given_points(self.prepared)
        x = self.points[..., 0]
        label = np.where(np.isnan(x).any(axis=1), 2.0, x[:, 0] > x[:, 1])
        label[np.isnan(x).all(axis=1)] = np.nan
        if np.isnan(label).all():
            raise UserError(
                f"no photograph in {self.folder} has a given disc or fovea; use a source with points, such as "
                "data=idrid data.options.task=grading, or data=csv with disc_x, disc_y, fovea_x and fovea_y"
            )
        return label

    @property
    def feature_home(self) -> tuple[Path, str]:
        """As in ``FundusDataModule``; close-ups depend on the errors of a first look."""
        return self.prepared.folder, f"first look within {LARGEST_ERROR} radii and a factor of {LARGEST_SCALE}"

    def check_split(self, split: str, rows: NDArray[np.int64]) -> None:
        """Any image with a point can be learnt from and scored."""

    def count_classes(self, rows: NDArray[np.int64]) -> dict[str, int]:
        """How many of these rows have each point."""
        return {name: int(np.isfinite(self.points[rows, k, 0]).sum()) for k, name in enumerate(LANDMARKS)}

    def make_dataset(self, rows: NDArray[np.int64], augment: Augment | None) -> LandmarkDataset:
        return LandmarkDataset(self.prepared, self.points, rows, augment, self.seed)


class LandmarkDataset(FundusDataset):
    """Photographs with their points, which move with the image."""

    def __init__(
        self,
        prepared: PreparedSet,
        points: NDArray[np.float32],
        rows: NDArray[np.int64],
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(prepared, rows, augment, seed)
        self.points = points

    def load_item(self, row: int, view: int) -> Item:
        picture, points = {"image": self.prepared.pixels[row]}, self.points[row]
        if self.augment is not None:
            picture, points = self.augment.with_points(picture["image"], points, self.generator(row, view))
        return {**picture, "index": row, "points": points, **first_look(points, (self.seed if view else 0, view, row))}


def first_look(points: NDArray[np.float32], seed: tuple[int, ...]) -> Item:
    """``around`` and ``radius``: ``points`` (2, 2) and a disc radius with the errors of a first look."""
    rng = np.random.default_rng((*seed, 1))  # apart from the augmentation of the same view
    radius = np.linalg.norm(points[0] - points[1]) / 5
    around = points + rng.uniform(-LARGEST_ERROR, LARGEST_ERROR, points.shape) * radius
    scale = np.exp(rng.uniform(-1, 1) * np.log(LARGEST_SCALE))
    return {"around": around.astype(np.float32), "radius": np.float32(radius * scale)}


def given_points(prepared: PreparedSet) -> NDArray[np.float32]:
    """Disc and fovea of each image ``(N, 2, 2)`` in the prepared frame; NaN = unknown, or only found by a localiser."""
    images = prepared.manifest.images
    points = images[list(COORDINATES)].to_numpy(dtype=np.float32).reshape(-1, 2, 2)
    return np.where(prepared.localised[..., None], np.float32(np.nan), points)
