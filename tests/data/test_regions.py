"""The eight regions against hand-worked points and a scalar reading of S1.1's table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fundusnet.data.regions import (
    CHORD,
    REGIONS,
    Arc,
    HalfLine,
    Outline,
    Point,
    Segment,
    _Axes,
    _regions_at,
    cue_mask,
    outlines,
    paint,
    region_map,
    regions_touched,
)
from fundusnet.errors import UserError

coordinate = st.floats(-80, 140)
point = st.tuples(coordinate, coordinate)
shape = st.tuples(st.integers(1, 40), st.integers(1, 40))


def table(u: float, v: float) -> str:
    """S1.1's table, row by row and without a word from the implementation."""
    chord = (1 + 4 / 25 - 4 / 9) / 2
    in_disc, in_macula = math.hypot(u, v) <= 2 / 5, math.hypot(u - 1, v) <= 2 / 3
    if in_disc and u < chord:
        return "disc_superior" if v > 0 else "disc_inferior"
    if in_macula and u >= chord:
        return "macula"
    if u > 1 and abs(v) <= 2 / 3 and not in_macula:
        return "temporal"
    if u >= 0:
        return "superotemporal" if v > 0 else "inferotemporal"
    return "superonasal" if v > 0 else "inferonasal"


def axes(x: float, y: float, disc: Point, fovea: Point) -> tuple[float, float]:
    """(u, v) of a pixel by complex division, which turns the fovea to 1; v is then turned upwards."""
    turned = complex(x - disc[0], y - disc[1]) / complex(fovea[0] - disc[0], fovea[1] - disc[1])
    # Dividing leaves y down: with the fovea on the right, up is the negative imaginary part.
    return turned.real, -turned.imag if fovea[0] >= disc[0] else turned.imag


def on_a_line(u: float, v: float, near: float = 1e-6) -> bool:
    """Whether rounding may put (u, v) on either side of some line."""
    lines = (u, v, u - 1, u - CHORD, abs(v) - 2 / 3, math.hypot(u, v) - 2 / 5, math.hypot(u - 1, v) - 2 / 3)
    return any(abs(distance) < near for distance in lines)


def apart(disc: Point, fovea: Point) -> None:
    assume(math.dist(disc, fovea) > 1e-2)


HAND_WORKED = [
    (0, 0.1, "disc_superior"),
    (0, -0.1, "disc_inferior"),
    (0, 0, "disc_inferior"),
    (-0.4, 0, "disc_inferior"),
    (-0.39, 0.01, "disc_superior"),
    (0.35, 0.01, "disc_superior"),
    (0.35, -0.01, "disc_inferior"),
    (0.36, 0.01, "macula"),
    (0.39, 0, "macula"),
    (1, 0, "macula"),
    (1.66, 0, "macula"),
    (1.67, 0, "temporal"),
    (1.5, 0.6, "temporal"),
    (1.5, -0.6, "temporal"),
    (3, 0.66, "temporal"),
    (3, 0.67, "superotemporal"),
    (3, -0.67, "inferotemporal"),
    (0.99, 0.67, "superotemporal"),
    (0.5, -0.6, "inferotemporal"),
    (0.36, 0.19, "superotemporal"),
    (0.36, -0.19, "inferotemporal"),
    (0, 0.41, "superotemporal"),
    (0, -0.41, "inferotemporal"),
    (-0.01, 0.41, "superonasal"),
    (-0.01, -0.41, "inferonasal"),
    (-0.41, 0.01, "superonasal"),
    (-0.41, 0, "inferonasal"),
]


@pytest.mark.parametrize("side", [1, -1], ids=["fovea right", "fovea left"])
@pytest.mark.parametrize(("u", "v", "name"), HAND_WORKED)
def test_hand_worked_points_for_either_eye(u: float, v: float, name: str, side: int) -> None:
    # D = 100 px, so that a hundredth of D is a pixel.
    disc, fovea = (400.0, 100.0), (400.0 + 100 * side, 100.0)
    regions = region_map((201, 801), disc, fovea)
    assert REGIONS[int(regions[round(100 - 100 * v), round(400 + 100 * side * u)])] == name


