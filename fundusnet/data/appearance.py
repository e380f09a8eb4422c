"""Seven numbers that describe how a photograph looks, and whether it looks like those of a training set.

A network answers for every input. Photographs unlike its training set (another camera, out of focus, not a fundus) are
therefore flagged beside the answer. The limits are derived from the training set and kept in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.data import decode
from fundusnet.data.crop import brightest_channel
from fundusnet.data.decode import Pixels

NAMES = ("brightness", "red", "blue", "contrast", "detail", "corners", "extent")
FLAGS = {
    "not_fundus": "without the colours of a fundus, red above green above blue: perhaps another kind of picture",
    "too_dark": "darker than the training set",
    "blurred": "less fine detail than in the training set",
    "unlike_training": "another camera, colour or framing than in the training set",
    "unchecked": "the checkpoint holds no statistics of its training set",
    **decode.FLAGS,
}
UNCHECKED = "unchecked"

SIDE = 256  # pixels, side at which a photograph is measured
SHARE = 0.995  # of photographs like the training set that are not flagged as unlike it
RED, BLUE = 0.15, 0.0  # log of a channel's mean over green's: a fundus has more red and less blue
LOWEST = 0.01  # quantile of the training set on which the limits of darkness and blur are based
DARK = 0.6  # times that quantile of the brightness
BLUR = np.log(1.5)  # below that quantile of the detail, which is a logarithm
# Lower bound of the spread: with a set from one camera, every other photograph would be flagged.
_FLOOR = np.array([0.03, 0.05, 0.05, 0.05, 0.10, 0.02, 0.02])
_ENOUGH = 2 * len(NAMES)  # photographs


@dataclass(frozen=True)
class Appearance:
    """Statistics of a training set in ``NAMES``, plain values only, as a checkpoint keeps them.

    Attributes:
        mean: Mean of each number.
        precision: Inverse of their covariance.
        limit: Mahalanobis distance beyond which a photograph is unlike the set.
        dark: Brightness below which a photograph is flagged.
        blurred: Detail below which a photograph is flagged.
        images: Number of photographs they were taken from.
    """

    mean: list[float]
    precision: list[list[float]]
    limit: float
    dark: float
    blurred: float
    images: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Appearance | None:
        """The statistics of a set from its numbers ``(n, 7)``; None if there are too few photographs."""
        from scipy.stats import f as fisher  # slow to import, and only training needs it

        count, width = values.shape
        if count < _ENOUGH:
            return None
        mean = values.mean(axis=0)
        spread = np.cov(values, rowvar=False) + np.diag(_FLOOR**2)
        precision: NDArray[np.float64] = np.linalg.inv(spread).astype(np.float64)
        own = _distance(values, mean, precision)
        # Limit for a new photograph of the same kind at this probability (Hotelling): wider for few photographs.
        new = width * (count**2 - 1) / (count * (count - width)) * fisher.ppf(SHARE, width, count - width)
        lowest = np.quantile(values, LOWEST, axis=0)
        return cls(
            mean.tolist(),
            precision.tolist(),
            float(max(np.quantile(own, SHARE), np.sqrt(new))),
            float(DARK * lowest[NAMES.index("brightness")]),
            float(lowest[NAMES.index("detail")] - BLUR),
            count,
        )

    @classmethod
    def stored(cls, values: Mapping[str, Any] | None) -> Appearance | None:
        """The statistics that ``plain`` returned; None for None."""
        return None if not values else cls(**values)

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    def flags(self, numbers: NDArray[np.float64]) -> tuple[str, ...]:
        """The ``FLAGS`` of a photograph with these numbers ``(7,)``; none = like the training set."""
        found = []
        distance = float(_distance(numbers[None], np.array(self.mean), np.array(self.precision))[0])
        unlike = distance > self.limit
        # Not if the training set has other colours, such as red-free photographs.
        if unlike and _fundus_colours(np.array(self.mean)) and not _fundus_colours(numbers):
            found.append("not_fundus")
        if numbers[NAMES.index("brightness")] < self.dark:
            found.append("too_dark")
        if numbers[NAMES.index("detail")] < self.blurred:
            found.append("blurred")
        if unlike and not found:
            found.append("unlike_training")
        return tuple(found)


def numbers_of(pixels: Pixels) -> NDArray[np.float64]:
    """The seven numbers of a prepared photograph, uint8 RGB ``(S, S, 3)``.

    ``brightness``: mean of the brightest channel in the field, 0 to 1. ``red``, ``blue``: log of that channel's mean
    over green's. ``contrast``: log of green's spread over its mean. ``detail``: log of what a blur of 1.5 pixels at
    256 removes, over green's mean. ``corners``: brightness outside the inscribed circle over that inside.
    ``extent``: share of the square that is lit.
    """
    way = cv2.INTER_AREA if len(pixels) > SIDE else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=way), dtype=np.uint8)
    bright = brightest_channel(small)
    lit = bright > max(0.1 * float(np.percentile(bright, 99)), 3.0)
    # The edge of the field is not a detail of the fundus.
    inner = cv2.erode(lit.astype(np.uint8), np.ones((11, 11), np.uint8)).astype(bool)
    inner = inner if inner.any() else np.ones_like(lit)
    means = [float(small[:, :, channel][inner].mean()) + 1 for channel in range(3)]
    green = small[:, :, 1].astype(np.float32)
    fine = np.abs(green - cv2.GaussianBlur(green, (0, 0), 1.5))
    inside, outside = float(bright[_CIRCLE].mean()) + 1, float(bright[~_CIRCLE].mean())
    return np.array(
        [
            float(bright[inner].mean()) / 255,
            np.log(means[0] / means[1]),
            np.log(means[2] / means[1]),
            np.log((float(green[inner].std()) + 1) / means[1]),
            np.log((float(fine[inner].mean()) + 0.05) / means[1]),
            outside / inside,
            float(lit.mean()),
        ]
    )


def appearance_of(pixels: Pixels, rows: NDArray[np.int64], most: int = 2000) -> Appearance | None:
    """The statistics of these ``rows`` of prepared pixels ``(N, S, S, 3)``, from at most ``most``, evenly spaced."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)] if len(rows) else rows
    if not len(chosen):
        return None
    return Appearance.of(np.stack([numbers_of(np.asarray(pixels[row])) for row in chosen]))


def training_appearance(pixels: Pixels, rows: NDArray[np.int64]) -> dict[str, Any]:
    """The checkpoint entry with which predictions flag photographs unlike the training set."""
    appearance = appearance_of(pixels, rows)
    return {"appearance": appearance.plain() if appearance else None}


def _fundus_colours(numbers: NDArray[np.float64]) -> bool:
    return bool(numbers[NAMES.index("red")] > RED and numbers[NAMES.index("blue")] < BLUE)


def _distance(
    values: NDArray[np.float64], mean: NDArray[np.float64], precision: NDArray[np.float64]
) -> NDArray[np.float64]:
    away = values - mean
    squared: NDArray[np.float64] = np.einsum("ni,ij,nj->n", away, precision, away)
    return np.sqrt(np.maximum(squared, 0))


_ROW, _COLUMN = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
_CIRCLE = _ROW**2 + _COLUMN**2 < (0.5 * SIDE) ** 2
