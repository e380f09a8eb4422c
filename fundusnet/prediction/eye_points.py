"""Disc and fovea of a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fundusnet.data.crop import Frame
from fundusnet.data.regions import Point
from fundusnet.landmarks import points
from fundusnet.landmarks.localizer import Localizer
from fundusnet.prediction.preparation import PreparedPhotograph


@dataclass(frozen=True)
class EyePoints:
    """The two points that the regions of an eye follow from, (x, y) in pixels of the upright photograph.

    Attributes:
        disc, fovea: Centres; None if unknown.
        origin: ``given`` if both came with the photograph, ``localised`` if one or both were found in it, ``none`` if
            one is unknown: then no region is.
    """

    disc: Point | None
    fovea: Point | None
    origin: Literal["given", "localised", "none"]

    @property
    def both(self) -> tuple[Point, Point] | None:
        """Disc and fovea; None if one is unknown."""
        if self.origin == "none" or self.disc is None or self.fovea is None:
            return None
        return self.disc, self.fovea


def eye_points(picture: PreparedPhotograph, size: int, localizer: Localizer | None = None) -> EyePoints:
    """The points that were given with a photograph, else those found in it; two on one pixel give no regions.

    Args:
        picture: The photograph.
        size: Side of the prepared picture to look at.
        localizer: Finds points that were not given; None = they stay unknown.
    """
    disc, fovea = picture.points
    origin: Literal["given", "localised"] = "given"
    if localizer is not None and (disc is None or fovea is None):
        found = localizer.in_prepared(picture.pixels[size])
        frame = picture.frames[size]
        disc, fovea = disc or _in_photograph(found.disc, frame), fovea or _in_photograph(found.fovea, frame)
        origin = "localised"
    return EyePoints(disc, fovea, "none" if disc is None or fovea is None or disc == fovea else origin)


def _in_photograph(found: points.Point | None, frame: Frame) -> Point | None:
    return None if found is None else frame.original(found.x, found.y)
