"""A tenth of a study of the paper's size, from its first day to its last; a benchmark runs one of its full size."""

from __future__ import annotations

from pathlib import Path

import pytest
from large_study import GOALS, measure
from simulated_study import SimulatedStudy


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_study_survives_its_people_its_folders_and_twenty_kills(tmp_path: Path) -> None:
    study = SimulatedStudy(tmp_path, photographs=6647, clicks=100)
    try:
        study.live()
        assert len(study.restarts) == 21
        spread = study.check()
        took = measure(study.server, study.adjudicator, study.people["general01"].page)
    finally:
        study.server.kill()
    assert max(spread.values()) <= 0.05
    # Processor time, because seconds by the clock are those of a machine that does nothing else.
    assert max(each.processor for each in study.restarts) < GOALS["restart"]
    for name in ("overview", "case", "next image"):
        assert took[name].processor < GOALS[name], name
    assert max(study.memory) < 1.2 * study.memory[0]
