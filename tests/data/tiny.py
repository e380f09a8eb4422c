"""A prepared set small enough to make in a test: drawn discs, whole patients, known lesions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fundusnet.data.manifest import LESION_COLUMNS, Manifest, images_table
from fundusnet.data.prepare import prepare
from fundusnet.data.prepared import PreparedSet

FINDINGS = ("drusen", "hemorrhage")
SIZE = 64


def tiny_prepared(folder: Path, images: int = 24, seed: int = 0) -> PreparedSet:
    """``images`` photographs of ``images // 2`` patients under ``folder``, prepared at 64 pixels.

    Drusen are present in images 0, 2, 4 … and absent in the others, hemorrhages present in two of every four, each a
    square lesion; the last image is examined for nothing.
    """
    rng = np.random.default_rng(seed)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    yy, xx = np.mgrid[:96, :96]
    field = (xx - 47.5) ** 2 + (yy - 47.5) ** 2 < 46**2
    rows, lesions = [], []
    for number in range(images):
        # Coarse noise makes no two pictures near-identical.
        noise = cv2.resize(rng.integers(60, 255, (8, 8, 3), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(raw / f"{number:02d}.png"), np.where(field[..., None], np.maximum(noise, 50), 0))
        rows.append(
            {
                "image_id": f"image{number:02d}",
                "path": f"{number:02d}.png",
                "patient_id": f"patient{number // 2:02d}",
                "disc_x": 70.0,
                "disc_y": 48.0,
                "fovea_x": 40.0,
                "fovea_y": 50.0,
            }
        )
        if number == images - 1:
            continue
        for finding, present in zip(FINDINGS, (number % 2 == 0, number % 4 < 2), strict=True):
            path = f"{finding}{number:02d}.png" if present else ""
            if present:
                mask = np.zeros((96, 96), dtype=np.uint8)
                x, y = rng.integers(25, 60, size=2)
                mask[y : y + 9, x : x + 9] = 255
                cv2.imwrite(str(raw / path), mask)
            lesions.append((f"image{number:02d}", finding, path))
    manifest = Manifest(raw, images_table(rows), lesions=pd.DataFrame(lesions, columns=list(LESION_COLUMNS)))
    return prepare(manifest, folder / "prepared", size=SIZE)
