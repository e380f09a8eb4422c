"""How far annotators agree beyond chance: Fleiss' kappa by finding, for whole images and for their regions."""

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
        image: kappa of "has it, has it not" over the images.
        region: kappa of the same over each of the eight regions of the images.
        images: images with two or more readings, which is what both are computed from.
    """

    image: float | None
    region: float | None
    images: int


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss' kappa (1971), at most 1; 0 is what chance alone would give. None where it is undefined.

    Fleiss has equally many ratings a subject. Our reading where they differ, as where one annotator could not grade
    the image: each subject's agreement is taken over its own pairs of ratings, categories are as frequent as among
    all ratings, and a subject with fewer than two ratings says nothing. For equal numbers this is Fleiss' formula.

    Args:
        counts: ``(subjects, categories)``, how many annotators put the subject into the category.
    """
    table = np.asarray(counts, dtype=np.float64)
    ratings = table.sum(axis=1) if table.size else np.zeros(0)
    table, ratings = table[ratings >= 2], ratings[ratings >= 2]
    if not len(table):
        return None
    observed = float(np.mean((table * (table - 1)).sum(axis=1) / (ratings * (ratings - 1))))
    expected = float(((table.sum(axis=0) / ratings.sum()) ** 2).sum())
    # Every rating in one category: agreement is whole, but so is chance's.
    if expected > 1 - 1e-12:
        return None
    return (observed - expected) / (1 - expected)


def agreement(images: Sequence[Sequence[Reading]], finding: str) -> Agreement:
    """Agreement on ``finding`` among the readings of each image."""
    read = [readings for readings in images if len(readings) >= 2]
    by_image, by_region = [], []
    for readings in read:
        marked = sum(finding in reading for reading in readings)
        by_image.append((marked, len(readings) - marked))
        for region in REGIONS.values():
            touched = sum(region in set(reading.get(finding, ())) for reading in readings)
            by_region.append((touched, len(readings) - touched))
    return Agreement(fleiss_kappa(by_image), fleiss_kappa(by_region), len(read))
