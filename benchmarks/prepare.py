"""Preparation: photographs per second and core against a full decoding, and peak memory for N and 4 N photographs.

    python benchmarks/prepare.py [FOLDER OF LARGE JPEG FILES]

Without a folder it generates 4288×2848 JPEG files. Prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from fundusnet.data.crop import crop_square, find_field
from fundusnet.data.decode import read_photograph
from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.prepare import prepare
from fundusnet.data.prepare_one import PrepareJob, prepare_one

SIZE = 512
UNKNOWN = (float("nan"),) * 4


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--memory"]:
        print(_peak_mib(Path(sys.argv[2]), int(sys.argv[3])))
        return
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _make(Path(name))
        files = sorted(folder.rglob("*.jpg"))[:40]
        jobs = [
            PrepareJob(n, str(n), str(file.parent), file.name, UNKNOWN, {}, name, SIZE) for n, file in enumerate(files)
        ]
        prepare_one(jobs[0])
        fast, slow = 0.0, 0.0
        # Alternating and in processor time, so that other load on the machine affects both equally.
        for job, file in zip(jobs, files, strict=True):
            start = time.process_time()
            prepare_one(job)
            middle = time.process_time()
            full = read_photograph(file)
            crop_square(full, find_field(full.pixels), SIZE)
            fast, slow = fast + middle - start, slow + time.process_time() - middle
        few, many = (_memory(folder, count) for count in (40, 160))
    rate = len(files) / fast
    print(json.dumps({"images": len(files), "per_second_and_core": round(rate, 1),
                      "times_full_decoding": round(slow / fast, 2),
                      "peak_mib_40": few, "peak_mib_160": many, "peak_ratio": round(many / few, 3)}))  # fmt: skip


def _make(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    pixels = np.zeros((2848, 4288, 3), np.uint8)
    cv2.circle(pixels, (2144, 1424), 1420, (40, 80, 170), -1)
    grain = cv2.resize(rng.integers(0, 60, (712, 1072, 3)).astype(np.uint8), (4288, 2848))
    for number in range(10):
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.add(pixels, np.where(pixels > 0, grain, 0).astype(np.uint8)))
    return folder


def _memory(folder: Path, count: int) -> float:
    """Peak memory of a process that prepares ``count`` photographs, in MiB."""
    out = subprocess.run(
        [sys.executable, __file__, "--memory", str(folder), str(count)], check=True, capture_output=True, text=True
    )
    return float(out.stdout)


def _peak_mib(folder: Path, count: int) -> float:
    files = sorted(folder.rglob("*.jpg"))
    rows: list[dict[str, object]] = [
        {"image_id": str(n), "path": str(files[n % len(files)].relative_to(folder))} for n in range(count)
    ]
    with tempfile.TemporaryDirectory() as name:
        prepare(Manifest(folder, images_table(rows)), Path(name) / "set", size=SIZE)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
