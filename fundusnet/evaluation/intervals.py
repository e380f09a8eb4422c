"""95% intervals from a bootstrap that resamples patients, not images (S1.6).

Two eyes of one patient resemble each other, so resampling images would make an interval too narrow. A resample is a
weight for each image (how often its patient was drawn), and a statistic is computed for many resamples at once. Where
all resamples agree, as without a single error, a share or an AUROC has an exact bound in place of an interval without
width, and any other statistic is marked unreliable.

The metrics of scikit-learn and torchmetrics take one resample at a time, which is some 60 times slower
(``benchmarks/bootstrap.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

RELIABLE_PATIENTS = 10
LARGEST_BLOCK = 500_000  # weights at once: 4 MB, which a core's cache holds
ROUNDING = 1e-9
DRAWS_PER_RESAMPLE = 50  # then give up: the statistic is undefined in nearly every resample


@dataclass(frozen=True)
class Statistic:
    """A statistic of weighted images.

    Attributes:
        compute: Maps weights ``(R, N)`` to ``(R,)`` values, NaN where undefined. The resamples are adjacent in memory.
        requires: Masks ``(N,)`` of the images it cannot do without, by name. An empty mask is the reason for an
            undefined value; fewer than ten patients in one make the interval unreliable.
        squared: Whether it is the square of a distance, which noise alone raises above 0. Resampling raises it by the
            same amount again, which is subtracted, and the root is reported.
        share: Whether it is the share of the images that something holds for, or of pairs of images as an AUROC is.
    """

    compute: Callable[[Floats], Floats]
    requires: Mapping[str, Mask] = field(default_factory=dict)
    squared: bool = False
    share: bool = False


@dataclass(frozen=True)
class Interval:
    """The value of a statistic and its 95% percentile interval; None where undefined, with the ``reason``."""

    value: float | None
    low: float | None
    high: float | None
    reason: str = ""
    unreliable: bool = False
    redrawn: int = 0

    def as_metric(self) -> dict[str, object]:
        """Return the entry of ``metrics.json``, without NaN and without empty remarks."""
        metric: dict[str, object] = {"value": self.value, "ci95": [self.low, self.high]}
        if self.reason:
            metric["reason"] = self.reason
        if self.unreliable:
            metric["unreliable"] = True
        if self.redrawn:
            metric["redrawn"] = self.redrawn
        return metric


def bootstrap(statistic: Statistic, patients: ArrayLike, *, n: int = 2000, seed: int = 0) -> Interval:
    """Return a statistic over all images and its 95% patient-clustered percentile interval (S1.6).

    A resample in which the statistic is undefined (one class only) is redrawn and counted in ``redrawn``.

    Args:
        statistic: The statistic of N images.
        patients: ``(N,)``, identities of any kind.
        n: Number of resamples.
        seed: Of the resampling.
    """
    identities, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    patient_of = patient_of.ravel()
    count = len(identities)
    empty = [name for name, mask in statistic.requires.items() if not mask.any()]
    value = float("nan") if empty or not count else float(statistic.compute(np.ones((1, len(patient_of))))[0])
    if not np.isfinite(value):
        reason = "no " + " and no ".join(empty) if empty else "undefined on these images"
        return Interval(None, None, None, reason=reason)
    involved = [len(np.unique(patient_of[mask])) for mask in statistic.requires.values()] or [count]
    fewest = min(involved)
    if count < 2:
        alone = value**0.5 if statistic.squared else value
        return Interval(alone, None, None, reason="one patient only: no interval", unreliable=True)

    generator = np.random.default_rng(seed)

    def resample(size: int) -> Floats:
        return statistic.compute(_draw(generator, count, size, patient_of))

    return _interval(value, resample, n, len(patient_of), statistic, fewest)


def bootstrap_means(
    values: ArrayLike, among: ArrayLike, patients: ArrayLike, *, n: int = 2000, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Return the means of M columns and their pointwise 95% patient-clustered percentile intervals, on one draw.

    Args:
        values: ``(N, M)``.
        among: bool ``(N, M)``, the images each mean is taken over.
        patients: ``(N,)``, identities of any kind.
        n: Number of resamples.
        seed: Of the resampling.

    Returns:
        Mean, low and high, each ``(M,)``; NaN where there is no image. Resamples without any image of a column are left
        out for it.
    """
    member = np.asarray(among, dtype=np.float64)
    identities, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.zeros((len(identities), 2 * member.shape[1]))
    np.add.at(sums, patient_of.ravel(), np.hstack([np.where(member > 0, values, 0.0), member]))
    width = member.shape[1]
    total = sums.sum(axis=0)
    generator = np.random.default_rng(seed)
    count = len(identities)
    block = max(1, LARGEST_BLOCK // count)
    sizes = [min(block, n - start) for start in range(0, n, block)]
    resampled: Floats = np.vstack([_draw(generator, count, size, np.arange(count)) @ sums for size in sizes])
    means = ratio(resampled[:, :width], resampled[:, width:])
    low, high = (np.full(width, np.nan) for _ in range(2))
    for column in np.flatnonzero(total[width:] > 0) if count > 1 else ():
        low[column], high[column] = np.nanquantile(means[:, column], (0.025, 0.975))
    return ratio(total[:width], total[width:]), low, high


def pooled(statistics: Sequence[Statistic], patients: Sequence[ArrayLike], *, n: int = 2000, seed: int = 0) -> Interval:
    """Return the mean of one statistic over several runs (seeds), with its 95% interval.

    Each resample draws the runs, then the patients: a patient drawn twice counts twice in every run that was scored on
    them. For a single run this is ``bootstrap``.

    Args:
        statistics: The statistic of each run.
        patients: For each run the identities ``(N,)`` of its images' patients.
        n: Number of resamples.
        seed: Of the resampling.
    """
    if len(statistics) == 1:
        return bootstrap(statistics[0], patients[0], n=n, seed=seed)
    alone = [
        bootstrap(replace(statistic, squared=False), who, n=1, seed=seed)
        for statistic, who in zip(statistics, patients, strict=True)
    ]
    values = [interval.value for interval in alone if interval.value is not None]
    if len(values) < len(alone):
        reason = next(interval.reason for interval in alone if interval.value is None)
        return Interval(None, None, None, reason=f"{reason} in {len(alone) - len(values)} of {len(alone)} runs")
    identities, flat = np.unique(np.concatenate([np.asarray(who) for who in patients]), return_inverse=True)
    cuts = np.cumsum([len(np.asarray(who)) for who in patients])[:-1]
    patient_of = np.split(flat.ravel(), cuts)
    involved = [
        len(np.unique(np.concatenate([who[s.requires[name]] for s, who in zip(statistics, patient_of, strict=True)])))
        for name in statistics[0].requires
    ]
    fewest = min(involved or [len(identities)])

    generator = np.random.default_rng(seed)

    def resample(size: int) -> Floats:
        runs = _draw(generator, len(statistics), size, np.arange(len(statistics)))
        drawn = np.split(_draw(generator, len(identities), size, flat.ravel()), cuts, axis=1)
        each = np.stack([s.compute(weights) for s, weights in zip(statistics, drawn, strict=True)], axis=1)
        # A run that was not drawn need not be defined.
        return np.asarray(np.where(runs > 0, each * runs, 0.0).sum(axis=1) / len(statistics))

    return _interval(float(np.mean(values)), resample, n, len(flat), statistics[0], fewest)


def paired_difference(
    first: Statistic, second: Statistic, patients: ArrayLike, *, n: int = 2000, seed: int = 0
) -> Interval:
    """Return ``second - first`` with its interval, both computed on the same resamples of the same images."""
    return bootstrap(difference_of(first, second), patients, n=n, seed=seed)


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """Return the statistic ``second - first`` of the same images."""
    requires = {**first.requires}
    for name, mask in second.requires.items():
        # One name can mean other images for each model (its own true positives): the smaller set decides.
        if name not in requires or mask.sum() < requires[name].sum():
            requires[name] = mask
    return Statistic(lambda weights: second.compute(weights) - first.compute(weights), requires)


def auroc(labels: ArrayLike, scores: ArrayLike) -> Statistic:
    """Return the area under the ROC curve; ties count half; labels are 1, 0, or NaN (left out)."""
    label = np.asarray(labels, dtype=np.float64)
    score = np.asarray(scores, dtype=np.float64)
    present, absent = label == 1, label == 0
    decided = np.flatnonzero(present | absent)
    order = decided[np.argsort(score[decided], kind="stable")]
    step = _steps(score[order], present[order])
    # One row a step of the curve: the images of a class whose weights it sums up.
    sums = {
        of: sparse.csr_array((np.ones(len(order)) * member[order], (step, order)), (step[-1:].sum() + 1, len(label)))
        for of, member in (("present", present), ("absent", absent))
    }

    def compute(weights: Floats) -> Floats:
        positive, negative = sums["present"] @ weights.T, sums["absent"] @ weights.T
        below = negative.cumsum(axis=0) - negative / 2
        return ratio((positive * below).sum(axis=0), positive.sum(axis=0) * negative.sum(axis=0))

    return Statistic(compute, {"present images": present, "absent images": absent}, share=True)


def _steps(score: Floats, present: Mask) -> NDArray[np.intp]:
    """Return for each image, in ascending order of ``score``, its step along the ROC curve.

    Images of equal score share a step, and so do neighbouring scores that only one and the same class has: the curve is
    straight there.
    """
    if not len(score):
        return np.empty(0, np.intp)
    tied = np.r_[True, score[1:] != score[:-1]].cumsum() - 1
    both = np.zeros((tied[-1] + 1, 2), bool)
    both[tied, present.astype(int)] = True
    straight = (both[1:] == both[:-1]).all(axis=1) & ~both[1:].all(axis=1)
    step: NDArray[np.intp] = np.r_[0, (~straight).cumsum()][tied]
    return step


def mean(values: ArrayLike, among: Mask, name: str) -> Statistic:
    """Return the mean of the known (not NaN) ``values`` ``(N,)`` among some images; ``name`` says which these are."""
    value = np.asarray(values, dtype=np.float64)
    known = among & np.isfinite(value)
    filled = np.where(known, value, 0.0)
    # One product with both columns: the sum of the values and the number of images.
    columns = np.stack([filled, known.astype(np.float64)], axis=1)

    def compute(weights: Floats) -> Floats:
        sums = weights @ columns
        return ratio(sums[:, 0], sums[:, 1])

    return Statistic(compute, {name: known}, share=bool(np.isin(value[known], (0, 1)).all()))


def predictive_values(labels: ArrayLike, predicted: ArrayLike) -> dict[str, Statistic]:
    """Return ``ppv``, ``npv`` and ``f1`` of yes-or-no predictions ``(N,)``; labels are 1, 0, or NaN (left out).

    PPV and NPV depend on the share of present images, here that of the scored images.
    """
    label, yes = np.asarray(labels, dtype=np.float64), np.asarray(predicted) == 1
    present, decided = label == 1, (label == 1) | (label == 0)
    hits, called = (present & yes).astype(np.float64), (decided & yes).astype(np.float64)
    columns = np.stack([hits, called, present.astype(np.float64)], axis=1)

    def f1(weights: Floats) -> Floats:
        sums = weights @ columns
        return ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])

    return {
        "ppv": mean(present, decided & yes, "decided images predicted present"),
        "npv": mean(label == 0, decided & ~yes, "decided images predicted absent"),
        "f1": Statistic(f1, {"images present or predicted present": present | (decided & yes)}),
    }


