"""A study of the paper's size from its first day to its last, with everything that goes wrong, and how fast it is then.

``PYTHONPATH=tests/annotation python benchmarks/annotation_study.py [PHOTOGRAPHS [CLICKS]]`` runs
``tests/annotation/simulated_study.py``: 66,473 photographs, 27 readers of the training set and 25 of the test set,
three readings of each photograph; people who join and leave, folders that move, 20 kills. CLICKS answers of each round
are sent to the real server, all others are written into its database. Exits with status 1 if an answer is missing,
shares of active readers differ by more than 5 %, or a goal of ``GOALS`` is missed by the clock.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from large_study import measure, print_figures
from simulated_study import SimulatedStudy

LARGEST_SPREAD = 0.05


def main() -> int:
    """Simulate, check and measure; 0 if everything is as it should be."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 66_473
    clicks = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        study = SimulatedStudy(Path(name), count, clicks)
        try:
            study.live()
            spread = study.check()
            print(f"{time.perf_counter() - start:.0f} s for {len(study.acknowledged)} answers, all there")
            print(
                "shares of active readers differ by " + ", ".join(f"{100 * s:.1f} % ({g})" for g, s in spread.items())
            )
            study.server.kill()
            study.start()
            found = {"restart": study.restarts[-1]}
            found |= measure(study.server, study.adjudicator, study.people["general01"].page)
        finally:
            study.server.kill()
    missed = print_figures(found)
    print("load", *(f"{load:.1f}" for load in os.getloadavg()))
    return int(missed or max(spread.values()) > LARGEST_SPREAD)


if __name__ == "__main__":
    sys.exit(main())
