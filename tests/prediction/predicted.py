"""Output folders of ``fundusnet predict`` with made-up predictions and drawn photographs; no network is needed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fundusnet.data.crop import Frame
from fundusnet.prediction.output_files import PREDICTIONS, REJECTED, REJECTED_COLUMNS, write_record
from fundusnet.prediction.page_pictures import PICTURES, PagePictures
from fundusnet.prediction.preparation import PreparedPhotograph

SIZE = 64
WIDE, HIGH = 300, 200  # pixels of a photograph; the field of view is the square in its middle
FINDINGS = {"drusen": 0.5, "hemorrhage": 0.2}
ABOUT = ("image_id", "path", "patient_id", "eye")


def seen_photograph() -> PreparedPhotograph:
    """The photograph in the frame of a network of ``SIZE`` pixels: its middle 200 × 200."""
    scale = SIZE / HIGH
    frame = Frame(scale, 0.5 * scale - 50 * scale - 0.5, 0.5 * scale - 0.5)
    return PreparedPhotograph({SIZE: np.zeros((SIZE, SIZE, 3), np.uint8)}, {SIZE: frame}, WIDE, HIGH, ())


def found_findings(
    folder: Path, probabilities: Sequence[tuple[float, float]], *, pictures: bool = True, enlarged: int = 1
) -> Path:
    """Photographs eye00, eye01 …, two of each patient, with these probabilities of drusen and hemorrhage."""
    (folder / PICTURES).mkdir(parents=True)
    rows = []
    for number, each in enumerate(probabilities):
        name = f"eye{number:02d}"
        about = (name, f"{name}.jpg", f"P{number // 2}", ("right", "left")[number % 2])
        flags = "blurred" if number == 1 else ""
        for (finding, level), p in zip(FINDINGS.items(), each, strict=True):
            where = "macula;disc_superior" if number == 0 and p >= level else ""
            rows.append((*about, finding, p, int(p >= level), "", 1, where, flags))
        if pictures:
            pixels = np.full((enlarged * HIGH, enlarged * WIDE, 3), (150, 70, 30), np.uint8)
            maps = {finding: np.full((8, 8), p, np.float32) for finding, p in zip(FINDINGS, each, strict=True)}
            points = None if number else ((190.0, 90.0), (120.0, 100.0))  # of the first only
            PagePictures(FINDINGS).write(folder / PICTURES, name, pixels, seen_photograph(), SIZE, maps, points)
    columns = (*ABOUT, "finding", "probability", "predicted", "calibrated", "networks", "regions", "flags")
    _write(folder / PREDICTIONS, columns, rows)
    record = _record(folder) | {
        "task": "findings",
        "findings": [{"name": name, "operating_point": level, "networks": 1} for name, level in FINDINGS.items()],
    }
    write_record(folder, record)
    return folder


def found_grades(folder: Path, p: Sequence[tuple[float, float]], classes: Sequence[str]) -> Path:
    """Photographs eye00 … of the grades that these probabilities of "grade > k" give, with masks."""
    (folder / PICTURES).mkdir(parents=True)
    rows = []
    for number, each in enumerate(p):
        grade = sum(value > 0.5 for value in each)
        rows.append(
            (f"eye{number:02d}", f"eye{number:02d}.jpg", "", "", grade, classes[grade], 0, *each, "", "", 1, "")
        )
        mask = {"": np.full((8, 8), 0.5, np.float32)}
        pixels = np.full((HIGH, WIDE, 3), 90, np.uint8)
        PagePictures().write(folder / PICTURES, f"eye{number:02d}", pixels, seen_photograph(), SIZE, mask)
    columns = (*ABOUT, "predicted", "class", "stage1_predicted", "p_gt_0", "p_gt_1")
    _write(folder / PREDICTIONS, (*columns, "calibrated_gt_0", "calibrated_gt_1", "networks", "flags"), rows)
    write_record(folder, _record(folder) | {"task": "grading", "classes": list(classes)})
    return folder


def _record(folder: Path) -> dict[str, object]:
    network = {"file": "best.ckpt", "sha256": "0123456789abcdef", "names": list(FINDINGS), "size": SIZE}
    versions = {"fundusnet": "1.0", "torch": "2.6"}
    return {"state": "done", "input": str(folder), "photographs": 1, "checkpoints": [network], "versions": versions}


def _write(file: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    (file.parent / REJECTED).write_text(",".join(REJECTED_COLUMNS) + "\n")
