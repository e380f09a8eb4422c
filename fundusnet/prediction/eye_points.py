"""Disc and fovea of a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fundusnet.data.regions import Point
from fundusnet.prediction.preparation import PreparedPhotograph


@dataclass(frozen=True)
class EyePoints:
    """The two points that the regions of an eye follow from, (x, y) in pixels of the upright photograph.

    Attributes:
        disc, fovea: Centres; None if unknown.
        origin: ``given`` if both came with the photograph, ``none`` if one is unknown: then no region is.
    """

    disc: Point | None
    fovea: Point | None
    origin: Literal["given", "none"]

    @property
    def both(self) -> tuple[Point, Point] | None:
        """Disc and fovea; None if one is unknown."""
        if self.origin == "none" or self.disc is None or self.fovea is None:
            return None
        return self.disc, self.fovea


def eye_points(picture: PreparedPhotograph) -> EyePoints:
    """The points of a photograph that were given with it; two on one pixel give no regions."""
    disc, fovea = picture.points
    return EyePoints(disc, fovea, "none" if disc is None or fovea is None or disc == fovea else "given")
