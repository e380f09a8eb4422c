"""One function per finding: each draws its lesions on a fundus in place and returns the pixels they cover.

Each has its own look and its own place: holes at the fovea, drusen around it, cotton-wool patches near the arcades,
nerve fibre defects from the disc outwards. Lengths are in units of D (S1.1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fundusnet.data.eye.anatomy import Eye, FloatImage, noise

Mask = NDArray[np.bool_]
Colour = tuple[float, float, float]
Painter = Callable[[FloatImage, Eye, np.random.Generator], Mask]


def draw_finding(name: str, canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """Draw the finding ``name`` on ``canvas`` (S, S, 3) in place; the covered pixels that the camera sees, (S, S)."""
    covered = PAINTERS[name](canvas, eye, rng)
    covered[~eye.field] = False
    return covered


def macular_hole(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """A round dark-red hole at the fovea within a paler cuff of fluid."""
    radius = max(rng.uniform(0.065, 0.11), 1.5 / eye.unit)
    away = np.hypot(eye.u - 1 - rng.normal(0, 0.01), eye.v - rng.normal(0, 0.01)) + 0.006 * noise(eye.size, 32, rng)
    edge = max(0.012, 0.8 / eye.unit)
    hole = _ramp(radius - away, edge)
    cuff = _ramp(1.7 * radius - away, 3 * edge) * (1 - hole)
    _blend(canvas, 0.22 * cuff, (0.80, 0.62, 0.44))
    _blend(canvas, 0.62 * hole, (0.48, 0.13, 0.07))
    for point in rng.normal(0, radius / 2.5, (int(rng.integers(0, 6)), 2)):
        _spot(canvas, eye, point + np.array([1.0, 0.0]), 0.008, (0.9, 0.75, 0.4), 0.5, rng)
    return np.asarray(away < 1.35 * radius, np.bool_)


def hard_exudate(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """Sharp bright yellow deposits, in clusters or in rings around a leaking spot."""
    mask = np.zeros_like(eye.field)
    wanted = np.exp(-((np.hypot(eye.u - 1, eye.v) - 0.35) ** 2) / 0.12)
    for centre in _places(eye, int(rng.integers(1, 5)), wanted, rng):
        count = int(rng.integers(8, 32))
        if rng.random() < 0.4:
            angles = rng.uniform(0, 2 * np.pi) + rng.uniform(0, rng.uniform(3, 6.3), count)
            ring = rng.uniform(0.10, 0.22) * rng.normal(1, 0.08, count)
            points = centre + np.stack([np.cos(angles) * ring, np.sin(angles) * ring], -1)
        else:
            points = centre + rng.normal(0, rng.uniform(0.06, 0.13), (count, 2))
        for point, radius in zip(points, rng.gamma(3, 0.0032, count) + 0.004, strict=True):
            mask |= _spot(canvas, eye, point, radius, (1.0, 0.90, 0.50), 0.92, rng, rough=0.35)
    return mask


def hemorrhage(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """Dark red blots, and flames drawn out along the nerve fibres."""
    mask = np.zeros_like(eye.field)
    wanted = np.exp(-((np.hypot(eye.u - 0.7, eye.v) - 0.55) ** 2) / 0.25)
    for u, v in _places(eye, int(rng.integers(2, 10)), wanted, rng):
        red = (0.36 + rng.normal(0, 0.03), 0.06, 0.04)
        if rng.random() < 0.4:
            radius, stretch = rng.uniform(0.025, 0.05), rng.uniform(2.0, 3.5)
            along = np.arctan2(v, u) + rng.normal(0, 0.15)
        else:
            radius, stretch, along = rng.gamma(2.5, 0.014) + 0.018, rng.uniform(1, 1.5), rng.uniform(0, np.pi)
        mask |= _spot(canvas, eye, (u, v), radius, red, 0.82, rng, rough=0.3, soft=0.25, stretch=stretch, along=along)
    return mask


def membrane(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """A grey glistening sheet over the macula, puckered into fine folds."""
    u, v = eye.u - 1 - rng.normal(0, 0.06), eye.v - rng.normal(0, 0.06)
    reach = rng.uniform(0.28, 0.46)
    away = np.hypot(u, v) * (1 + 0.16 * noise(eye.size, 7, rng))
    sheet = _ramp(reach - away, 0.16)
    angle = rng.uniform(0, np.pi)
    phase = (u * np.cos(angle) + v * np.sin(angle)) * rng.uniform(70, 110) + 3.5 * noise(eye.size, 6, rng)
    # At small sizes folds finer than two pixels would alias.
    folds = np.sin(phase) ** 3 * np.clip(eye.unit / 100, 0.3, 1)
    glint = np.clip(noise(eye.size, 18, rng), 0, None)
    _blend(canvas, sheet * np.clip(0.26 + 0.10 * folds + 0.12 * glint, 0, 0.8), (0.84, 0.78, 0.66))
    return sheet > 0.4


def drusen(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """Soft yellowish dots, most of them within the macula."""
    mask = np.zeros_like(eye.field)
    count = int(rng.integers(15, 60))
    wanted = np.exp(-((np.hypot(eye.u - 1, eye.v) / 0.32) ** 2))
    for place, radius in zip(_places(eye, count, wanted, rng), rng.gamma(4, 0.0035, count) + 0.008, strict=True):
        mask |= _spot(canvas, eye, place, radius, (0.97, 0.78, 0.40), 0.62, rng, rough=0.12, soft=0.9)
    return mask


def cotton_wool_patch(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """Fluffy white patches near the arcades, longer across the fibres than along them."""
    mask = np.zeros_like(eye.field)
    arcade = np.exp(-((np.abs(eye.v) - 0.62) ** 2) / 0.03) * np.exp(-((eye.u - 0.5) ** 2) / 0.35)
    for u, v in _places(eye, int(rng.integers(1, 5)), arcade, rng):
        for _ in range(int(rng.integers(3, 6))):  # overlapping puffs make the edge feathery
            radius = rng.uniform(0.03, 0.055)
            puff = (u + rng.normal(0, 0.03), v + rng.normal(0, 0.03))
            white = (0.97, 0.93, 0.80)
            along = np.arctan2(v, u) + np.pi / 2
            mask |= _spot(canvas, eye, puff, radius, white, 0.42, rng, rough=0.2, soft=1.4, stretch=1.4, along=along)
    return mask


def rnfl_defect(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """A dark wedge that leaves the disc and follows the fibres over or under the macula."""
    side = rng.choice([-1.0, 1.0])
    away = np.hypot(eye.u, eye.v)
    # Fibres leave steeply and bend towards the temporal side: the wedge's angle falls with the distance.
    middle = rng.uniform(1.05, 1.35) - 0.34 * np.clip(away - 0.2, 0, None)
    half = rng.uniform(0.09, 0.16)
    angle = np.abs(np.arctan2(side * eye.v, eye.u) - middle)
    wedge = _ramp(half - angle, 0.07) * _ramp(away - 0.19, 0.04) * _ramp(rng.uniform(1.2, 1.7) - away, 0.5)
    canvas *= 1 - wedge[..., None] * np.array([0.20, 0.34, 0.34], np.float32)
    return wedge > 0.3


def retinal_pigmentary_change(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """Clumps of dark pigment, some with spicules, on a ground that has lost its own."""
    mask = np.zeros_like(eye.field)
    wanted = np.full_like(eye.u, 0.25) + 2 * np.exp(-((np.hypot(eye.u - 1, eye.v) / 0.4) ** 2))
    for centre in _places(eye, int(rng.integers(1, 4)), wanted, rng):
        _spot(canvas, eye, centre, rng.uniform(0.06, 0.11), (0.86, 0.58, 0.34), 0.4, rng, rough=0.3, soft=1.0)
        for point in centre + rng.normal(0, 0.05, (int(rng.integers(4, 10)), 2)):
            stretch, along = rng.uniform(1, 3.5), rng.uniform(0, np.pi)
            radius = rng.uniform(0.010, 0.024)
            black = (0.16, 0.09, 0.07)
            mask |= _spot(
                canvas, eye, point, radius, black, 0.85, rng, rough=0.5, soft=0.3, stretch=stretch, along=along
            )
    return mask


def microaneurysm(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> Mask:
    """Tiny round red dots around the macula."""
    mask = np.zeros_like(eye.field)
    wanted = np.exp(-((np.hypot(eye.u - 1, eye.v) - 0.3) ** 2) / 0.15)
    for place in _places(eye, int(rng.integers(4, 16)), wanted, rng):
        mask |= _spot(canvas, eye, place, rng.uniform(0.007, 0.012), (0.42, 0.07, 0.05), 0.8, rng, soft=0.3)
    return mask


PAINTERS: dict[str, Painter] = {
    painter.__name__: painter
    for painter in (
        macular_hole,
        hard_exudate,
        hemorrhage,
        membrane,
        drusen,
        cotton_wool_patch,
        rnfl_defect,
        retinal_pigmentary_change,
        microaneurysm,
    )
}
FINDINGS = tuple(PAINTERS)
DEEP = frozenset({"drusen", "rnfl_defect", "retinal_pigmentary_change"})  # the vessels run over these


def _places(eye: Eye, count: int, wanted: FloatImage, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points (count, 2) in coordinates of the eye, drawn with density ``wanted`` (S, S), off the disc, in the field."""
    away = np.hypot(eye.u, eye.v)
    density = np.where(_well_inside(eye) & (away > 0.26), wanted, 0).ravel().cumsum(dtype=np.float64)
    picked = np.searchsorted(density, rng.random(count) * density[-1])
    return np.stack([eye.u.ravel()[picked], eye.v.ravel()[picked]], -1).astype(np.float64)


