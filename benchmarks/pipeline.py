"""Training images per second and core: read, augmented, cues drawn, warped and pooled, collated into batches.

``python benchmarks/pipeline.py`` prints the rates with one finding and with nine, the time of each step, and the time
of albumentations' own flips and affine transform relative to ``Warp``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch

from fundusnet.data.augment import Augment, Warp
from fundusnet.data.labels import FindingLabels
from fundusnet.data.loading import collate
from fundusnet.data.regions import REGIONS
from fundusnet.findings.datamodule import FindingsDataset, pool

SIZE, BATCH, ROUNDS, GOAL = 512, 32, 8, 120
POINTS = ((370.0, 250.0), (250.0, 260.0))
PRESENT = 0.5  # share of the images that show a finding


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    one, nine = dataset(pixels, 1), dataset(pixels, 9)
    augment = default_augment()
    single, most = (int(of.labels.label.sum(axis=1).argmax()) for of in (one, nine))
    planes = {1: one.labels.packed_cue(single), 9: nine.labels.packed_cue(most)}
    matrix = np.array([[1.0, 0.1, -20.0], [-0.1, 1.0, 30.0]])

    def batch(of: FindingsDataset) -> Callable[[], object]:
        return lambda: collate([of[row, 0] for row in range(BATCH)])

    steps: dict[str, tuple[Callable[[], object], float]] = {
        "bare warp of an image": (lambda: cv2.warpAffine(pixels[0], matrix, (SIZE, SIZE)), 1),
        "augment, no cue": (lambda: augment(pixels[0], planes[1][:0], np.random.default_rng(0)), 1),
        "augment, 1 cue": (lambda: augment(pixels[0], planes[1], np.random.default_rng(0)), 1),
        "augment, 9 cues": (lambda: augment(pixels[0], planes[9], np.random.default_rng(0)), 1),
        "draw the cues of 9": (lambda: nine.labels.packed_cue(most), 1),
        "pool the cues of 9": (lambda: pool(planes[9], SIZE // 32), 1),
        "everything, 1 finding": (batch(one), BATCH),
        "everything, 9 findings": (batch(nine), BATCH),
    }
    seconds = alternate({name: call for name, (call, _) in steps.items()})
    warp = seconds["bare warp of an image"]
    for name, (_, images) in steps.items():
        each = seconds[name] / images
        rate = f" = {1 / each:.0f} images per second and core (goal {GOAL})" if images > 1 else ""
        print(f"{name:24s}{1000 * each:6.2f} ms, {each / warp:4.1f} bare warps{rate}")
    compare_warps(pixels[0])


def compare_warps(image: np.ndarray) -> None:
    """Print the time of albumentations' flips and affine over that of ``Warp``, by the number of masks."""
    affine = A.Affine(
        scale=(0.9, 1.1), rotate=(-15, 15), translate_percent=(-0.05, 0.05), shear={"x": (-5, 5), "y": 0}, p=1
    )
    library = Augment({"hflip": A.HorizontalFlip(p=0.5), "vflip": A.VerticalFlip(p=0), "affine": affine})
    fused = Augment({"warp": Warp()})
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 9):
        masks = np.zeros((count, SIZE, SIZE), np.uint8)
        masks[:, 200:300, 200:350] = 1
        calls = {
            "library": lambda masks=masks: library(image, masks, rng),
            "fused": lambda masks=masks: fused(image, masks, rng),
        }
        seconds = alternate(calls, rounds=10 * ROUNDS)
        print(
            f"flips and affine of albumentations, {count} masks: {seconds['library'] / seconds['fused']:.2f} times Warp"
        )


def default_augment() -> Augment:
    gain = A.RandomBrightnessContrast(brightness_limit=0.0, contrast_limit=(-0.2, 0.2), p=1.0)
    return Augment({"warp": Warp(), "gain": gain})


def dataset(pixels: np.ndarray, count: int) -> FindingsDataset:
    """``count`` findings, each present in half of the images, in one to three regions."""
    rng = np.random.default_rng(count)
    label = (rng.random((len(pixels), count)) < PRESENT).astype(np.float32)
    names = list(REGIONS.values())
    regions = [[frozenset(rng.choice(names, rng.integers(1, 4))) for _ in range(count)] for _ in pixels]
    prepared: Any = SimpleNamespace(pixels=pixels, size=SIZE)
    findings = tuple(f"finding{number}" for number in range(count))
    labels = FindingLabels(prepared, findings, label, np.ones(label.shape, bool), regions, [POINTS] * len(pixels))
    return FindingsDataset(prepared, labels, np.arange(len(pixels)), SIZE // 32, default_augment())


def alternate(calls: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median processor time of each call in seconds; alternating, so that other load affects all equally."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: float(np.median(taken[1:])) for name, taken in times.items()}


if __name__ == "__main__":
    main()
