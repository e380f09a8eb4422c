"""Which of the eight regions hold the activation of a map (S1.1, S1.6)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundusnet.data.regions import REGIONS, Point, region_map

Floats = NDArray[np.float64]
NAMES = tuple(REGIONS.values())

LEVEL = 0.5
LEAST = 0.1
_FINE = 8  # points a cell and side at which regions are looked up


@dataclass(frozen=True)
class ByRegion:
    """Where the activation of one map lies; arrays ``(8,)`` are in the order of ``REGIONS``.

    Attributes:
        shares: Share of the activation above the level that lies in each region; they sum to 1, or are 0 where the map
            has no activation.
        means: Mean activation of each region, 0 to 1; 0 where a region is not in the picture.
        regions: Names of the regions that hold the activation, that with the largest share first.
    """

    shares: Floats
    means: Floats
    regions: tuple[str, ...]


def find_regions(
    activation: NDArray[Any], disc: Point, fovea: Point, level: float = LEVEL, least: float = LEAST
) -> ByRegion:
    """Where the activation of a map lies.

    A sigmoid map is never quite zero, and a faint background over a large area outweighs a small lesion. So only what a
    cell has above a level counts: ``level`` of the way from the map's median to its highest cell. The activation of a
    cell on a border is divided as the border divides the cell.

    A region *holds* activation if it has a share of ``least`` or more, or, since a small region would never get that
    far beside large ones, a larger share than it has of the picture. The region with the largest share always does.

    Our reading: the papers do not say when a map points at a region. Both constants were chosen on drawn eyes of the
    validation split (``fundusnet/findings/README.md``).

    Args:
        activation: Map ``(h, w)`` in [0, 1].
        disc, fovea: Centres (x, y) in cells of the map: the centre of its first cell is (0, 0); see ``in_cells``.
        level: 0 to below 1.
        least: Share that is enough for a region of any size.

    Raises:
        UserError: The points coincide, or one of them is not finite.

    Examples:
        >>> lesion = np.zeros((16, 16))
        >>> lesion[8, 5] = 0.9  # a single cell, on the fovea
        >>> find_regions(lesion, disc=(11, 8), fovea=(5, 8)).regions
        ('macula',)
    """
    cells = cells_by_region((int(activation.shape[0]), int(activation.shape[1])), disc, fovea)
    values = activation.astype(np.float64)
    area = cells.sum(axis=(1, 2))
    means = np.divide((cells * values).sum(axis=(1, 2)), area, out=np.zeros(len(area)), where=area > 0)
    middle = float(np.median(values))
    above = np.maximum(values - (middle + level * (values.max() - middle)), 0)
    if above.max() <= 0:  # a flat map is everywhere
        above = values
    total = above.sum()
    if total <= 0:
        return ByRegion(np.zeros(len(area)), means, ())
    shares = (cells * above).sum(axis=(1, 2)) / total
    enough = shares >= np.minimum(np.minimum(least, area / values.size), shares.max())
    order = np.argsort(-shares, kind="stable")
    return ByRegion(shares, means, tuple(NAMES[place] for place in order if enough[place] and shares[place] > 0))


@lru_cache(maxsize=8)  # the maps of all findings of a photograph ask for the same
def cells_by_region(shape: tuple[int, int], disc: Point, fovea: Point) -> Floats:
    """The share of each cell that lies in each region, ``(8, h, w)``, read only; the sum over the regions is 1.

    Args:
        shape: (h, w) of the map.
        disc, fovea: As for ``find_regions``.

    Raises:
        UserError: As ``find_regions``.
    """
    height, width = shape
    fine = region_map((height * _FINE, width * _FINE), _magnified(disc), _magnified(fovea))
    cells = fine.reshape(height, _FINE, width, _FINE)
    found = np.stack([(cells == number).mean(axis=(1, 3)) for number in REGIONS])
    found.setflags(write=False)
    return found


def in_cells(point: Point, size: int, cells: int) -> Point:
    """A point (x, y) of the prepared frame of ``size`` pixels a side in cells of a map with ``cells`` a side.

    Examples:
        >>> in_cells((255.5, 127.5), size=512, cells=16)  # the middle of the picture lies between two cells
        (7.5, 3.5)
    """
    x, y = ((coordinate + 0.5) * cells / size - 0.5 for coordinate in point)
    return x, y


def _magnified(point: Point) -> Point:
    x, y = ((coordinate + 0.5) * _FINE - 0.5 for coordinate in point)
    return x, y
