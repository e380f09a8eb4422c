"""Disc and fovea of a photograph: given ones first, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fundusnet.data.decode import Pixels, Unreadable
from fundusnet.landmarks.points import Landmarks, Point
from fundusnet.prediction.eye_points import EyePoints, eye_points
from fundusnet.prediction.preparation import InputSpec, PreparedPhotograph, prepare_photograph

DISC, FOVEA = (160.0, 100.0), (100.0, 104.0)


@dataclass
class Finder:
    """Stands in for the localiser: sees a bright square as the disc and a dark one as the fovea."""

    sure: tuple[bool, bool] = (True, True)
    looked: int = 0

    def in_prepared(self, pixels: Pixels) -> Landmarks:
        self.looked += 1
        red = pixels[..., 0].astype(int)
        green = pixels[..., 1].astype(int)
        found = []
        for mask, sure in zip((red > 240, green > 240), self.sure, strict=True):
            rows, columns = np.nonzero(mask)
            found.append(Point(float(columns.mean()), float(rows.mean()), 0.9) if sure else None)
        return Landmarks(*found)


def photograph(
    points: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None),
) -> PreparedPhotograph:
    """A field of 200 pixels, off the middle of a larger picture, with both centres marked."""
    pixels = np.zeros((240, 300, 3), np.uint8)
    y, x = np.mgrid[:240, :300]
    pixels[np.hypot(x - 140, y - 110) < 100] = 120
    for (column, row), channel in ((DISC, 0), (FOVEA, 1)):
        pixels[int(row) - 4 : int(row) + 5, int(column) - 4 : int(column) + 5, channel] = 255
    return prepare_photograph(pixels, [InputSpec(64, None), InputSpec(150, None)], points)


def test_given_points_are_taken_as_they_are_and_nobody_looks() -> None:
    finder = Finder()
    found = eye_points(photograph(((10.5, 20.0), (80.0, 21.0))), 150, finder)
    assert found == EyePoints((10.5, 20.0), (80.0, 21.0), "given") and finder.looked == 0
    assert found.both == ((10.5, 20.0), (80.0, 21.0))


def test_points_of_another_picture_are_refused() -> None:
    with pytest.raises(Unreadable, match=r"fovea \(9999, 9999\) lies outside the photograph"):
        photograph(((10.5, 20.0), (9999.0, 9999.0)))


def test_points_that_are_found_are_in_pixels_of_the_photograph() -> None:
    found = eye_points(photograph(), 150, Finder())
    assert found.origin == "localised"
    assert found.disc == pytest.approx(DISC, abs=1) and found.fovea == pytest.approx(FOVEA, abs=1)


def test_a_given_point_stays_beside_one_that_is_found() -> None:
    found = eye_points(photograph(((150.0, 90.0), None)), 150, Finder())
    assert found.disc == (150.0, 90.0) and found.fovea == pytest.approx(FOVEA, abs=1) and found.origin == "localised"


@pytest.mark.parametrize("finder", [None, Finder(sure=(True, False)), Finder(sure=(False, False))])
def test_without_both_points_there_are_no_regions(finder: Finder | None) -> None:
    found = eye_points(photograph(), 150, finder)
    assert found.origin == "none" and found.both is None and found.fovea is None


def test_two_points_on_one_pixel_give_no_regions() -> None:
    found = eye_points(photograph((DISC, DISC)), 150)
    assert found.origin == "none" and found.both is None