def median(values: ArrayLike, among: Mask, name: str) -> Statistic:
    """Return the median of the known (not NaN) ``values`` ``(N,)`` among some images, as ``mean`` does.

    Of an even number of values it is the mean of the middle two.
    """
    value = np.asarray(values, dtype=np.float64)
    known = np.asarray(among & np.isfinite(value))
    order = np.flatnonzero(known)[np.argsort(value[known], kind="stable")]
    ordered = value[order]

    def compute(weights: Floats) -> Floats:
        if not len(order):
            return np.full(len(weights), np.nan)
        reached = weights[:, order].cumsum(axis=1)
        half = reached[:, -1:] / 2
        lower, upper = (below.sum(axis=1) for below in (reached < half, reached <= half))
        middle = [ordered[np.minimum(place, len(order) - 1)] for place in (lower, upper)]
        return np.where(reached[:, -1] > 0, np.mean(middle, axis=0), np.nan)

    return Statistic(compute, {name: known})


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient; NaN where the denominator is zero."""
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def exact_bound(patients: int) -> float:
    """Return the smallest share that is still plausible where something holds for all of ``patients``.

    A smaller one shows all of them with a probability below 0.025: the bound of Clopper and Pearson (1934). With an
    AUROC of 1, as many pairs of independent images as the smaller class has patients are in order.
    """
    return float(0.025 ** (1 / patients))


def _draw(generator: np.random.Generator, count: int, size: int, patient_of: NDArray[np.intp]) -> Floats:
    """Draw ``count`` patients of ``count`` with replacement, ``size`` times; return the images' weights ``(size, N)``.

    The weights of an image in all resamples are adjacent in memory, so that sums over images are sums of long rows.
    """
    weights = np.empty((count, size))
    for resample, drawn in enumerate(generator.integers(0, count, (size, count))):
        weights[:, resample] = np.bincount(drawn, minlength=count)
    return weights[patient_of].T


def _interval(
    value: float, resample: Callable[[int], Floats], n: int, images: int, statistic: Statistic, fewest: int
) -> Interval:
    """Return the percentile interval of ``n`` defined resamples; ``resample`` computes as many as it is asked for.

    ``fewest`` is the number of patients in the smallest set of images that the statistic cannot do without.
    """
    unreliable = fewest < RELIABLE_PATIENTS
    block = min(n, max(16, LARGEST_BLOCK // images))
    kept, redrawn = np.empty(0), 0
    for _ in range(-(-n * DRAWS_PER_RESAMPLE // block)):
        wanted = min(block, n - len(kept))
        values = resample(wanted)
        kept = np.concatenate([kept, values[np.isfinite(values)]])
        redrawn += int((~np.isfinite(values)).sum())
        if len(kept) == n:
            break
    else:
        reason = "undefined in nearly every resample"
        return Interval(value, None, None, reason=reason, unreliable=True, redrawn=redrawn)
    low, high = (float(edge) for edge in np.quantile(kept, (0.025, 0.975)))
    if high - low < ROUNDING and n > 1:
        edge = round(value, 9)
        if statistic.share and edge in (0, 1):
            low, high = (exact_bound(fewest), 1.0) if edge == 1 else (0.0, 1 - exact_bound(fewest))
        else:
            unreliable = True
    if statistic.squared:
        # The mean of the resamples exceeds the value by as much as the value, on average, exceeds the truth.
        value, low, high = (max(0.0, 2 * value - edge) ** 0.5 for edge in (float(kept.mean()), high, low))
    return Interval(value, low, high, unreliable=unreliable, redrawn=redrawn)
