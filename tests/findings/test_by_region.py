"""In which regions a map's activation lies: cases worked by hand, and what holds for every map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fundusnet.data.regions import REGIONS, region_map
from fundusnet.errors import UserError
from fundusnet.findings.by_region import NAMES, ByRegion, cells_by_region, find_regions, in_cells

DISC, FOVEA = (11.0, 8.0), (5.0, 8.0)  # a right eye, disc and fovea level, 6 cells apart
POINT = st.floats(-4, 20)
MAPS = arrays(np.float16, (16, 16), elements=st.floats(0, 1, width=16))


def one_cell(x: int, y: int, value: float = 0.9) -> np.ndarray:
    cells = np.zeros((16, 16))
    cells[y, x] = value
    return cells


def shares(found: ByRegion) -> dict[str, float]:
    return dict(zip(NAMES, found.shares.tolist(), strict=True))


def apart(disc: tuple[float, float], fovea: tuple[float, float]) -> bool:
    return float(np.hypot(disc[0] - fovea[0], disc[1] - fovea[1])) > 0.5


@pytest.mark.parametrize(
    ("cell", "region"),
    [((5, 8), "macula"), ((11, 7), "disc_superior"), ((11, 9), "disc_inferior"), ((0, 8), "temporal"),
     ((7, 1), "superotemporal"), ((7, 15), "inferotemporal"), ((15, 2), "superonasal"), ((15, 13), "inferonasal")],
)  # fmt: skip
def test_a_lesion_in_one_cell_is_in_its_region_alone(cell: tuple[int, int], region: str) -> None:
    found = find_regions(one_cell(*cell), DISC, FOVEA)
    assert shares(found) == {name: float(name == region) for name in NAMES}
    assert found.regions == (region,)
    cells = cells_by_region((16, 16), DISC, FOVEA)[NAMES.index(region)]
    assert found.means.tolist() == pytest.approx([0.9 / cells.sum() if name == region else 0 for name in NAMES])


def test_a_cell_on_a_border_is_divided_as_the_border_divides_it() -> None:
    """The nasal half-line runs through the middle of row 8."""
    found = find_regions(one_cell(15, 8), DISC, FOVEA)
    assert shares(found)["superonasal"] == shares(found)["inferonasal"] == 0.5
    assert found.regions == ("superonasal", "inferonasal")


def test_a_flat_map_lies_in_each_region_by_its_area() -> None:
    fine = 40  # points a cell, another number than the code's
    disc, fovea = (((x + 0.5) * fine - 0.5, (y + 0.5) * fine - 0.5) for x, y in (DISC, FOVEA))
    area = region_map((16 * fine, 16 * fine), disc, fovea)
    found = find_regions(np.full((16, 16), 0.3), DISC, FOVEA)
    assert shares(found) == pytest.approx({name: (area == number).mean() for number, name in REGIONS.items()}, abs=2e-3)
    assert found.means.tolist() == pytest.approx([0.3] * 8)


def test_a_faint_background_does_not_outweigh_a_small_lesion() -> None:
    cells = np.full((16, 16), 0.1)
    cells[8, 5], cells[1, 7] = 0.9, 0.6
    # Half way from 0.1 to 0.9 is 0.5: the cells have 0.4 and 0.1 above it.
    found = find_regions(cells, DISC, FOVEA)
    assert shares(found) == pytest.approx(dict.fromkeys(NAMES, 0.0) | {"macula": 0.8, "superotemporal": 0.2})
    assert find_regions(cells, DISC, FOVEA, level=0.9).regions == ("macula",)
    assert shares(find_regions(cells, DISC, FOVEA, level=0))["macula"] == pytest.approx(0.8 / 1.3)


def test_a_map_without_activation_is_nowhere() -> None:
    found = find_regions(np.zeros((16, 16)), DISC, FOVEA)
    assert not found.shares.any() and not found.means.any() and found.regions == ()


def named(**values: float) -> tuple[str, ...]:
    """The regions named of a map with these activations in one cell of each region, above a background of 0."""
    places = {"macula": (5, 8), "disc_superior": (11, 7), "superotemporal": (7, 1), "inferonasal": (15, 13)}
    cells = np.zeros((16, 16))
    for name, value in values.items():
        x, y = places[name]
        cells[y, x] = value
    return find_regions(cells, DISC, FOVEA, level=0).regions


def test_a_tenth_is_enough_for_any_region_and_its_part_of_the_picture_for_a_small_one() -> None:
    area = dict(zip(NAMES, cells_by_region((16, 16), DISC, FOVEA).mean(axis=(1, 2)), strict=True))
    assert area["disc_superior"] < 0.05 < 0.15 < area["superotemporal"]
    assert named(macula=0.89, superotemporal=0.11) == ("macula", "superotemporal")
    assert named(macula=0.91, superotemporal=0.09) == ("macula",)
    assert named(macula=0.95, disc_superior=0.05) == ("macula", "disc_superior")
    assert named(macula=0.99, disc_superior=0.01) == ("macula",)
    assert named(inferonasal=0.3, superotemporal=0.6, macula=0.1) == ("superotemporal", "inferonasal", "macula")


def test_the_region_with_the_largest_share_is_always_named() -> None:
    tiny = cells_by_region((16, 16), DISC, FOVEA)[0] > 0.9
    cells = np.where(tiny, 0.9, 0.0)
    assert find_regions(cells, DISC, FOVEA, least=1.0).regions == ("disc_superior",)
    assert find_regions(np.full((16, 16), 0.2), DISC, FOVEA, least=1.0).regions


def test_points_that_coincide_are_refused() -> None:
    with pytest.raises(UserError, match="mark them apart"):
        find_regions(np.ones((16, 16)), DISC, DISC)


@given(MAPS, st.tuples(POINT, POINT), st.tuples(POINT, POINT), st.floats(0, 0.99))
def test_shares_sum_to_one_and_follow_the_eye(
    cells: np.ndarray, disc: tuple[float, float], fovea: tuple[float, float], level: float
) -> None:
    if not apart(disc, fovea) or cells.max() < 0.01:
        return
    found = find_regions(cells, disc, fovea, level)
    assert found.shares.sum() == pytest.approx(1)
    assert found.regions and found.shares[NAMES.index(found.regions[0])] == found.shares.max()
    assert (found.means >= 0).all() and found.means.max() <= cells.max() + 1e-9
    half = find_regions(cells.astype(np.float32) / 2, disc, fovea, level)  # how strong the map is makes no difference
    assert half.regions == found.regions
    np.testing.assert_allclose(half.shares, found.shares, atol=1e-9)


@given(MAPS, st.tuples(POINT, POINT), st.tuples(POINT, POINT))
def test_the_other_eye_is_its_mirror_image(
    cells: np.ndarray, disc: tuple[float, float], fovea: tuple[float, float]
) -> None:
    if abs(disc[0] - fovea[0]) < 0.5:  # one above the other: which side is superior is a convention
        return
    mirrored = find_regions(cells[:, ::-1], (15 - disc[0], disc[1]), (15 - fovea[0], fovea[1])).shares
    np.testing.assert_allclose(mirrored, find_regions(cells, disc, fovea).shares, atol=0.02)


def test_points_in_cells_are_where_they_are_in_the_picture() -> None:
    """Pixels of a cell are in the regions that the prepared frame gives them."""
    disc, fovea = (400.0, 250.0), (190.0, 270.0)
    pixels = region_map((512, 512), disc, fovea)
    cells = cells_by_region((32, 32), in_cells(disc, 512, 32), in_cells(fovea, 512, 32))
    for number in REGIONS:
        inside = (pixels == number).reshape(32, 16, 32, 16).mean(axis=(1, 3))
        np.testing.assert_allclose(cells[number - 1], inside, atol=0.13)
        assert cells[number - 1].sum() == pytest.approx(inside.sum(), abs=1)
