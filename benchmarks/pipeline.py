"""Training images of 512 pixels: read, augmented, cues drawn, warped and pooled, collated into batches.

With one finding and with nine, each present in half of the images, in one to three regions. The rival is the least that
any pipeline with interpolation takes: a read from the memory-mapped file and one ``cv2.warpAffine``. The cues of up to
eight findings are packed into the bits of one plane and warped together. With ``data.augment_on=device`` a worker draws
and moves the cues, and hands over the picture as it is; what is left to the device is not measured here. One thread;
cues of lesion pixels (``data.cue=pixels``) are also read from their files, which is not measured here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import albumentations as A
import cv2
import numpy as np
import torch

from benchmarks.measuring import Figure, alternate, of_rounds, ratio, show
from fundusnet.data.augment import Augment, Warp
from fundusnet.data.labels import FindingLabels
from fundusnet.data.loading import collate
from fundusnet.data.regions import REGIONS
from fundusnet.findings.datamodule import FindingsDataset

SIZE, BATCH, ROUNDS = 512, 32, 12
Place = Literal["cpu", "device"]
POINTS = ((370.0, 250.0), (250.0, 260.0))
PRESENT = 0.5  # share of the images that show a finding


def measure() -> Iterator[Figure]:
    """Rates of batches over bare warps, and of albumentations' transforms over ``Warp``."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shape = (2 * BATCH, SIZE, SIZE, 3)
        pixels = np.lib.format.open_memmap(Path(folder) / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        pixels[:] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        yield from _batches(pixels)
    yield from _warps(np.array(pixels[0]))


def _batches(pixels: np.ndarray) -> Iterator[Figure]:
    matrix = np.array([[1.0, 0.1, -20.0], [-0.1, 1.0, 30.0]])

    def bare() -> None:
        for row in range(BATCH):
            cv2.warpAffine(pixels[row], matrix, (SIZE, SIZE))

    def batch(of: FindingsDataset) -> Callable[[], object]:
        return lambda: collate([of[row, 0] for row in range(BATCH)])

    measured: tuple[tuple[str, int, Place, float | None], ...] = (
        ("input pipeline, 1 finding, augmentation on", 1, "cpu", 60.0),
        ("input pipeline, 9 findings, augmentation on", 9, "cpu", None),
        ("a worker's share of it, 1 finding, pictures augmented on the device", 1, "device", None),
        ("a worker's share of it, 9 findings, pictures augmented on the device", 9, "device", None),
    )
    calls = {what: batch(dataset(pixels, count, on)) for what, count, on, _ in measured}
    taken = alternate({"bare": bare, **calls}, ROUNDS)
    for what, _, _, goal in measured:
        share = [100 * a / b for a, b in zip(taken["bare"], taken[what], strict=True)]
        rates = f"{BATCH / np.median(taken[what]):.0f} against {BATCH / np.median(taken['bare']):.0f} a second"
        yield of_rounds(
            what,
            "a memory-mapped read and one cv2.warpAffine",
            share,
            goal=goal,
            unit=" % of its rate",
            detail=rates,
            miss="drawing, warping and pooling the cue, the change of contrast and the copy into the batch",
        )


def _warps(image: np.ndarray) -> Iterator[Figure]:
    affine = A.Affine(
        scale=(0.9, 1.1), rotate=(-15, 15), translate_percent=(-0.05, 0.05), shear={"x": (-5, 5), "y": 0}, p=1
    )
    library = Augment({"hflip": A.HorizontalFlip(p=0.5), "vflip": A.VerticalFlip(p=0), "affine": affine})
    fused = Augment({"warp": Warp()})
    rng = np.random.default_rng(0)
    for count in (1, 9):
        masks = np.zeros((count, SIZE, SIZE), np.uint8)
        masks[:, 200:300, 200:350] = 1
        calls = {
            "ours": lambda masks=masks: [fused(image, masks, rng) for _ in range(BATCH)],
            "theirs": lambda masks=masks: [library(image, masks, rng) for _ in range(BATCH)],
        }
        taken = alternate(calls, ROUNDS)
        what = f"Warp, {count} mask{'s' if count > 1 else ''}"
        yield ratio(what, "flips and affine of albumentations in sequence", taken["ours"], taken["theirs"], goal=1.0)


def default_augment(on: Place) -> Augment:
    """The augmentation of ``conf/data/default.yaml``."""
    gain = A.RandomBrightnessContrast(brightness_limit=0.0, contrast_limit=(-0.2, 0.2), p=1.0)
    return Augment({"warp": Warp(), "gain": gain}, on)


def dataset(pixels: np.ndarray, count: int, on: Place = "cpu") -> FindingsDataset:
    """``count`` findings, each present in half of the images, in one to three regions."""
    rng = np.random.default_rng(count)
    label = (rng.random((len(pixels), count)) < PRESENT).astype(np.float32)
    names = list(REGIONS.values())
    regions = [[frozenset(rng.choice(names, rng.integers(1, 4))) for _ in range(count)] for _ in pixels]
    size = pixels.shape[1]
    points = [tuple((size / SIZE * x, size / SIZE * y) for x, y in POINTS)] * len(pixels)
    prepared: Any = SimpleNamespace(pixels=pixels, size=size)
    findings = tuple(f"finding{number}" for number in range(count))
    labels = FindingLabels(prepared, findings, label, np.ones(label.shape, bool), regions, points)
    return FindingsDataset(prepared, labels, np.arange(len(pixels)), max(1, size // 32), default_augment(on))


if __name__ == "__main__":
    show(measure())
