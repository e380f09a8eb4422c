"""How suggestions pull readers: agreement, marks and time with and without them, and what became of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection

from fundusnet.annotation.agreement import REPLICATES, Interval, agreement, patterns_of
from fundusnet.annotation.readings import CurrentAnswer, Readings
from fundusnet.annotation.suggestion_outcomes import OUTCOMES, Shown, shown_suggestions_of
from fundusnet.annotation.suggestions import is_suggested, recorded_shares, suggested_since

JSON = dict[str, Any]
Images = Sequence[Sequence[CurrentAnswer]]


def suggestion_effect(connection: Connection, readings: Readings, findings: Sequence[str]) -> JSON | None:
    """The images with suggestions beside those without, since these are chosen at random.

    An image that was to have suggestions and was read before they were made counts as read before there were any: to
    count it as without would compare what readers turn to first with the rest.

    Args:
        connection: Of the transaction that ``readings`` were loaded in.
        readings: All answers so far; ungradable ones do not count.
        findings: What the study can mark.

    Returns:
        ``images``: how many are ``with`` and ``without``; ``mixed``, those that only some of their readers had
        suggestions for, and ``before``, those read before there were any, both of which count for neither.
        ``seconds``: ``median``, ``interval`` and ``readings`` of the time with and without.
        ``findings``: for each of ``findings`` with and without, with ``images`` of two readings or more,
        ``kappa_image`` and ``kappa_region`` and the interval of each (None where undefined), ``readings``, ``marked``,
        the share of these that mark it, and its interval; besides ``suggested``, how often it was suggested to a reader
        who has answered, and ``outcomes``, how many of these have each of ``OUTCOMES``.
        None if nobody was shown a suggestion.
    """
    since = suggested_since(connection)
    if since is None:
        return None
    shares = recorded_shares(connection)
    shown = shown_suggestions_of(connection, readings)
    had = {(each.answer.annotator, each.answer.image_id) for each in shown}
    groups: dict[str, list[list[CurrentAnswer]]] = {"with": [], "without": [], "mixed": [], "before": []}
    for image_id in readings.images:
        if answers := readings.gradable(image_id):
            suggested = [(answer.annotator, image_id) in had for answer in answers]
            if any(suggested):
                name = "with" if all(suggested) else "mixed"
            else:
                meant = any(is_suggested(image_id, seed, share) for seed, share in shares.items())
                name = "before" if meant or any(answer.saved < since for answer in answers) else "without"
            groups[name].append(answers)
    return {
        "images": {name: len(images) for name, images in groups.items()},
        "seconds": {name: _seconds(groups[name]) for name in ("with", "without")},
        "findings": [
            {
                "finding": finding,
                **{name: _agreement(groups[name], finding) for name in ("with", "without")},
                **_outcomes(shown, finding),
            }
            for finding in findings
        ],
    }


def _agreement(images: Images, finding: str) -> JSON:
    found = agreement(*patterns_of([[answer.content["findings"] for answer in answers] for answers in images], finding))
    marks = Counter(
        (sum(finding in answer.content["findings"] for answer in answers), len(answers)) for answers in images
    )
    share, interval = _share(marks)
    return {
        "images": found.images,
        "kappa_image": found.image.kappa,
        "kappa_image_interval": found.image.kappa_interval,
        "kappa_region": found.region.kappa,
        "kappa_region_interval": found.region.kappa_interval,
        "readings": sum(map(len, images)),
        "marked": share,
        "marked_interval": interval,
    }


def _share(marks: Counter[tuple[int, int]]) -> tuple[float | None, Interval | None]:
    """Share of the readings that mark a finding, and 95% of those of samples of the images, drawn with replacement.

    Args:
        marks: How many images have each pair of marks and readings.
    """
    if not marks:
        return None, None
    pairs, weights = np.array(list(marks)), np.array(list(marks.values()), np.float64)
    yes, read = weights @ pairs
    random = np.random.default_rng(0).poisson(weights, (REPLICATES, len(weights))) @ pairs
    random = random[random[:, 1] > 0]
    low, high = np.quantile(random[:, 0] / random[:, 1], (0.025, 0.975)) if len(random) else (math.nan, math.nan)
    return float(yes / read), None if math.isnan(low) else (float(low), float(high))


def _seconds(images: Images) -> JSON:
    """Median time of the readings, with the order statistics that hold the true one in 95% of samples."""
    times = sorted(answer.seconds for answers in images for answer in answers if answer.seconds > 0)
    count = len(times)
    if not count:
        return {"readings": 0, "median": None, "interval": None}
    reach = 1.96 * math.sqrt(count) / 2
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    interval = (times[low - 1], times[high]) if low >= 1 and high < count else None
    return {"readings": count, "median": float(np.median(times)), "interval": interval}


def _outcomes(shown: Sequence[Shown], finding: str) -> JSON:
    found = Counter(outcome for each in shown if (outcome := each.outcomes.get(finding)))
    return {"suggested": found.total(), "outcomes": {name: found[name] for name in OUTCOMES}}
