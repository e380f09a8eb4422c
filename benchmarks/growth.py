"""Time and memory of each step of a study as the number of photographs grows: linear or better.

Photographs of 96×64 pixels, prepared at 32, so that what is done once for each photograph is cheap and what grows with
their number shows; each step is a command in a process of its own. Where pictures are not the point, rows alone: the
search for duplicates among random fingerprints, and the metrics of random grades with 2,000 resamples. Processor time;
the exponent is that of the last tenfold growth, and 1 is linear. What a command spends in any case lowers it.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

import fundusnet
from benchmarks.measuring import Figure, in_process, once, peak_mib, show
from benchmarks.prepare import make_photographs
from fundusnet.data.duplicates import duplicate_groups
from fundusnet.grading.statistics import grading_metrics

PICTURES, ROWS = (400, 4000), (1000, 10000, 100000)
ONE_CAMERA = 0.146  # of bits flipped, so that hashes of one pair in a hundred differ in at most eight
LINEAR = 1.1  # the most an exponent may be
GRADES = ("normal", "suspicious", "glaucoma")
CLOSE = "one pair in a hundred has close hashes, as among the photographs of IDRiD, and each takes 5 µs"
COMMANDS = ("prepare", "train", "evaluate", "report")


def measure() -> Iterator[Figure]:
    """The exponent of time and the peak memory of each step."""
    spent: dict[str, list[dict[str, float]]] = {command: [] for command in COMMANDS}
    for count in PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder), count)
            for command in COMMANDS:
                spent[command].append(in_process("benchmarks.growth", command, folder))
    for command in COMMANDS:
        yield _grown(f"fundusnet {command}", PICTURES, spent[command])
    for what, name, counts, miss in (
        ("duplicates", "search for duplicates", ROWS, ""),
        ("one_camera", "search for duplicates, eyes before one camera", ROWS[:2], CLOSE),
        ("metrics", "metrics of grades", ROWS, ""),
    ):
        yield _grown(name, counts, [in_process("benchmarks.growth", what, count) for count in counts], miss)


def _grown(what: str, counts: tuple[int, ...], spent: list[dict[str, float]], miss: str = "") -> Figure:
    seconds, memory = ([each[key] for each in spent] for key in ("seconds", "mib"))
    numbers, times, peaks = (", ".join(each) for each in (
        [f"{count:,}" for count in counts], [f"{s:.1f}" for s in seconds], [f"{m:.0f}" for m in memory],
    ))  # fmt: skip
    return once(f"growth: {what}", f"{numbers} photographs", math.log10(seconds[-1] / seconds[-2]), goal=LINEAR,
                limit=True, unit=" (exponent)", detail=f"{times} s; {peaks} MiB", miss=miss)  # fmt: skip


def _make(folder: Path, count: int) -> None:
    cv2.setNumThreads(1)
    (folder / "photographs").mkdir()
    make_photographs(folder / "photographs", count, width=96)
    numbers = np.arange(count)
    pd.DataFrame(
        {
            "image_id": [f"{number:06d}" for number in numbers],
            "path": [f"{number:06d}.jpg" for number in numbers],
            "patient_id": numbers // 2,
            "grade": np.random.default_rng(0).integers(0, len(GRADES), count),
        }
    ).to_csv(folder / "photographs" / "images.csv", index=False)


def _command(name: str, folder: Path) -> Callable[[], object]:
    data = ["data=csv", f"data.root={folder}/photographs", f"data.folder={folder}/set", "data.size=32"]
    train = ["experiment=quickstart_grading", *data, "model=ranking", "trainer.max_epochs=1", f"run_dir={folder}/run"]
    again = [f"run={folder}/run", "split=test", f"output={folder}/again"]
    report = [f"runs={folder}/again", f"output={folder}/report.html"]
    return {
        "prepare": lambda: fundusnet.prepare(fundusnet.compose([*data, "data.workers=0"], "prepare")),
        "train": lambda: fundusnet.train(fundusnet.compose(train)),
        "evaluate": lambda: fundusnet.evaluate(fundusnet.compose(again, "evaluate")),
        "report": lambda: fundusnet.report(fundusnet.compose(report, "report")),
    }[name]


def _duplicates(count: int, flipped: float = 0.5) -> None:
    """Search among fingerprints whose hashes differ from one by each bit with this probability."""
    rng = np.random.default_rng(0)
    hashes = np.packbits(rng.random((count, 64)) < flipped, axis=1).view(np.uint64).ravel()
    structures = rng.standard_normal((count, 1024)).astype(np.float16) / 32
    duplicate_groups(hashes, structures, np.zeros((count, 1, 1, 3), np.uint8))


def _metrics(count: int) -> None:
    rng = np.random.default_rng(0)
    p = np.sort(rng.random((count, 2)), axis=1)[:, ::-1]
    table = pd.DataFrame({"image_id": np.arange(count).astype(str), "patient_id": (np.arange(count) // 2).astype(str),
                          "grade": rng.integers(0, 3, count), "predicted": (p > 0.5).sum(axis=1),
                          "p_gt_0": p[:, 0], "p_gt_1": p[:, 1]})  # fmt: skip
    grading_metrics(table, GRADES, n=2000)


def _step(name: str, argument: str) -> dict[str, float]:
    rows = {"duplicates": _duplicates, "one_camera": partial(_duplicates, flipped=ONE_CAMERA), "metrics": _metrics}
    work = (lambda: rows[name](int(argument))) if name in rows else _command(name, Path(argument))
    start = time.process_time()
    work()
    return {"seconds": time.process_time() - start, "mib": peak_mib()}


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(_step(*sys.argv[1:])))
    else:
        show(measure())
