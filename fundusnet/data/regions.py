"""The eight anatomical regions that annotators click, derived from optic disc and fovea (S1.1).

With the origin at the disc, ``u`` runs from disc to fovea (temporal is +), ``v`` is perpendicular to it
(superior is +), and the distance D between disc and fovea is 1. All coordinates that come in or go out are pixels
``(x, y)`` of one frame, as ``fundusnet.data.crop`` defines them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fundusnet.errors import UserError

Point = tuple[float, float]
_Value = TypeVar("_Value", bound=np.generic)

REGIONS: dict[int, str] = {
    1: "disc_superior",
    2: "disc_inferior",
    3: "macula",
    4: "temporal",
    5: "superotemporal",
    6: "inferotemporal",
    7: "superonasal",
    8: "inferonasal",
}

DISC_RADIUS = 2 / 5
MACULA_RADIUS = 2 / 3
CHORD = (1 + DISC_RADIUS**2 - MACULA_RADIUS**2) / 2
"""The u at which the two circles intersect (≈ 0.3578)."""

BEYOND = 0.5
"""By this share of its width, disc or fovea may lie beside a photograph: where it is centred on one of them, the other
is often cut off. What is farther out, or above or below, is a mistake, like the -1, -1 of some tables. Our choice."""

_IDS = {name: number for number, name in REGIONS.items()}
# Closer than this, rounding decides where the fovea lies; farther out, squares lose the single pixel.
_NEAREST, _FARTHEST = 1e-6, 1e9


def is_near(point: Point, width: int, height: int) -> bool:
    """Whether a photograph of this size in pixels can have its disc or fovea at this point: in it, or close beside it.

    Examples:
        >>> is_near((-40, 50), 100, 100), is_near((-60, 50), 100, 100), is_near((50, -1), 100, 100)
        (True, False, False)
    """
    x, y = point
    return -BEYOND * width <= x <= (1 + BEYOND) * width and 0 <= y <= height


def region_map(shape: tuple[int, int], disc: Point, fovea: Point) -> NDArray[np.uint8]:
    """The region of every pixel (S1.1).

    Superior is up in the picture, for either eye: of the two perpendiculars to disc→fovea, v is the one that
    points to smaller y. Our reading: where disc and fovea are exactly above each other neither does, and v is taken
    as if the fovea were slightly to the right of the disc (fovea below: superior is right; above: left).

    Args:
        shape: (H, W) of the frame in pixels.
        disc, fovea: Centres (x, y) in pixels of that frame; they may lie outside it.

    Returns:
        uint8 (H, W) of ids 1–8, see ``REGIONS``.

    Raises:
        UserError: The points coincide, or one of them is not finite.
    """
    return paint(shape, disc, fovea, np.arange(max(REGIONS) + 1, dtype=np.uint8))


def paint(shape: tuple[int, int], disc: Point, fovea: Point, values: NDArray[_Value]) -> NDArray[_Value]:
    """``values[region_map(shape, disc, fovea)]``, (H, W), at no more than the cost of the map.

    Args:
        shape, disc, fovea: As for ``region_map``.
        values: (9,), the value of a pixel of each region id; ids start at 1, so the first value is never used.

    Raises:
        UserError: As ``region_map``.
    """
    axes = _Axes.of(disc, fovea)
    height, width = shape
    y = np.arange(height, dtype=np.float64)[:, None] - axes.disc[1]
    starts = _run_starts(width, y, axes)
    lengths = np.diff(starts, axis=1, append=width)
    regions = _regions_at(starts.astype(np.float64) - axes.disc[0], y, axes)
    return np.repeat(values[regions.ravel()], lengths.ravel()).reshape(shape)


def cue_mask(shape: tuple[int, int], disc: Point, fovea: Point, regions: Iterable[str | int]) -> NDArray[np.bool_]:
    """Where the given regions lie: the cue mask M of a finding annotated with them (S1.2).

    Args:
        shape, disc, fovea: As for ``region_map``.
        regions: Names or ids, in any mixture; none gives a mask without a pixel.

    Returns:
        bool (H, W).

    Raises:
        UserError: As ``region_map``, or a region is unknown.
    """
    wanted = np.zeros(max(REGIONS) + 1, dtype=np.bool_)
    for region in (regions,) if isinstance(regions, str) else regions:
        wanted[region_id(region)] = True
    return paint(shape, disc, fovea, wanted)


def eye_of(disc: Point, fovea: Point) -> str:
    """The eye with these points: "right" if the disc is to the right of the fovea in the picture, else "left".

    Examples:
        >>> eye_of(disc=(80, 50), fovea=(45, 52))
        'right'
    """
    return "right" if disc[0] > fovea[0] else "left"


def region_id(region: str | int) -> int:
    """The id, 1 to 8, of a region given by name or id.

    Raises:
        UserError: There is no such region.
    """
    number = _IDS.get(region, 0) if isinstance(region, str) else int(region)
    if number not in REGIONS:
        raise UserError(f"unknown region '{region}'; use {', '.join(_IDS)} or 1 to {len(REGIONS)}")
    return number


def regions_touched(mask: NDArray[np.bool_], disc: Point, fovea: Point) -> frozenset[str]:
    """Names of the regions in which ``mask``, bool (H, W) in the frame of the two points, has a pixel (S1.2).

    Raises:
        UserError: As ``region_map``.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask is (H, W), this one has shape {mask.shape}")
    found = np.unique(region_map((mask.shape[0], mask.shape[1]), disc, fovea)[mask.astype(np.bool_)])
    return frozenset(REGIONS[int(number)] for number in found)


