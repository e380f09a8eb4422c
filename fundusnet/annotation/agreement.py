"""Inter-annotator agreement on each finding, by image and by region: Fleiss' kappa, Krippendorff's alpha, intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundusnet.data.regions import REGIONS

Pattern = tuple[int, int, tuple[int, ...]]
"""Readings of an image, how many of these marked the finding, and how many of these each region."""
Interval = tuple[float, float]
REPLICATES = 200
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Coefficients:
    """Agreement over one kind of unit; 1 is full agreement, 0 is agreement by chance.

    Attributes:
        kappa: Fleiss' kappa (1971); None if it is undefined.
        kappa_interval: 95% of the kappas of samples of the images, drawn with replacement.
        alpha: Krippendorff's alpha for names, which allows for units with different numbers of readings.
        alpha_interval: As for kappa.
    """

    kappa: float | None
    kappa_interval: Interval | None
    alpha: float | None
    alpha_interval: Interval | None


@dataclass(frozen=True)
class Agreement:
    """Agreement on one finding.

    Attributes:
        image: On its presence in the image.
        region: On its presence in each of the eight regions of the image.
        images: Images with two or more readings, from which both are computed.
        equal: Whether these have equally many readings. Fleiss assumes so. Our reading if they differ, for example
            because one annotator could not grade the image: agreement is taken over each unit's own pairs of readings,
            frequencies over all readings. Alpha is the usual choice then.
    """

    image: Coefficients
    region: Coefficients
    images: int
    equal: bool


def agreement(patterns: Mapping[Pattern, int], of_size: Mapping[int, int], regions: int = 8) -> Agreement:
    """Agreement on one finding, from how many images were read alike.

    Args:
        patterns: How many images have each pattern, of images in which somebody marked the finding.
        of_size: How many images have each number of readings, marked or not.
        regions: Regions of an image.
    """
    counts: Counter[Pattern] = Counter()
    for (read, present, touched), count in patterns.items():
        if read >= 2 and count:
            counts[read, present, tuple(sorted(touched))] += count  # which region it is makes no difference
    for size, total in of_size.items():
        unmarked = total - sum(count for (read, _, _), count in counts.items() if read == size)
        if size >= 2 and unmarked > 0:
            counts[size, 0, (0,) * regions] = unmarked
    weights = np.array(list(counts.values()), np.float64)
    random = np.random.default_rng(0).poisson(weights, (REPLICATES, len(weights))).astype(np.float64)
    by_image = _units([(read, [present]) for read, present, _ in counts])
    by_region = _units([(read, touched) for read, _, touched in counts])
    sizes = {read for read, _, _ in counts}
    return Agreement(
        _coefficients(by_image, weights, random), _coefficients(by_region, weights, random), int(weights.sum()),
        len(sizes) < 2,
    )  # fmt: skip


def patterns_of(
    images: Sequence[Sequence[Mapping[str, Collection[str]]]], finding: str
) -> tuple[Counter[Pattern], Counter[int]]:
    """The arguments of ``agreement`` for images with these readings, each finding → regions."""
    patterns: Counter[Pattern] = Counter()
    for readings in images:
        marked = [reading[finding] for reading in readings if finding in reading]
        if marked:
            touched = tuple(sum(region in each for each in marked) for region in REGIONS.values())
            patterns[len(readings), len(marked), touched] += 1
    return patterns, Counter(map(len, images))


def _units(rows: Sequence[tuple[int, Sequence[int]]]) -> _Array:
    """``(patterns, 5)``: units, their agreement, yes, readings, disagreement, each summed over an image's units."""
    table = np.zeros((len(rows), 5))
    for row, (read, marked) in zip(table, rows, strict=True):
        yes = np.asarray(marked, np.float64)
        no = read - yes
        row[:] = (
            len(yes),
            ((yes * (yes - 1) + no * (no - 1)) / (read * (read - 1))).sum(),
            yes.sum(),
            read * len(yes),
            (2 * yes * no / (read - 1)).sum(),
        )
    return table


def _coefficients(units: _Array, weights: _Array, random: _Array) -> Coefficients:
    kappa, alpha = (float(value[0]) for value in _kappa_and_alpha(weights[None] @ units))
    kappas, alphas = _kappa_and_alpha(random @ units)
    return Coefficients(
        None if np.isnan(kappa) else kappa, interval(kappa, kappas),
        None if np.isnan(alpha) else alpha, interval(alpha, alphas),
    )  # fmt: skip


def _kappa_and_alpha(sums: _Array) -> tuple[_Array, _Array]:
    """Both of each row of ``(samples, 5)``; NaN where all readings agree, so that chance agrees too."""
    units, agreed, yes, readings, disagreed = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = (yes / readings) ** 2 + ((readings - yes) / readings) ** 2
        kappa = (agreed / units - chance) / (1 - chance)
        alpha = 1 - (disagreed / readings) / (2 * yes * (readings - yes) / (readings * (readings - 1)))
    undefined = (yes == 0) | (yes == readings)
    return np.where(undefined, np.nan, kappa), np.where(undefined, np.nan, alpha)


def interval(value: float, samples: _Array) -> Interval | None:
    """95% of the samples of a coefficient; None if the coefficient or all of them are undefined."""
    found = samples[~np.isnan(samples)]
    if np.isnan(value) or not len(found):
        return None
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)
