"""Time and memory of each step of a study as the number of photographs grows: linear or better.

Photographs of 48×48 pixels, prepared at 32, so that what is done once for each photograph is cheap and what grows with
their number shows. Each command runs in a process of its own, at first on a few photographs, which loads what it needs
and does not count, then at each size; a training is one epoch, and `evaluate` and `report` are about the test split, a
fifth of the photographs. Beside the commands, rows alone: what `predict` does for all photographs together, from their
list to the page, with each in its table already; the search for duplicates among random fingerprints; and the metrics
of random grades with 2,000 resamples. Then `fundusnet annotate`, with three readings of each photograph by 52
readers: how long the server takes to start again, and to answer what pages ask for.

Processor time; the exponent is that of the last tenfold growth, and 1 is linear. What a step spends in any case lowers
it. Memory is the peak of what the process holds itself, without the pages of mapped files, which the system takes back.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.measuring import Figure, PeakMemory, in_process, once, show

COUNTS = (1000, 10_000, 100_000)
FIRST = 200  # photographs of the run that does not count
ONE_CAMERA = 0.146  # of bits flipped, so that hashes of one pair in a hundred differ in at most eight
LINEAR = 1.1  # the most an exponent may be
FLAT = 1.1  # the most by which the memory of the last count may exceed that of the first
SIDE, SIZE = 48, 32  # pixels, of the photographs and prepared: each is decoded once, at its full size
GRADES = ("normal", "suspicious", "glaucoma")
CLOSE = "one pair in a hundred has close hashes, as among the photographs of IDRiD, and each takes 5 µs"
COMMANDS = ("prepare", "train", "evaluate", "report", "predict")
STUDIES = Path(__file__).resolve().parent.parent / "tests" / "annotation"  # what makes studies of any size
SERVER = ("restart", "overview", "next image", "image and save")


def measure(counts: Sequence[int] = COUNTS, first: int = FIRST) -> Iterator[Figure]:
    """The exponent of time and the peak memory of each step."""
    with tempfile.TemporaryDirectory() as name:
        place, memory = Path(name), list[Figure]()
        make_studies(place, (first, *counts))
        for step, sizes in {**dict.fromkeys(COMMANDS, counts), "predict": counts[:-1], "predict_again": counts}.items():
            spent = in_process("benchmarks.growth", step, place, first, *sizes)
            command = f"fundusnet {step}" if step in COMMANDS else "fundusnet predict, resumed with every row there"
            yield _grown(command, sizes, **spent)
            memory.append(_flat(command, sizes, spent["mib"]))
        yield from memory
    for what, name, sizes, miss in (
        ("duplicates", "search for duplicates", counts, ""),
        ("one_camera", "search for duplicates, eyes before one camera", counts[:-1], CLOSE),
        ("metrics", "metrics of grades", counts, ""),
    ):
        yield _grown(name, sizes, **in_process("benchmarks.growth", what, "", first, *sizes), miss=miss)
    served = [in_process("benchmarks.annotation_growth", count, path=STUDIES) for count in counts]
    for what in SERVER:
        yield _grown(f"fundusnet annotate, {what}", counts, *([each[key] for each in served] for key in (what, "mib")))


def _grown(what: str, counts: Sequence[int], seconds: list[float], mib: list[float], miss: str = "") -> Figure:
    numbers, times, peaks = (", ".join(each) for each in (
        [f"{count:,}" for count in counts], [_short(s) for s in seconds], [f"{m:.0f}" for m in mib],
    ))  # fmt: skip
    before, last = (max(each, 1e-4) for each in seconds[-2:])  # that of a server comes in steps, and may be 0
    exponent = math.log(last / before) / math.log(counts[-1] / counts[-2])
    return once(f"growth: {what}", f"{numbers} photographs", exponent, goal=LINEAR, limit=True, unit=" (exponent)",
                detail=f"{times}; {peaks} MiB", miss=miss)  # fmt: skip


def _flat(what: str, counts: Sequence[int], mib: list[float]) -> Figure:
    each = 1024 * (mib[-1] - mib[0]) / (counts[-1] - counts[0])
    return once(f"peak memory of {what}, {counts[-1]:,} photographs", f"{counts[0]:,} photographs",
                mib[-1] / mib[0], goal=FLAT, limit=True, detail=f"{mib[-1]:.0f} against {mib[0]:.0f} MiB",
                miss=f"{each:.1f} KiB of each photograph")  # fmt: skip


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def make_studies(place: Path, counts: Sequence[int]) -> None:
    """Make a folder with photographs and their grades for each of ``counts``; they share files."""
    cv2.setNumThreads(1)
    drawn = _draw(place / "drawn", max(counts))
    for count in counts:
        folder = place / str(count) / "photographs"
        folder.mkdir(parents=True)
        for file in drawn[:count]:
            (folder / file.name).hardlink_to(file)
        table = {
            "image_id": [file.stem for file in drawn[:count]],
            "path": [file.name for file in drawn[:count]],
            "patient_id": [f"p{number // 2}" for number in range(count)],
            "grade": np.random.default_rng(0).integers(0, len(GRADES), count),
        }
        pd.DataFrame(table).to_csv(folder / "images.csv", index=False)


def _draw(folder: Path, count: int) -> list[Path]:
    """Photographs, each different: a smooth pattern and noise within a round field."""
    rng = np.random.default_rng(0)
    field = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (SIDE // 2, SIDE // 2), SIDE // 2 - 2, 1, -1)[..., None]
    folder.mkdir()
    files = [folder / f"{number:06d}.jpg" for number in range(count)]
    for file in files:
        pattern = cv2.resize(rng.integers(40, 160, (6, 6, 3), dtype=np.uint8), (SIDE, SIDE))
        cv2.imwrite(str(file), (pattern + rng.integers(0, 40, (SIDE, SIDE, 1), dtype=np.uint8)) * field)
    return files


def _command(step: str, folder: Path, first: Path) -> Callable[[], object]:
    """The command of a step in the study in ``folder``; ``first`` is the study of the run that does not count."""
    data = ["data=csv", f"data.root={folder}/photographs", f"data.folder={folder}/set", f"data.size={SIZE}"]
    train = ["experiment=quickstart_grading", *data, "model=ranking", "model.head=multiclass"]
    predict = [f"checkpoint={first}/run", f"input={folder}/photographs", f"output={folder}/predictions", "device=cpu",
               "workers=0", "batch_size=64", "heatmaps.draw=false", "report.pictures=0"]  # fmt: skip
    words = {
        "prepare": [*data, "data.workers=0"],
        "train": [*train, "data.batch_size=256", "trainer.max_epochs=1", f"run_dir={folder}/run"],
        "evaluate": [f"run={folder}/run", "split=test", f"output={folder}/again"],
        "report": [f"runs={folder}/again", f"output={folder}/report.html"],
        "predict": predict,
        "predict_again": predict,
    }[step]
    if step == "predict_again":
        _write_predictions(folder, first / "predictions")
    import fundusnet

    verb = step.partition("_")[0]
    return lambda: getattr(fundusnet, verb)(fundusnet.compose(words, verb))


def _write_predictions(folder: Path, finished: Path) -> None:
    """Leave the study in ``folder`` as a kill before the page would; its rows are those of ``finished`` in turns."""
    from fundusnet.prediction.inputs import digest, find_inputs
    from fundusnet.prediction.output_files import PREDICTIONS, read_record, write_record

    root, entries = find_inputs(folder / "photographs")
    record = read_record(finished) | {"state": "running", "photographs": len(entries), "digest": digest(root, entries)}
    rows = pd.read_csv(finished / PREDICTIONS, dtype=str, keep_default_na=False)
    rows = rows.iloc[np.arange(len(entries)) % len(rows)]
    names = {name: [getattr(entry, name) for entry in entries] for name in ("image_id", "path", "patient_id")}
    output = folder / "predictions"
    output.mkdir(exist_ok=True)
    rows.assign(**names).to_csv(output / PREDICTIONS, index=False)
    write_record(output, record)


def _duplicates(count: int, flipped: float = 0.5) -> None:
    """Search among fingerprints whose hashes differ from one by each bit with this probability."""
    from fundusnet.data.duplicates import duplicate_groups

    rng = np.random.default_rng(0)
    hashes = np.packbits(rng.random((count, 64)) < flipped, axis=1).view(np.uint64).ravel()
    structures = rng.standard_normal((count, 1024), dtype=np.float32).astype(np.float16) / 32
    duplicate_groups(hashes, structures, np.zeros((count, 1, 1, 3), np.uint8))


def _metrics(count: int) -> None:
    from fundusnet.grading.statistics import grading_metrics

    rng = np.random.default_rng(0)
    p = np.sort(rng.random((count, 2)), axis=1)[:, ::-1]
    table = pd.DataFrame({"image_id": np.arange(count).astype(str), "patient_id": (np.arange(count) // 2).astype(str),
                          "grade": rng.integers(0, 3, count), "predicted": (p > 0.5).sum(axis=1),
                          "p_gt_0": p[:, 0], "p_gt_1": p[:, 1]})  # fmt: skip
    grading_metrics(table, GRADES, n=2000)


def _steps(name: str, place: Path, counts: Sequence[int]) -> dict[str, list[float]]:
    """Processor seconds and peak memory of a step at each count but the first."""
    rows = {"duplicates": _duplicates, "one_camera": partial(_duplicates, flipped=ONE_CAMERA), "metrics": _metrics}
    spent: dict[str, list[float]] = {"seconds": [], "mib": []}
    for number, count in enumerate(counts):
        places = place / str(count), place / str(counts[0])
        work = partial(rows[name], count) if name in rows else _command(name, *places)
        gc.collect()
        with PeakMemory() as memory:
            start = time.process_time()
            work()
            seconds = time.process_time() - start
        if number:
            spent["seconds"].append(seconds)
            spent["mib"].append(memory.mib)
    return spent


if __name__ == "__main__":
    if sys.argv[1:]:
        step, folder, *counts = sys.argv[1:]
        print(json.dumps(_steps(step, Path(folder), [int(count) for count in counts])))
    else:
        show(measure())
