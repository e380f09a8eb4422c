"""A graded prepared set small enough to make in a test: the grade is how red the picture is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.prepare import prepare
from fundusnet.data.prepared import PreparedSet

CLASSES = ("normal", "suspicious", "glaucoma")
SIZE = 64


def graded_set(
    folder: Path,
    grades: Sequence[int | None],
    classes: tuple[str, ...] = CLASSES,
    patients: Sequence[str] | None = None,
) -> PreparedSet:
    """A photograph for each of ``grades`` (None = unknown), two a patient unless ``patients`` says whose."""
    rng = np.random.default_rng(0)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for number, grade in enumerate(grades):
        # Coarse noise makes no two pictures near-identical.
        noise = cv2.resize(rng.integers(60, 200, (8, 8, 3), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
        picture = np.maximum(noise, 50)
        picture[..., 2] = np.clip(picture[..., 2] / 2 + 60 * (grade or 0), 50, 255)
        cv2.imwrite(str(raw / f"{number:03d}.png"), picture)
        patient = f"patient{number // 2:03d}"
        rows.append(
            {"image_id": f"image{number:03d}", "path": f"{number:03d}.png", "patient_id": patient, "grade": grade}
        )
    return prepare(Manifest(raw, images_table(rows), classes=classes), folder / "prepared", size=SIZE)
