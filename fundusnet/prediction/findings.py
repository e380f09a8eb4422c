"""Findings in photographs: probabilities, decisions at the operating point, and activation maps (S1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fundusnet.data.manifest import COORDINATES
from fundusnet.data.regions import Point
from fundusnet.evaluation.calibration import at_temperature
from fundusnet.findings.by_region import NAMES, ByRegion, find_regions, in_cells
from fundusnet.findings.region_statistics import NAMED, SHARES
from fundusnet.landmarks.localizer import shipped
from fundusnet.prediction.dicom_objects import Statement
from fundusnet.prediction.eye_points import EyePoints, eye_points
from fundusnet.prediction.map_geometry import Map, mean_map, warp_to_photograph
from fundusnet.prediction.output_files import format_number
from fundusnet.prediction.predictor import PredictionPrecision, Predictor, check_finite, none_if_nan
from fundusnet.prediction.preparation import PreparedPhotograph
from fundusnet.prediction.trained_network import TrainedNetwork


@dataclass(frozen=True)
class FindingsAnswer:
    """What the networks predict for one photograph and F findings.

    Attributes:
        probability: ``(F,)``.
        calibrated: ``(F,)``, the probability at the temperature chosen on validation; NaN if there is none.
        predicted: Bool ``(F,)``, whether the probability reaches the operating point.
        maps: Activation map ``(h, w)`` of each finding, in [0, 1].
        points: Disc and fovea.
        where: In which regions each map lies; None if a point is unknown.
    """

    probability: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    predicted: NDArray[np.bool_]
    maps: list[Map]
    points: EyePoints
    where: list[ByRegion | None]


@dataclass(frozen=True)
class FindingsResult:
    """The findings in a photograph.

    Attributes:
        probability: Finding → probability that it is present, 0 to 1.
        predicted: Finding → whether the probability reaches the operating point.
        calibrated: Finding → the probability at the temperature chosen on validation; None if there is none.
        regions: Finding → names of the regions that hold its activation, that with the largest share first; none if it
            is not predicted, None if disc or fovea are unknown.
        shares: Finding → region → share of the activation, 0 to 1; None if disc or fovea are unknown.
        points: Disc and fovea, and whether they were given.
        flags: Warnings about the photograph (``fundusnet.data.appearance.FLAGS``).
        maps: Finding → activation in [0, 1], ``(H, W)`` in the frame of the photograph, 0 outside the field of view;
            None if no maps were asked for.
    """

    probability: dict[str, float]
    predicted: dict[str, bool]
    calibrated: dict[str, float | None]
    regions: dict[str, tuple[str, ...] | None]
    shares: dict[str, dict[str, float] | None]
    points: EyePoints
    flags: tuple[str, ...]
    maps: dict[str, Map] | None = None


class FindingsPredictor(Predictor[FindingsAnswer, FindingsResult]):
    """Networks for one or several findings; the probabilities of networks of the same finding are averaged.

    Attributes:
        findings: In the order of the networks.
        thresholds: Finding → operating point. Our reading: the mean of those of several networks.
        counts: Finding → number of networks that its probability is averaged over.
        localizer: Finds disc and fovea where they are not given; None = they stay unknown.
    """

    def __init__(
        self,
        networks: Sequence[TrainedNetwork],
        device: torch.device,
        points: Literal["auto", "given"] = "auto",
        precision: PredictionPrecision = "32-true",
    ) -> None:
        super().__init__(networks, device, precision)
        self.localizer = shipped(str(device)) if points == "auto" else None
        self.findings = tuple(dict.fromkeys(name for network in networks for name in network.names))
        thresholds = {
            name: [network.thresholds[name] for network in networks if name in network.names] for name in self.findings
        }
        self.counts = {name: len(each) for name, each in thresholds.items()}
        self.thresholds = {name: float(np.mean(each)) for name, each in thresholds.items()}

    def describe(self) -> dict[str, object]:
        """Entries of ``prediction.yaml`` about the findings."""
        return {
            "points": "given" if self.localizer is None else "auto",
            "findings": [
                {"name": name, "operating_point": self.thresholds[name], "networks": self.counts[name]}
                for name in self.findings
            ],
        }

    @property
    def levels(self) -> dict[str, float]:
        """The operating point of each finding: a map above it everywhere makes the finding present."""
        return self.thresholds

    @property
    def rows_per_photograph(self) -> int:
        """One row for each finding."""
        return len(self.findings)

    def maps_of(self, answer: FindingsAnswer) -> dict[str, Map]:
        """The activation map of each finding."""
        return dict(zip(self.findings, answer.maps, strict=True))

    def points_of(self, answer: FindingsAnswer) -> tuple[Point, Point] | None:
        """Disc and fovea, if both are known."""
        return answer.points.both

    def statements(self, answer: FindingsAnswer, picture: PreparedPhotograph) -> list[Statement]:
        """Presence, probability, regions and activation map of each finding."""
        levels = self.levels
        return [
            Statement(
                name,
                "present" if predicted else "absent",
                {"probability": float(probability)},
                warp_to_photograph(cells, picture, self.size),
                levels[name],
                tuple(where.regions) if predicted and where is not None else (),
            )
            for name, probability, predicted, cells, where in zip(
                self.findings, answer.probability, answer.predicted, answer.maps, answer.where, strict=True
            )
        ]

    @property
    def _answer_columns(self) -> tuple[str, ...]:
        return (
            *("finding", "probability", "predicted", "calibrated", "networks", NAMED),
            *(*SHARES, "points", *COORDINATES),
        )

    def _answer_rows(self, answer: FindingsAnswer) -> list[tuple[object, ...]]:
        points = (answer.points.origin, *_coordinates(answer.points))
        return [
            (
                *(name, format_number(probability), int(predicted), format_number(calibrated), self.counts[name]),
                *(*_where(where, bool(predicted)), *points),
            )
            for name, probability, predicted, calibrated, where in zip(
                self.findings, answer.probability, answer.predicted, answer.calibrated, answer.where, strict=True
            )
        ]

    def _answers(self, pictures: Sequence[PreparedPhotograph]) -> list[FindingsAnswer]:
        probability: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.findings}
        calibrated: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.findings}
        maps: dict[str, list[Map]] = {name: [] for name in self.findings}
        for network in self.networks:
            with self.autocast():
                found = network.module(self.batch(pictures, network))
            activation, each = (t.float().cpu().numpy() for t in found)
            check_finite(each, network)
            for f, name in enumerate(network.names):
                probability[name].append(each[:, f].astype(np.float64))
                calibrated[name].append(at_temperature(each[:, f], network.temperatures[name]))
                maps[name].append(activation[:, f])
        mean, mean_calibrated = (
            np.stack([np.mean(values[name], axis=0) for name in self.findings], axis=1)
            for values in (probability, calibrated)
        )
        predicted = mean >= np.array([self.thresholds[name] for name in self.findings])
        answers = []
        for i, picture in enumerate(pictures):
            means = [mean_map([cells[i] for cells in maps[name]]) for name in self.findings]
            points = eye_points(picture, self.size, self.localizer)
            where = [self._where(each, picture, points) for each in means]
            answers.append(FindingsAnswer(mean[i], mean_calibrated[i], predicted[i], means, points, where))
        return answers

    def _where(self, cells: Map, picture: PreparedPhotograph, points: EyePoints) -> ByRegion | None:
        if points.both is None:
            return None
        frame = picture.frames[self.size]
        disc, fovea = (in_cells(frame.point(*point), self.size, cells.shape[-1]) for point in points.both)
        return find_regions(cells, disc, fovea)

    def _result(self, answer: FindingsAnswer, picture: PreparedPhotograph, maps: bool) -> FindingsResult:
        warped = None
        if maps:
            warped = {n: warp_to_photograph(cells, picture, self.size) for n, cells in self.maps_of(answer).items()}
        return FindingsResult(
            dict(zip(self.findings, answer.probability.tolist(), strict=True)),
            dict(zip(self.findings, answer.predicted.tolist(), strict=True)),
            dict(zip(self.findings, map(none_if_nan, answer.calibrated), strict=True)),
            {
                name: None if where is None else where.regions if predicted else ()
                for name, predicted, where in zip(self.findings, answer.predicted, answer.where, strict=True)
            },
            {
                name: None if where is None else dict(zip(NAMES, where.shares.tolist(), strict=True))
                for name, where in zip(self.findings, answer.where, strict=True)
            },
            answer.points,
            picture.flags,
            warped,
        )


def _where(where: ByRegion | None, predicted: bool) -> tuple[object, ...]:
    """The cells ``regions`` and the shares of a row; empty if disc or fovea are unknown."""
    if where is None:
        return ("", *("" for _ in SHARES))
    return (";".join(where.regions) if predicted else "", *(f"{share:.4f}" for share in where.shares))


def _coordinates(points: EyePoints) -> tuple[object, ...]:
    """The cells of disc and fovea, in pixels of the photograph; empty where one is unknown."""
    pairs = (points.disc or (np.nan, np.nan), points.fovea or (np.nan, np.nan))
    return tuple("" if np.isnan(value) else f"{value:.1f}" for pair in pairs for value in pair)
