"""Features of a frozen backbone: computed once for each image and view, and shared by all runs on a prepared set."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

log = logging.getLogger(__name__)


class FrozenNetwork(Protocol):
    """What a network offers whose backbone is frozen.

    Attributes:
        extracted: What determines the features besides image and weights, in words.
    """

    extracted: str

    def extract(self, image: Tensor, *more: Tensor) -> Sequence[Tensor]:
        """``(B, 3, S, S)`` in [0, 1], and what else a task gives, → features ``(B, …)``."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its weights, those of backbones under ``backbone.``."""


#: key of the first array of features in an item; the others count on
PREFIX = "features"


class FeatureStore:
    """Arrays of features for each image and view, in files that several processes may read while one writes.

    View 0 is the image as it is, views 1, 2, … are augmented. Features are kept as float16.

    Args:
        folder: Where the files are, or will be: ``0.npy``, ``1.npy``, … and ``filled.npy``.
        images: Number N of images.
        views: Number V of augmented views.
        shapes: Of the arrays of one image.
    """

    def __init__(self, folder: Path, images: int, views: int, shapes: Sequence[tuple[int, ...]]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        layout = (images, 1 + views)
        self._filled = _array(folder / "filled.npy", np.bool_, layout)
        self._arrays = [_array(folder / f"{n}.npy", np.float16, layout + shape) for n, shape in enumerate(shapes)]

    def missing(self, keys: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of ``keys``, (row, view) each, that are not there yet."""
        return [key for key in keys if not self._filled[key]]

    def read(self, row: int, view: int) -> dict[str, NDArray[np.float16]]:
        """The arrays of an image as entries of an item."""
        return {f"{PREFIX}{number}": array[row, view] for number, array in enumerate(self._arrays)}

    def write(self, keys: Sequence[tuple[int, int]], features: Sequence[Tensor]) -> None:
        """Store ``features``, arrays ``(B, …)``, of the B ``keys``."""
        for array, values in zip(self._arrays, features, strict=True):
            for key, value in zip(keys, values.half().cpu().numpy(), strict=True):
                array[key] = value
        for array in self._arrays:
            array.flush()
        for key in keys:  # last: whoever sees the mark finds the features
            self._filled[key] = True
        self._filled.flush()


def open_store(
    folder: Path,
    network: FrozenNetwork,
    picture: Tensor,
    images: int,
    views: int,
    augmented: object,
    keys: Sequence[tuple[int, int]],
) -> FeatureStore | None:
    """The store in ``folder`` for what ``network`` extracts.

    Its name is a digest of the frozen weights and of what is extracted, so that others have other stores. The features
    themselves would differ in the last bit between machines and numbers of threads.

    Args:
        folder: Of the prepared set.
        network: Whose backbone is frozen, in evaluation mode.
        picture: ``(1, 3, S, S)`` in [0, 1].
        images: Number of images of the set.
        views: Number of augmented views.
        augmented: What the augmented views depend on.
        keys: (row, view) of what will be stored, if it is not there yet.

    Returns:
        None, with a warning, where the disk has no room for it or may not be written to.
    """
    with torch.inference_mode():
        shapes = [tuple(each.shape[1:]) for each in network.extract(picture)]
    digest = hashlib.sha256(repr((views, augmented, network.extracted, shapes)).encode())
    for name, value in network.state_dict().items():
        if "backbone." in name:
            digest.update(value.cpu().contiguous().numpy().tobytes())
    place = folder / "features" / digest.hexdigest()[:16]
    try:
        place.parent.mkdir(exist_ok=True)
        store = FeatureStore(place, images, views, shapes) if place.exists() else None
        size = 2 * len(store.missing(keys) if store else keys) * sum(math.prod(shape) for shape in shapes)
        if shutil.disk_usage(place.parent).free < 1.05 * size:
            raise OSError(f"they need {math.ceil(size / 1e9)} GB")
        return store or FeatureStore(place, images, views, shapes)
    except OSError as error:
        log.warning("features of the frozen backbone cannot be kept in %s, every epoch computes them: %s", place, error)
        return None


def stored_features(batch: dict[str, Tensor]) -> list[Tensor] | None:
    """The features in a batch, as float32; None of a batch of images."""
    names = sorted((name for name in batch if name.startswith(PREFIX)), key=lambda name: int(name[len(PREFIX) :]))
    return [batch[name].float() for name in names] or None


def _array(file: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A memory-mapped array of zeros, sparse on disk, or the one that is there."""
    if not file.exists():
        partial = file.with_suffix(".partial.npy")
        np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape).flush()
        partial.rename(file)
    return np.load(file, mmap_mode="r+", allow_pickle=False)
