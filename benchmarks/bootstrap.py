"""A 95% interval of an AUROC from resampled patients, against a loop over scikit-learn's ``roc_auc_score``."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.measuring import Figure, alternate, once, ratio, show
from fundusnet.evaluation.intervals import auroc, bootstrap

IMAGES, PATIENTS, DRAWS = 15451, 7726, 2000
LOOPS = 100  # of the loop; its time is proportional to their number


def measure() -> Iterator[Figure]:
    """Speed, and the largest difference of the two intervals."""
    generator = np.random.default_rng(0)
    patient = generator.integers(0, PATIENTS, IMAGES)
    label = (generator.random(IMAGES) < 0.2).astype(float)
    score = 0.7 * generator.random(IMAGES) + 0.4 * label
    rows = np.split(np.argsort(patient, kind="stable"), np.cumsum(np.bincount(patient, minlength=PATIENTS))[:-1])
    drawn: list[float] = []

    def ours() -> object:
        return bootstrap(auroc(label, score), patient, n=DRAWS)

    def loop() -> None:
        for _ in range(LOOPS):
            chosen = np.concatenate([rows[who] for who in generator.integers(0, PATIENTS, PATIENTS)])
            drawn.append(float(roc_auc_score(label[chosen], score[chosen])))

    taken = alternate({"ours": ours, "loop": loop}, rounds=5, clock=time.process_time)
    theirs = [seconds * DRAWS / LOOPS for seconds in taken["loop"]]
    what = f"bootstrap interval of an AUROC, {IMAGES:,} images, {DRAWS:,} draws of patients"
    yield ratio(what, "a loop over scikit-learn's roc_auc_score", taken["ours"], theirs, goal=50.0)
    interval = bootstrap(auroc(label, score), patient, n=DRAWS)
    edges = np.quantile(drawn, (0.025, 0.975))
    off = float(np.abs(edges - (interval.low, interval.high)).max() / (edges[1] - edges[0]))
    yield once("the same", f"difference of the edges from those of {len(drawn)} draws of the loop", 100 * off,
               unit=" % of the interval's width", goal=10.0, limit=True)  # fmt: skip


if __name__ == "__main__":
    show(measure())