@dataclass(frozen=True)
class Arc:
    """Part of a circle: ``center + radius · (cos a, sin a)`` for a from ``start`` to ``stop`` in radians.

    ``start < stop``; a grows from +x towards +y, which is clockwise on the screen (as in SVG and a canvas).
    """

    center: Point
    radius: float
    start: float
    stop: float


@dataclass(frozen=True)
class Segment:
    """The straight line between two points."""

    start: Point
    stop: Point


@dataclass(frozen=True)
class HalfLine:
    """From ``start`` without end along ``direction`` (unit length); clip it at the edge of the frame to draw it."""

    start: Point
    direction: Point


Outline = Arc | Segment | HalfLine


def outlines(disc: Point, fovea: Point) -> tuple[Outline, ...]:
    """The lines that part the regions, in pixels, each drawn once (S1.1).

    In order: disc arc, macula arc, their chord, the nasal half-line along disc–fovea, the superior and the
    inferior tangent of the macula, the superior and the inferior part of the perpendicular through the disc.

    Raises:
        UserError: As ``region_map``.
    """
    axes = _Axes.of(disc, fovea)
    distance = math.sqrt(axes.square)
    temporal, superior = axes.direction(1, 0), axes.direction(0, 1)
    nasal, inferior = axes.direction(-1, 0), axes.direction(0, -1)
    angle = math.atan2(axes.along[1], axes.along[0])
    # Half the angle under which each centre sees the chord.
    at_disc = math.acos(CHORD / DISC_RADIUS)
    at_fovea = math.acos((1 - CHORD) / MACULA_RADIUS)
    opposite = angle - math.pi
    half_chord = math.sqrt(DISC_RADIUS**2 - CHORD**2)
    return (
        Arc(axes.point(0, 0), DISC_RADIUS * distance, angle + at_disc, angle + 2 * math.pi - at_disc),
        Arc(axes.point(1, 0), MACULA_RADIUS * distance, opposite + at_fovea, angle + math.pi - at_fovea),
        Segment(axes.point(CHORD, half_chord), axes.point(CHORD, -half_chord)),
        HalfLine(axes.point(CHORD, 0), nasal),
        HalfLine(axes.point(1, MACULA_RADIUS), temporal),
        HalfLine(axes.point(1, -MACULA_RADIUS), temporal),
        HalfLine(axes.point(0, DISC_RADIUS), superior),
        HalfLine(axes.point(0, -DISC_RADIUS), inferior),
    )


