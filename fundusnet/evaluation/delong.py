"""DeLong's test of two AUROCs on the same images (DeLong, DeLong and Clarke-Pearson 1988).

It assumes independent images. Where patients have several images its p is too small; then rely on the paired bootstrap,
which resamples patients. No installed library has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from fundusnet.evaluation.intervals import Floats


@dataclass(frozen=True)
class DeLong:
    """The second AUROC minus the first, its 95% interval and two-sided p; None where undefined, with the reason."""

    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""


def delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> DeLong:
    """Compare two scores of the same images; labels are 1, 0, or NaN (left out); ties count half."""
    label = np.asarray(labels, dtype=np.float64)
    scores = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    present, absent = scores[:, label == 1], scores[:, label == 0]
    for word, images in (("present", present), ("absent", absent)):
        if images.shape[1] < 2:
            return DeLong(None, reason=f"fewer than two {word} images")
    of_present, of_absent = placements(present, absent)
    areas = of_present.mean(axis=1)
    covariance = np.cov(of_present) / present.shape[1] + np.cov(of_absent) / absent.shape[1]
    difference = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-15:  # rounding
        return DeLong(difference, reason="both scores rank the images the same way, or both without an error")
    error = variance**0.5
    reach = float(norm.ppf(0.975)) * error
    return DeLong(difference, difference - reach, difference + reach, float(2 * norm.sf(abs(difference) / error)))


def placements(present: Floats, absent: Floats) -> tuple[Floats, Floats]:
    """Return the structural components of M AUROCs. The mean of either is the AUROC.

    Args:
        present: ``(M, m)`` scores of the present images.
        absent: ``(M, n)`` scores of the absent images.

    Returns:
        ``(M, m)``, for each present image the share of absent images it scores above, and ``(M, n)``, for each absent
        image the share of present images it scores below.
    """
    m, n = present.shape[1], absent.shape[1]
    together = rankdata(np.hstack([present, absent]), axis=1)
    above = (together[:, :m] - rankdata(present, axis=1)) / n
    below = 1 - (together[:, m:] - rankdata(absent, axis=1)) / m
    return np.asarray(above), np.asarray(below)
