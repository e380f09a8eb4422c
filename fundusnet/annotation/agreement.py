"""Inter-annotator agreement: Fleiss' kappa of each finding, by image and by region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fundusnet.data.regions import REGIONS

Reading = Mapping[str, Iterable[str]]
"""One annotator's findings on one image, each with its regions."""


@dataclass(frozen=True)
class Agreement:
    """Agreement on one finding.

    Attributes:
        image: Kappa of presence over the images; None if it is undefined.
        region: Kappa of presence over the eight regions of each image; None if it is undefined.
        images: Images with two or more readings, from which both are computed.
    """

    image: float | None
    region: float | None
    images: int


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss' kappa (1971): 1 is full agreement, 0 is agreement by chance; None if it is undefined.

    Fleiss assumes the same number of ratings for every subject. Our reading if they differ, for example because one
    annotator could not grade the image: agreement is taken over each subject's own pairs of ratings, category
    frequencies over all ratings, and subjects with fewer than two ratings are left out. With equal numbers this is
    Fleiss' formula.

    Args:
        counts: ``(subjects, categories)``, how many annotators put the subject into the category.

    Examples:
        >>> fleiss_kappa([[3, 0], [0, 3], [3, 0]])
        1.0
    """
    table = np.asarray(counts, dtype=np.float64)
    ratings = table.sum(axis=1) if table.size else np.zeros(0)
    table, ratings = table[ratings >= 2], ratings[ratings >= 2]
    if not len(table):
        return None
    observed = float(np.mean((table * (table - 1)).sum(axis=1) / (ratings * (ratings - 1))))
    expected = float(((table.sum(axis=0) / ratings.sum()) ** 2).sum())
    # With every rating in one category, chance agreement is 1 too.
    if expected > 1 - 1e-12:
        return None
    return (observed - expected) / (1 - expected)


def agreement(images: Sequence[Sequence[Reading]], finding: str) -> Agreement:
    """Agreement on one finding.

    Args:
        images: The readings of each image.
        finding: Name of the finding.
    """
    read = [readings for readings in images if len(readings) >= 2]
    by_image, by_region = [], []
    for readings in read:
        marked = sum(finding in reading for reading in readings)
        by_image.append((marked, len(readings) - marked))
        for region in REGIONS.values():
            touched = sum(region in set(reading.get(finding, ())) for reading in readings)
            by_region.append((touched, len(readings) - touched))
    return Agreement(fleiss_kappa(by_image), fleiss_kappa(by_region), len(read))