def _well_inside(eye: Eye) -> Mask:
    y, x = np.ogrid[: eye.size, : eye.size]
    inside: Mask = (x - eye.centre[0]) ** 2 + (y - eye.centre[1]) ** 2 < (0.93 * eye.radius) ** 2
    return inside


def _spot(
    canvas: FloatImage,
    eye: Eye,
    place: tuple[float, float] | NDArray[np.float64],
    radius: float,
    colour: Colour,
    strength: float,
    rng: np.random.Generator,
    *,
    rough: float = 0.1,
    soft: float = 0.15,
    stretch: float = 1.0,
    along: float = 0.0,
) -> Mask:
    """Paint one blob in place and return its pixels (S, S).

    ``radius`` in D (never under 0.8 pixels); ``rough`` how far the outline strays, ``soft`` the width of the edge, both
    as a fraction of the radius; ``stretch`` the ratio of the axes and ``along`` the long one's angle from u to v.
    """
    mask = np.zeros_like(eye.field)
    radius = max(radius, 0.8 / eye.unit)
    phases, weights = rng.uniform(0, 2 * np.pi, 3), rng.normal(0, 0.5, 3)
    x, y = eye.pixels(np.asarray(place, np.float64))
    reach = int(np.ceil(radius * eye.unit * stretch * (1 + 2 * rough + soft))) + 2
    rows = slice(max(0, int(y) - reach), max(0, int(y) + reach + 1))
    columns = slice(max(0, int(x) - reach), max(0, int(x) + reach + 1))
    u, v = eye.u[rows, columns] - place[0], eye.v[rows, columns] - place[1]
    if u.size == 0:
        return mask
    long, short = u * np.cos(along) + v * np.sin(along), v * np.cos(along) - u * np.sin(along)
    away = np.hypot(long / stretch, short)
    angle = np.arctan2(short, long)
    outline = sum(w * np.sin(k * angle + p) for k, (w, p) in enumerate(zip(weights, phases, strict=True), start=2))
    depth = radius * (1 + rough * np.clip(outline, -1.5, 2)) - away
    alpha = _ramp(depth, max(soft * radius, 0.7 / eye.unit))
    _blend(canvas[rows, columns], strength * alpha, colour)
    mask[rows, columns] = alpha >= 0.5
    # A dot smaller than a pixel can fall between pixel centres: it keeps the pixel it is in.
    if 0 <= round(y) < eye.size and 0 <= round(x) < eye.size:
        mask[round(y), round(x)] = True
    return mask


def _ramp(depth: NDArray[np.floating], edge: float) -> FloatImage:
    """0 outside, 1 inside, a smooth step ``edge`` wide where ``depth`` crosses zero."""
    t = np.clip(depth / edge + 0.5, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _blend(canvas: FloatImage, alpha: FloatImage, colour: Colour) -> None:
    canvas += alpha[..., None] * (np.array(colour, np.float32) - canvas)
