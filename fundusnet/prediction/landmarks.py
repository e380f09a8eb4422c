"""Optic disc and fovea of photographs: where they are, and how sure the network is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from fundusnet.data.regions import Point
from fundusnet.landmarks import points
from fundusnet.landmarks.module import LandmarkModule
from fundusnet.landmarks.points import LANDMARKS, Landmarks
from fundusnet.prediction.dicom_objects import Statement
from fundusnet.prediction.map_geometry import Map
from fundusnet.prediction.output_files import format_number
from fundusnet.prediction.predictor import PredictionPrecision, Predictor
from fundusnet.prediction.preparation import PreparedPhotograph
from fundusnet.prediction.trained_network import TrainedNetwork

#: Highest cell, its confidence for disc and fovea, in pixels of the upright photograph
LandmarksAnswer = tuple[points.Point, points.Point]


@dataclass(frozen=True)
class LandmarksResult:
    """Where the optic disc and the fovea of a photograph are.

    Attributes:
        landmarks: In pixels of the upright photograph; None for a point that is not in it, or of which the network is
            not sure.
        confidence: Name of the point → probability that it is where the network is most inclined to see it, 0 to 1.
        flags: Warnings about the photograph (``fundusnet.data.appearance.FLAGS``).
    """

    landmarks: Landmarks
    confidence: dict[str, float]
    flags: tuple[str, ...]


class LandmarksPredictor(Predictor[LandmarksAnswer, LandmarksResult]):
    """A network that finds disc and fovea; points that were given with a photograph are not used.

    Attributes:
        thresholds: Name of the point → confidence from which on the network is sure.
    """

    def __init__(
        self, networks: Sequence[TrainedNetwork], device: torch.device, precision: PredictionPrecision = "32-true"
    ) -> None:
        super().__init__(networks[:1], device, precision)
        self.module = cast(LandmarkModule, networks[0].module)
        self.thresholds = networks[0].thresholds

    def describe(self) -> dict[str, object]:
        """Entries of ``prediction.yaml`` about the points."""
        return {
            "landmarks": [{"name": name, "operating_point": self.thresholds[name], "networks": 1} for name in LANDMARKS]
        }

    @property
    def rows_per_photograph(self) -> int:
        """One row for each point."""
        return len(LANDMARKS)

    def maps_of(self, answer: LandmarksAnswer) -> dict[str, Map]:
        """None: the points are drawn with the regions that follow from them."""
        return {}

    def points_of(self, answer: LandmarksAnswer) -> tuple[Point, Point] | None:
        """Disc and fovea, if the network is sure of both."""
        disc, fovea = self._sure(answer)
        return None if disc is None or fovea is None else ((disc.x, disc.y), (fovea.x, fovea.y))

    def statements(self, answer: LandmarksAnswer, picture: PreparedPhotograph) -> list[Statement]:
        """None: objects of a study are about findings and grades."""
        return []

    @property
    def _answer_columns(self) -> tuple[str, ...]:
        return ("landmark", "probability", "predicted", "x", "y")

    def _answer_rows(self, answer: LandmarksAnswer) -> list[tuple[object, ...]]:
        return [
            (name, format_number(point.confidence), int(sure is not None), *(_cells(point) if sure else ("", "")))
            for name, point, sure in zip(LANDMARKS, answer, self._sure(answer), strict=True)
        ]

    def _answers(self, pictures: Sequence[PreparedPhotograph]) -> list[LandmarksAnswer]:
        with self.autocast():
            places, confidence = self.module(self.batch(pictures, self.networks[0]))
        return [
            cast(
                LandmarksAnswer,
                tuple(
                    points.Point(*picture.frames[self.size].original(x, y), sure)
                    for (x, y), sure in zip(places[i].float().tolist(), confidence[i].float().tolist(), strict=True)
                ),
            )
            for i, picture in enumerate(pictures)
        ]

    def _result(self, answer: LandmarksAnswer, picture: PreparedPhotograph, maps: bool) -> LandmarksResult:
        confidence = {name: point.confidence for name, point in zip(LANDMARKS, answer, strict=True)}
        return LandmarksResult(Landmarks(*self._sure(answer)), confidence, picture.flags)

    def _sure(self, answer: LandmarksAnswer) -> tuple[points.Point | None, points.Point | None]:
        disc, fovea = (
            point if point.confidence >= self.thresholds[name] else None
            for name, point in zip(LANDMARKS, answer, strict=True)
        )
        return disc, fovea


def _cells(point: points.Point) -> tuple[str, str]:
    return f"{point.x:.1f}", f"{point.y:.1f}"