@settings(max_examples=800, deadline=None)
@given(shape, point, point)
@example((37, 40), (20.0, 5.0), (20.0, 25.0))
@example((37, 40), (20.0, 25.0), (20.0, 5.0))
def test_every_pixel_follows_the_table(shape: tuple[int, int], disc: Point, fovea: Point) -> None:
    apart(disc, fovea)
    regions = region_map(shape, disc, fovea)
    assert regions.shape == shape and regions.dtype == np.uint8
    assert set(np.unique(regions).tolist()) <= set(REGIONS)
    rng = np.random.default_rng(0)
    for _ in range(30):
        row, column = int(rng.integers(shape[0])), int(rng.integers(shape[1]))
        u, v = axes(column, row, disc, fovea)
        if not on_a_line(u, v):
            assert REGIONS[int(regions[row, column])] == table(u, v)


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Point, Point]:
    """Disc and fovea: anywhere, on whole pixels, or on axes that lean by anything from a hair upwards."""
    disc = draw(st.tuples(st.integers(-50, 90), st.integers(-50, 90)) | point)
    step = draw(st.sampled_from([0.0, 1e-13, 1e-9, 1e-6, 1e-3, 1.0, 7.0, 1e3, 1e6]))
    lean, d = (
        draw(st.floats(-1, 1)) * step,
        draw(st.integers(1, 90) | st.floats(0.1, 500)) * draw(st.sampled_from([-1, 1])),
    )
    along = draw(st.permutations([lean, d]))
    return (float(disc[0]), float(disc[1])), (disc[0] + along[0], disc[1] + along[1])


@settings(max_examples=600, deadline=None)
@given(shape, geometries())
def test_runs_equal_the_definition_at_every_pixel(shape: tuple[int, int], points: tuple[Point, Point]) -> None:
    axes, (y, x) = _Axes.of(*points), np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    alone = _regions_at(x - axes.disc[0], y - axes.disc[1], axes)
    np.testing.assert_array_equal(region_map(shape, *points), alone)
    values = np.random.default_rng(0).integers(0, 256, 9, dtype=np.uint8)
    np.testing.assert_array_equal(paint(shape, *points, values), values[alone])


@settings(max_examples=600, deadline=None)
@given(shape, point, point)
def test_the_masks_of_the_eight_names_partition_the_frame(shape: tuple[int, int], disc: Point, fovea: Point) -> None:
    apart(disc, fovea)
    masks = [cue_mask(shape, disc, fovea, [name]) for name in REGIONS.values()]
    assert (np.sum(masks, axis=0) == 1).all()


@settings(max_examples=500, deadline=None)
@given(shape, st.tuples(st.integers(-50, 90), st.integers(-50, 90)), st.integers(1, 90), st.integers(-90, 90))
def test_the_mirrored_photograph_has_the_mirrored_regions(
    shape: tuple[int, int], disc: tuple[int, int], right: int, down: int
) -> None:
    fovea, last = (disc[0] + right, disc[1] + down), shape[1] - 1
    mirrored = region_map(shape, (last - disc[0], disc[1]), (last - fovea[0], fovea[1]))
    np.testing.assert_array_equal(region_map(shape, disc, fovea), mirrored[:, ::-1])


@settings(max_examples=800, deadline=None)
@given(st.floats(-2.5, 3.5), st.floats(-2.5, 2.5), st.floats(-1.55, 1.55), st.floats(0.5, 500), st.booleans())
def test_turning_the_eye_turns_its_regions(u: float, v: float, angle: float, d: float, left: bool) -> None:
    assume(not on_a_line(u, v))
    side = 1 if left else -1
    along = (side * d * math.cos(angle), d * math.sin(angle))
    up = (side * d * math.sin(angle), -d * math.cos(angle))
    # The disc is laid so that the point in question is the one pixel of the frame.
    disc = (-u * along[0] - v * up[0], -u * along[1] - v * up[1])
    fovea = (disc[0] + along[0], disc[1] + along[1])
    assert REGIONS[int(region_map((1, 1), disc, fovea)[0, 0])] == table(u, v)


def test_an_upright_axis_is_read_as_a_fovea_slightly_to_the_right() -> None:
    for fovea in ((50.0, 70.0), (50.0, 30.0)):
        hair = region_map((101, 101), (50.0, 50.0), (fovea[0] + 1e-9, fovea[1]))
        upright = region_map((101, 101), (50.0, 50.0), fovea)
        off_axis = np.arange(101) != 50
        off_lines = ~np.isin(np.arange(101), (50, 30, 70))
        np.testing.assert_array_equal(upright[off_lines][:, off_axis], hair[off_lines][:, off_axis])


def test_points_outside_the_frame_still_give_regions() -> None:
    assert (region_map((8, 8), (-500.0, 4.0), (-400.0, 4.5)) == 4).all()
    assert set(np.unique(region_map((8, 8), (500.0, 4.0), (600.0, 4.0))).tolist()) == {7, 8}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_points_that_are_not_finite_are_refused(bad: float, place: int) -> None:
    numbers = [10.0, 20.0, 30.0, 20.0]
    numbers[place] = bad
    disc, fovea = (numbers[0], numbers[1]), (numbers[2], numbers[3])
    for refused in (
        lambda: region_map((4, 4), disc, fovea),
        lambda: cue_mask((4, 4), disc, fovea, ["macula"]),
        lambda: regions_touched(np.ones((4, 4), dtype=np.bool_), disc, fovea),
        lambda: outlines(disc, fovea),
    ):
        with pytest.raises(UserError, match="disc" if place < 2 else "fovea"):
            refused()


