"""The retinal vessel tree: arcades above and below the macula, nasal trunks, and branches upon branches."""

from __future__ import annotations

from itertools import pairwise
from math import comb
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Path = NDArray[np.float64]

# Bézier control points (u, v) of the superior trunks; the inferior ones are their mirror image.
ARCADE = ((0.02, 0.0), (-0.06, 0.50), (0.42, 1.02), (1.30, 0.98), (2.40, 0.55))
NASAL = ((-0.02, 0.0), (-0.05, 0.40), (-0.45, 0.70), (-1.20, 1.15))
LATERAL = ((-0.03, 0.0), (-0.30, 0.12), (-0.70, 0.20), (-1.30, 0.45))
MACULAR = ((0.05, 0.0), (0.25, 0.20), (0.50, 0.26), (0.86, 0.14))
TRUNKS = ((ARCADE, 1.0), (NASAL, 0.7), (LATERAL, 0.45), (MACULAR, 0.35))

AVASCULAR = 0.13  # no vessel comes nearer than this to the fovea
FINER = 2  # vessels are drawn larger by this factor and averaged down, so that capillaries keep their width


class EyeGeometry(Protocol):
    """The attributes of an eye that the vessels depend on."""

    @property
    def size(self) -> int: ...
    @property
    def unit(self) -> float: ...
    def pixels(self, points: Path) -> Path: ...


def vessel_maps(
    eye: EyeGeometry, tortuosity: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Arteries and veins as coverage maps: two float32 (S, S), 0 … 1; widths follow real calibres (0.02 to 0.03 D)."""
    maps = []
    for calibre in (0.021, 0.029):  # arteries are two thirds of a vein
        vessels: list[tuple[Path, float, float]] = []
        for control, share in TRUNKS:
            for side in (1, -1):
                points = np.array(control) * (1, side)
                points[1:] += rng.normal(0, 0.06, points[1:].shape)
                path = _wind(_bezier(points, 60), 0.012 * tortuosity, rng)
                _grow(vessels, path, calibre * share**0.6, 0, tortuosity, rng)
        maps.append(_render(eye, vessels))
    return maps[0], maps[1]


def _grow(
    vessels: list[tuple[Path, float, float]],
    path: Path,
    width: float,
    depth: int,
    tortuosity: float,
    rng: np.random.Generator,
) -> None:
    """Add ``path`` (n, 2) and, down to three generations, the branches that leave it to either side."""
    near = np.flatnonzero(np.hypot(path[:, 0] - 1, path[:, 1]) < AVASCULAR)
    path = path[: near[0]] if len(near) else path
    if len(path) < 6:
        return
    taper = 0.4 if depth == 0 else 0.5
    vessels.append((path, width, width * taper))
    if depth == 2 or width < 0.003:
        return
    count = (5, 3)[depth]
    length = float(np.hypot(*np.diff(path, axis=0).T).sum())
    for order, start in enumerate(np.sort(rng.uniform(0.2, 0.92, count))):
        at = int(start * (len(path) - 2))
        ahead = path[at + 1] - path[at]
        heading = np.arctan2(ahead[1], ahead[0])
        side = 1 if (order + depth) % 2 else -1
        turn = side * rng.uniform(0.45, 1.15)
        steps = 24
        reach = min(length * (1 - 0.5 * start) * rng.uniform(0.35, 0.75), 0.9)
        # The branch leaves at an angle and bends back towards its parent's course.
        course = heading + turn * np.linspace(1, rng.uniform(0.1, 0.7), steps)
        course += np.cumsum(rng.normal(0, 0.11 * tortuosity, steps))
        moves = np.stack([np.cos(course), np.sin(course)], -1) * (reach / steps)
        branch = path[at] + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])
        here = width * (1 - (1 - taper) * start)
        _grow(vessels, branch, here * rng.uniform(0.4, 0.68), depth + 1, tortuosity, rng)


def _render(eye: EyeGeometry, vessels: list[tuple[Path, float, float]]) -> NDArray[np.float32]:
    sheet = np.zeros((eye.size * FINER, eye.size * FINER), np.uint8)
    scale = FINER * eye.unit
    for path, first, last in sorted(vessels, key=lambda vessel: vessel[1]):  # thick ones over thin ones
        dots = np.rint((eye.pixels(path) + 0.5) * FINER * 16 - 8).astype(np.int32)
        pieces = 2 if first < 0.01 else 6
        bounds = np.linspace(0, len(path) - 1, pieces + 1).astype(int)
        for piece, (begin, end) in enumerate(pairwise(bounds)):
            width = scale * (first + (last - first) * piece / pieces)
            thick = max(1, round(width))
            # A line cannot be thinner than one pixel: a thinner one is drawn weaker.
            strength = int(255 * min(1.0, max(0.25, width / thick)))
            cv2.polylines(sheet, [dots[begin : end + 1]], False, strength, thick, cv2.LINE_AA, shift=4)
    small = cv2.resize(sheet, (eye.size, eye.size), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def _bezier(control: Path, count: int) -> Path:
    degree = len(control) - 1
    t = np.linspace(0, 1, count)[:, None]
    terms = [comb(degree, k) * t**k * (1 - t) ** (degree - k) * point for k, point in enumerate(control)]
    return np.asarray(np.sum(terms, axis=0))


def _wind(path: Path, amount: float, rng: np.random.Generator) -> Path:
    """Smooth sideways wander that grows from nothing at the disc."""
    phases = rng.uniform(0, 2 * np.pi, (3, 2))
    t = np.linspace(0, 1, len(path))[:, None]
    pairs = zip((2, 4, 7), phases, strict=True)
    waves = sum(np.sin(2 * np.pi * turns * t + phase) / turns**0.5 for turns, phase in pairs)
    return np.asarray(path + amount * np.minimum(1, 4 * t) * waves)