def _run_starts(width: int, y: NDArray[np.float64], axes: _Axes) -> NDArray[np.intp]:
    """Columns (H, 21), sorted along each row, between two of which the region does not change.

    A row of pixels meets each of ten curves once. The crossing is known to a fraction of a pixel; ``_regions_at``
    decides which pixel is the first beyond it, so the nearest one and the one after it both start a run.
    """
    (along_x, along_y), (up_x, up_y), square = axes.along, axes.up, axes.square
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        # The lines u = 0, chord, 1 and v = 0, ±2/3, then the circles: infinite or NaN where a row meets them nowhere.
        u = (np.array([0, CHORD, 1]) * square - y * along_y) / along_x
        v = (np.array([-MACULA_RADIUS, 0, MACULA_RADIUS]) * square - y * up_y) / up_x
        disc = np.sqrt(DISC_RADIUS**2 * square - y**2)
        macula = np.sqrt(MACULA_RADIUS**2 * square - (y - along_y) ** 2)
    meets = np.concatenate([u, v, -disc, disc, along_x - macula, along_x + macula], axis=1) + axes.disc[0]
    nearest = np.rint(np.nan_to_num(meets, nan=0.0).clip(-1, width)).astype(np.intp)
    starts = np.concatenate([np.zeros((len(y), 1), np.intp), nearest, nearest + 1], axis=1).clip(0, width)
    starts.sort(axis=1)
    return starts


def _regions_at(x: NDArray[np.float64], y: NDArray[np.float64], axes: _Axes) -> NDArray[np.uint8]:
    """The regions of points, in pixels right of and below the disc; the definition itself (S1.1)."""
    (along_x, along_y), (up_x, up_y), square = axes.along, axes.up, axes.square

    # u, v and squared distances are left in units of D² (px²): no division, so that whole coordinates give
    # exact results and a pixel on a line is on it.
    u = x * along_x + y * along_y
    v = x * up_x + y * up_y
    from_disc = x**2 + y**2
    from_fovea = (x - along_x) ** 2 + (y - along_y) ** 2

    inferior = (v <= 0).view(np.uint8)
    nasal = (u < 0).view(np.uint8)
    regions = np.uint8(5) + inferior + np.uint8(2) * nasal
    np.copyto(regions, np.uint8(4), where=(u > square) & (np.abs(v) <= MACULA_RADIUS * square))
    # The chord is the circles' radical axis: whatever lies in either circle is in the disc's on one side of
    # it and in the macula's on the other. Asking for the union first leaves no pixel between the two to
    # rounding.
    circles = (from_disc <= DISC_RADIUS**2 * square) | (from_fovea <= MACULA_RADIUS**2 * square)
    np.copyto(regions, np.uint8(3), where=circles)
    np.copyto(regions, np.uint8(1) + inferior, where=circles & (u < CHORD * square))
    return regions


@dataclass(frozen=True)
class _Axes:
    """Disc-centred axes: ``along`` is disc→fovea and ``up`` its superior perpendicular, both D px long."""

    disc: Point
    along: Point
    up: Point
    square: float

    @classmethod
    def of(cls, disc: Point, fovea: Point) -> _Axes:
        """The axes of two checked points."""
        for name, point in (("disc", disc), ("fovea", fovea)):
            # Written so that NaN, which compares false with everything, is refused too.
            if not all(abs(coordinate) <= _FARTHEST for coordinate in point):
                raise UserError(f"{name} is at ({point[0]}, {point[1]}), which is not a pixel; give both centres")
        (disc_x, disc_y), (fovea_x, fovea_y) = map(float, disc), map(float, fovea)
        x, y = fovea_x - disc_x, fovea_y - disc_y
        if math.hypot(x, y) < _NEAREST:
            raise UserError(f"disc and fovea are both at ({disc_x:g}, {disc_y:g}); mark them apart")
        # y grows downwards, so up is a negative y.
        up = (y, -x) if x >= 0 else (-y, x)
        return cls((disc_x, disc_y), (x, y), up, x * x + y * y)

    def point(self, u: float, v: float) -> Point:
        """The pixel coordinates of (u, v)."""
        return (
            self.disc[0] + u * self.along[0] + v * self.up[0],
            self.disc[1] + u * self.along[1] + v * self.up[1],
        )

    def direction(self, u: float, v: float) -> Point:
        """The unit vector in pixels that points along (u, v), itself of unit length."""
        distance = math.sqrt(self.square)
        return (
            (u * self.along[0] + v * self.up[0]) / distance,
            (u * self.along[1] + v * self.up[1]) / distance,
        )