def test_disc_on_fovea_is_refused() -> None:
    with pytest.raises(UserError, match="apart"):
        region_map((4, 4), (3.0, 4.0), (3.0, 4.0))


def test_cue_mask_takes_names_and_ids() -> None:
    geometry = ((60, 80), (20.0, 30.0), (50.0, 28.0))
    regions = region_map(*geometry)
    np.testing.assert_array_equal(cue_mask(*geometry, ["macula", 5]), (regions == 3) | (regions == 5))
    np.testing.assert_array_equal(cue_mask(*geometry, "macula"), regions == 3)
    assert not cue_mask(*geometry, []).any()
    assert cue_mask(*geometry, REGIONS).all()
    for unknown in ("maculla", 0, 9):
        with pytest.raises(UserError, match=str(unknown)):
            cue_mask(*geometry, [unknown])


@settings(max_examples=300, deadline=None)
@given(point, point, st.sets(st.tuples(st.integers(0, 29), st.integers(0, 39)), max_size=6))
def test_regions_touched_are_those_under_the_pixels(disc: Point, fovea: Point, pixels: set[tuple[int, int]]) -> None:
    apart(disc, fovea)
    mask = np.zeros((30, 40), dtype=np.bool_)
    for pixel in pixels:
        mask[pixel] = True
    touched = regions_touched(mask, disc, fovea)
    single = {name for name in REGIONS.values() if (cue_mask(mask.shape, disc, fovea, [name]) & mask).any()}
    assert touched == single
    assert bool(touched) == bool(pixels)


def middle(outline: Outline) -> tuple[Point, Point]:
    """A point on the outline away from its ends, and the unit vector across it."""
    if isinstance(outline, Arc):
        # Not the very middle: there the disc's arc meets the half-line.
        angle = outline.start + 0.3 * (outline.stop - outline.start)
        across = (math.cos(angle), math.sin(angle))
        return (
            outline.center[0] + outline.radius * across[0],
            outline.center[1] + outline.radius * across[1],
        ), across
    start = outline.start
    if isinstance(outline, Segment):
        along = (outline.stop[0] - start[0], outline.stop[1] - start[1])
        length = math.hypot(*along)
        at, along = 0.3 * length, (along[0] / length, along[1] / length)
    else:
        at, along = 30.0, outline.direction
    return (start[0] + at * along[0], start[1] + at * along[1]), (-along[1], along[0])


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 2 * math.pi), st.floats(50, 300))
def test_each_outline_parts_two_regions(angle: float, d: float) -> None:
    disc = (0.0, 0.0)
    fovea = (d * math.cos(angle), d * math.sin(angle))
    expected = [{7, 5, 1}, {3, 4}, {1, 3}, {1, 2}, {4, 5}, {4, 6}, {5, 7}, {6, 8}]
    for outline, allowed in zip(outlines(disc, fovea), expected, strict=True):
        (x, y), across = middle(outline)
        sides = []
        for step in (-1e-3, 1e-3):
            origin = (-(x + step * across[0]), -(y + step * across[1]))
            shifted = (origin[0] + fovea[0], origin[1] + fovea[1])
            sides.append(int(region_map((1, 1), origin, shifted)[0, 0]))
        assert sides[0] != sides[1]
        if isinstance(outline, Arc | Segment):
            # Which half of a circle 0.3 falls on depends on the eye; fold inferior onto superior.
            sides = [{2: 1, 6: 5, 8: 7}.get(side, side) for side in sides]
        assert set(sides) <= allowed


def test_the_arcs_end_on_the_chord() -> None:
    disc_arc, macula_arc, chord, nasal, *_ = outlines((120.0, 80.0), (40.0, 95.0))
    assert isinstance(disc_arc, Arc) and isinstance(macula_arc, Arc)
    assert isinstance(chord, Segment) and isinstance(nasal, HalfLine)
    corners = np.array(sorted([chord.start, chord.stop]))
    for arc in (disc_arc, macula_arc):
        assert 0 < arc.stop - arc.start < 2 * math.pi
        ends = [
            (arc.center[0] + arc.radius * math.cos(a), arc.center[1] + arc.radius * math.sin(a))
            for a in (arc.start, arc.stop)
        ]
        np.testing.assert_allclose(np.array(sorted(ends)), corners, atol=1e-9)
    np.testing.assert_allclose(nasal.start, corners.mean(axis=0), atol=1e-9)
