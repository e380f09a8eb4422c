"""The table of growth: what an exponent is, that every step has a row, and that the steps run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks import __main__ as bench
from benchmarks import growth
from benchmarks.measuring import Figure, in_process
from fundusnet.data.prepare_one import read_field

COUNTS = (1000, 10_000, 100_000)
MIB = 2**20


def measured(monkeypatch: pytest.MonkeyPatch, power: dict[str, float], mib: float = 0.0) -> list[Figure]:
    """The table, if each step takes ``(count / 1000) ** power`` seconds, and ``mib`` more for each thousand."""

    def fake(module: str, *words: object, path: Path | None = None) -> dict[str, Any]:
        if module == "benchmarks.annotation_growth":
            assert path is not None and (path / "large_study.py").is_file()
            (count,) = words
            assert isinstance(count, int)
            return {what: (count / 1000) ** power.get(what, 0) for what in growth.SERVER} | {"mib": 200.0}
        step, _, first, *counts = words
        assert first == 50
        sizes = [int(str(count)) / 1000 for count in counts]
        return {"seconds": [n ** power.get(str(step), 1) for n in sizes], "mib": [300 + mib * n for n in sizes]}

    monkeypatch.setattr(growth, "in_process", fake)
    monkeypatch.setattr(growth, "make_studies", lambda place, counts: None)
    return list(growth.measure(COUNTS, first=50))


def test_a_step_whose_time_grows_with_the_square_misses_the_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {each.what: each for each in measured(monkeypatch, {"evaluate": 2, "restart": 1.5})}
    squared, linear, restart = (
        table[f"growth: fundusnet {name}"] for name in ("evaluate", "report", "annotate, restart")
    )
    assert math.isclose(squared.value, 2) and squared.reached is False
    assert math.isclose(linear.value, 1) and linear.reached is True
    assert math.isclose(restart.value, 1.5) and restart.reached is False
    assert squared.against == "1,000, 10,000, 100,000 photographs"
    assert squared.detail == "1.0 s, 100.0 s, 10000.0 s; 300, 300, 300 MiB"
    assert table["growth: fundusnet annotate, next image"].value == 0


def test_every_step_of_a_study_has_a_row_and_flat_memory_is_a_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {each.what: each for each in measured(monkeypatch, {}, mib=0.5)}
    resumed = "predict, resumed with every row there"
    for verb in ("prepare", "train", "evaluate", "report", resumed):
        assert f"growth: fundusnet {verb}" in table
        memory = table[f"peak memory of fundusnet {verb}, 100,000 photographs"]
        assert math.isclose(memory.value, 350 / 300.5) and memory.reached is False
    assert table["growth: fundusnet predict"].against == "1,000, 10,000 photographs"
    assert table["peak memory of fundusnet predict, 10,000 photographs"].reached
    for what in ("restart", "overview", "next image"):
        assert table[f"growth: fundusnet annotate, {what}"].detail.endswith("; 200, 200, 200 MiB")
    one_camera = table["growth: search for duplicates, eyes before one camera"]
    assert one_camera.against == "1,000, 10,000 photographs"  # a hundred times the pairs would take minutes


def test_the_page_lists_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [vars(each) for each in measured(monkeypatch, {"prepare": 1.5})]
    page = bench.page({"growth": {"figures": figures, "minutes": 1.0, "on": "here"}})
    assert "| growth: fundusnet annotate, overview | 1,000, 10,000, 100,000 photographs |" in page
    assert "- Missed: *growth: fundusnet prepare* by 36 %." in page


def test_photographs_of_a_study_differ_share_files_and_are_decoded_once(tmp_path: Path) -> None:
    growth.make_studies(tmp_path, (3, 6))
    few, many = (tmp_path / name / "photographs" for name in ("3", "6"))
    assert [file.name for file in sorted(few.glob("*.jpg"))] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    assert (few / "000002.jpg").samefile(many / "000002.jpg")
    pictures = [cv2.imread(str(file)) for file in sorted(many.glob("*.jpg"))]
    assert len({picture.tobytes() for picture in pictures}) == 6
    photograph, (left, top, right, bottom) = read_field(few / "000000.jpg", growth.SIZE)
    assert photograph.reduction == 1
    assert min(right - left, bottom - top) >= growth.SIZE


PEAKS = """
import json, mmap, sys
import numpy as np
from benchmarks.measuring import PeakMemory

with PeakMemory() as before:
    pass
with PeakMemory() as mapped, open(sys.argv[1], "rb") as stream:
    pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    assert np.frombuffer(pages, np.uint8).sum() == 0  # every page is in memory now
with PeakMemory() as held:
    array = np.ones(64 << 20, np.uint8)
print(json.dumps({"mapped": mapped.mib - before.mib, "held": held.mib - before.mib}))
"""


def test_peak_memory_is_what_the_process_holds_and_no_page_of_a_file(tmp_path: Path) -> None:
    """In a process of its own: what other tests leave behind may be freed at any time."""
    file = tmp_path / "zeros"
    file.write_bytes(bytes(64 * MIB))
    (tmp_path / "peaks.py").write_text(PEAKS)
    peak = in_process("peaks", file, path=tmp_path)
    assert peak["mapped"] < 16
    assert 56 < peak["held"] < 100


def test_what_is_measured_in_a_process_may_import_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text("import sys, json; print('noise'); print(json.dumps({'words': sys.argv[1:]}))")
    assert in_process("answers", "a", 2, path=tmp_path) == {"words": ["a", "2"]}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_steps_run() -> None:
    figures = list(growth.measure((60, 120, 240), first=40))
    assert len(figures) == 2 * (len(growth.COMMANDS) + 1) + 3 + len(growth.SERVER)
    for each in figures:
        assert math.isfinite(each.value), each
        assert json.dumps(vars(each))
