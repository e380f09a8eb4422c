"""Inter-annotator agreement on questions: weighted kappa and Krippendorff's alpha for any number of readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundusnet.annotation.agreement import REPLICATES, Coefficients, interval

Counts = tuple[tuple[str, int], ...]
"""What the readers of one image (or of one finding in it) chose: (choice, readers), in any order."""
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class ChoiceAgreement:
    """Agreement on one question.

    Attributes:
        coefficients: Between readers of the same image, or of the same finding in it.
        units: Images, or findings in images, that two or more answered.
        equal: Whether these were answered by equally many.
        given: How often each choice was made.
    """

    coefficients: Coefficients
    units: int
    equal: bool
    given: tuple[int, ...]


def choice_agreement(patterns: Mapping[Counts, int], choices: Sequence[str], *, ordered: bool) -> ChoiceAgreement:
    """Agreement on a question, from how many units were answered alike.

    Choices on a scale disagree by the square of their distance: kappa then has quadratic weights, for any number of
    readers as Fleiss' kappa is (for two, Cohen's kappa of the pairs in both orders), and alpha is Krippendorff's for
    intervals. Other choices either agree or do not.

    Args:
        patterns: How many units have each pattern.
        choices: Of the question, in order.
        ordered: Whether they are on a scale.
    """
    place = {choice: number for number, choice in enumerate(choices)}
    table = np.zeros((len(patterns), len(choices)))
    for row, pattern in zip(table, patterns, strict=True):
        for choice, count in pattern:
            if choice in place:
                row[place[choice]] = count
    weights = np.array(list(patterns.values()), np.float64)
    given = (weights @ table).astype(int) if len(weights) else np.zeros(len(choices), int)
    several = table.sum(axis=1) >= 2
    table, weights = table[several], weights[several]
    distance = np.subtract.outer(np.arange(len(choices)), np.arange(len(choices)))
    apart = (distance / (len(choices) - 1)) ** 2 if ordered else (distance != 0).astype(float)
    random = np.random.default_rng(0).poisson(weights, (REPLICATES, len(weights))).astype(np.float64)
    kappa, alpha = (float(value[0]) for value in _kappa_and_alpha(table, apart, weights[None]))
    kappas, alphas = _kappa_and_alpha(table, apart, random)
    return ChoiceAgreement(
        Coefficients(
            None if np.isnan(kappa) else kappa, interval(kappa, kappas),
            None if np.isnan(alpha) else alpha, interval(alpha, alphas),
        ),
        int(weights.sum()), len(set(table.sum(axis=1))) < 2, tuple(int(count) for count in given),
    )  # fmt: skip


def _kappa_and_alpha(table: _Array, apart: _Array, weights: _Array) -> tuple[_Array, _Array]:
    """Both for each row of ``weights``, ``(samples, units)``; NaN where all choices are the same."""
    read = table.sum(axis=1)
    disagreed = np.einsum("uc,ck,uk->u", table, apart, table)  # over ordered pairs of readers
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = weights @ table
        total = pooled.sum(axis=1)
        chance = np.einsum("sc,ck,sk->s", pooled, apart, pooled)
        kappa = 1 - (weights @ (disagreed / (read * (read - 1))) / weights.sum(axis=1)) / (chance / total**2)
        alpha = 1 - (weights @ (disagreed / (read - 1)) / total) / (chance / (total * (total - 1)))
    undefined = chance == 0
    return np.where(undefined, np.nan, kappa), np.where(undefined, np.nan, alpha)
