"""How photographs look, in seven numbers, and whether one looks like those a network was trained on.

A network answers whatever it is shown. What it was never taught on (another camera, a picture out of focus, no fundus
at all) is therefore flagged beside its answer. The limits are those of the training set itself, kept in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.data.crop import brightest_channel
from fundusnet.data.decode import Pixels

NAMES = ("brightness", "red", "blue", "contrast", "detail", "corners", "extent")
FLAGS = {
    "not_fundus": "without the colours of a fundus, red above green above blue: perhaps another kind of picture",
    "too_dark": "darker than the training set",
    "blurred": "less fine detail than in the training set",
    "unlike_training": "another camera, colour or framing than in the training set",
    "unchecked": "the checkpoint holds no statistics of its training set",
}
UNCHECKED = "unchecked"

SIDE = 256  # pixels at which a picture is looked at
SHARE = 0.995  # of pictures like those of the training set that are not flagged as unlike it
RED, BLUE = 0.15, 0.0  # log of a channel's mean over green's: fundus photographs have more red and less blue
LOWEST = 0.01  # quantile of the training set from which the limits of darkness and blur are taken
DARK = 0.6  # times that quantile of the brightness
BLUR = np.log(1.5)  # below that quantile of the detail, which is a logarithm
# No spread is taken for smaller than this: sets from one camera would call every other picture strange.
_FLOOR = np.array([0.03, 0.05, 0.05, 0.05, 0.10, 0.02, 0.02])
_ENOUGH = 2 * len(NAMES)  # pictures


@dataclass(frozen=True)
class Appearance:
    """The training set in ``NAMES``: what a checkpoint keeps, plain values only.

    Attributes:
        mean: of each number. precision: inverse of their covariance.
        limit: Mahalanobis distance beyond which a picture is unlike the set.
        dark, blurred: values of brightness and detail below which a picture is flagged.
        images: number of pictures they were taken from.
    """

    mean: list[float]
    precision: list[list[float]]
    limit: float
    dark: float
    blurred: float
    images: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Appearance | None:
        """The appearance of a set from its numbers ``(n, 7)``; None where there are too few to say anything."""
        from scipy.stats import f as fisher  # slow to import, and only a training comes here

        count, width = values.shape
        if count < _ENOUGH:
            return None
        mean = values.mean(axis=0)
        spread = np.cov(values, rowvar=False) + np.diag(_FLOOR**2)
        precision: NDArray[np.float64] = np.linalg.inv(spread).astype(np.float64)
        own = _distance(values, mean, precision)
        # Where a new picture of the same kind lies with this probability (Hotelling): few pictures, a wider limit.
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
        """What ``plain`` wrote; None where there is none."""
        return None if not values else cls(**values)

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    def flags(self, numbers: NDArray[np.float64]) -> tuple[str, ...]:
        """Which of ``FLAGS`` a picture with these numbers ``(7,)`` earns; none = like the training set."""
        found = []
        distance = float(_distance(numbers[None], np.array(self.mean), np.array(self.precision))[0])
        strange = distance > self.limit
        # Not where the training set itself has other colours, as red-free photographs do.
        if strange and _fundus_colours(np.array(self.mean)) and not _fundus_colours(numbers):
            found.append("not_fundus")
        if numbers[NAMES.index("brightness")] < self.dark:
            found.append("too_dark")
        if numbers[NAMES.index("detail")] < self.blurred:
            found.append("blurred")
        if strange and not found:
            found.append("unlike_training")
        return tuple(found)


def numbers_of(pixels: Pixels) -> NDArray[np.float64]:
    """The seven numbers of a prepared picture, uint8 RGB ``(S, S, 3)``.

    ``brightness``: mean of the brightest channel in the field, 0 to 1. ``red``, ``blue``: log of that channel's mean
    over green's. ``contrast``: log of green's spread over its mean. ``detail``: log of what a blur of 1.5 pixels at
    256 takes away, over green's mean. ``corners``: brightness outside the inscribed circle over that inside.
    ``extent``: share of the square that is lit.
    """
    way = cv2.INTER_AREA if len(pixels) > SIDE else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=way), dtype=np.uint8)
    bright = brightest_channel(small)
    lit = bright > max(0.1 * float(np.percentile(bright, 99)), 3.0)
    # The edge of the field is no detail of the fundus.
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
    """The appearance of these ``rows`` of prepared pixels ``(N, S, S, 3)``, from ``most`` of them, evenly spaced."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)] if len(rows) else rows
    if not len(chosen):
        return None
    return Appearance.of(np.stack([numbers_of(np.asarray(pixels[row])) for row in chosen]))


def training_appearance(pixels: Pixels, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What a finished training stores beside its weights, so that predictions can tell strange pictures."""
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
