"""Preparation of large photographs, 4288×2858 pixels at 512, against a full decoding of the same files.

A JPEG is shrunk while it is decoded, by the largest power of two that the prepared size allows. Memory is the peak of a
process that prepares N photographs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring import Figure, in_process, once, peak_mib, ratio, show
from fundusnet.data.crop import crop_square, find_field
from fundusnet.data.decode import read_photograph
from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.prepare import prepare
from fundusnet.data.prepare_one import PrepareJob, prepare_one

SIZE = 512
UNKNOWN = (float("nan"),) * 4
FEW, MANY = 40, 160


def measure() -> Iterator[Figure]:
    """Speed, and growth of memory."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = make_photographs(Path(name), 10)
        files = sorted(folder.glob("*.jpg"))
        jobs = [
            PrepareJob(n, str(n), str(file.parent), file.name, UNKNOWN, {}, name, SIZE) for n, file in enumerate(files)
        ]
        prepare_one(jobs[0])
        fast, slow = [], []
        for job, file in zip(2 * jobs, 2 * files, strict=True):
            start = time.process_time()
            prepare_one(job)
            middle = time.process_time()
            full = read_photograph(file)
            crop_square(full, find_field(full.pixels), SIZE)
            fast.append(middle - start)
            slow.append(time.process_time() - middle)
        yield ratio(f"prepare a photograph of 4288×2858 at {SIZE}", "decode all of it, crop, resize", fast, slow)
    with tempfile.TemporaryDirectory() as name:
        folder = make_photographs(Path(name), MANY, width=768)
        peaks = {count: in_process("benchmarks.prepare", folder, count)["mib"] for count in (FEW, MANY)}
    yield once(f"peak memory of prepare, {MANY} photographs", f"{FEW} photographs", peaks[MANY] / peaks[FEW], goal=1.1,
               limit=True, detail=f"{peaks[MANY]:.0f} against {peaks[FEW]:.0f} MiB")  # fmt: skip


def make_photographs(folder: Path, count: int, width: int = 4288) -> Path:
    """Different photographs: a smooth pattern and noise within a field of view."""
    height = 2 * width // 3
    rng = np.random.default_rng(0)
    disc = np.zeros((height, width, 3), np.uint8)
    cv2.circle(disc, (width // 2, height // 2), height // 2 - 4, (40, 80, 170), -1)
    for number in range(count):
        grain = rng.integers(0, 60, (height // 4, width // 4, 3)).astype(np.uint8)
        pattern = cv2.resize(rng.integers(0, 60, (6, 9, 3)).astype(np.uint8), (width, height))
        grain = cv2.add(pattern, cv2.resize(grain, (width, height)))
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), cv2.add(disc, np.where(disc > 0, grain, 0).astype(np.uint8)))
    return folder


def _peak_mib(folder: Path, count: int) -> float:
    files = sorted(folder.glob("*.jpg"))
    rows: list[dict[str, object]] = [{"image_id": str(n), "path": file.name} for n, file in enumerate(files[:count])]
    with tempfile.TemporaryDirectory() as name:
        prepare(Manifest(folder, images_table(rows)), Path(name) / "set", size=SIZE)
    return peak_mib()


if __name__ == "__main__":
    if sys.argv[1:]:
        print(f'{{"mib": {_peak_mib(Path(sys.argv[1]), int(sys.argv[2]))}}}')
    else:
        show(measure())
