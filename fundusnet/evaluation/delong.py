"""DeLong's test of two AUROCs on the same images (DeLong, DeLong and Clarke-Pearson 1988).

It takes images for independent. Where a patient has several, their likeness makes it too sure of itself, and the paired
bootstrap that draws patients is to be believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.intervals import Floats
from fundusnet.evaluation.use_report import binary_task_of


@dataclass(frozen=True)
class DeLong:
    """Second AUROC minus the first, its 95% interval and two-sided p; None where undefined, and then why."""

    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""


def delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> DeLong:
    """Compare two scores of the same images; labels 1, 0, or NaN for images left out; ties count half."""
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
        return DeLong(difference, reason="the two scores rank the images alike, or both without an error")
    error = variance**0.5
    reach = float(norm.ppf(0.975)) * error
    return DeLong(difference, difference - reach, difference + reach, float(2 * norm.sf(abs(difference) / error)))


def placements(present: Floats, absent: Floats) -> tuple[Floats, Floats]:
    """The structural components of M areas, from the scores ``(M, m)`` of present and ``(M, n)`` of absent images.

    ``(M, m)``: for each present image the share of absent ones it scores above; ``(M, n)``: for each absent image the
    share of present ones it scores below. The mean of either is the area.
    """
    m, n = present.shape[1], absent.shape[1]
    together = rankdata(np.hstack([present, absent]), axis=1)
    above = (together[:, :m] - rankdata(present, axis=1)) / n
    below = 1 - (together[:, m:] - rankdata(absent, axis=1)) / m
    return np.asarray(above), np.asarray(below)


def delong_rows(groups: Sequence[Group], finding: str, name: str) -> Iterator[dict[str, Any]]:
    """The test of each further single run against the first, where that is a single run too, as text for the page.

    ``finding`` is what the groups call their rows, ``name`` the question, as in
    ``fundusnet.evaluation.use_report.use_section``.
    """
    if len(groups[0].runs_of(finding)) != 1:
        return
    base = groups[0].runs_of(finding)[0]
    for group in groups[1:]:
        if len(group.runs_of(finding)) != 1:
            continue
        run = group.runs_of(finding)[0]
        first, second = binary_task_of(base, finding, name), binary_task_of(run, finding, name)
        shared = base.rows(finding).index.intersection(run.rows(finding).index)
        here, there = (one.rows(finding).index.get_indexer(shared) for one in (base, run))
        patients = len(np.unique(first.patients[here]))
        # An image that the two runs label differently (data.present) compares nothing.
        label = np.where(first.label[here] == second.label[there], first.label[here], np.nan)
        found = delong(label, first.probability[here], second.probability[there])
        if found.p is None:
            text = f"undefined ({found.reason})"
        else:
            p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
            text = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}), {p}"
        yield {
            "text": f"{group.label} against {groups[0].label}: {text}, {len(shared)} images of {patients} patients.",
            "clustered": patients < len(shared),
        }
