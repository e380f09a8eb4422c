"""Findings in photographs: probabilities, decisions at the operating point, and activation maps (S1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fundusnet.evaluation.calibration import at_temperature
from fundusnet.prediction.map_geometry import Map, mean_map, warp_to_photograph
from fundusnet.prediction.output_files import format_number
from fundusnet.prediction.predictor import Predictor, check_finite, none_if_nan
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
    """

    probability: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    predicted: NDArray[np.bool_]
    maps: list[Map]


@dataclass(frozen=True)
class FindingsResult:
    """The findings in a photograph.

    Attributes:
        probability: Finding → probability that it is present, 0 to 1.
        predicted: Finding → whether the probability reaches the operating point.
        calibrated: Finding → the probability at the temperature chosen on validation; None if there is none.
        flags: Warnings about the photograph (``fundusnet.data.appearance.FLAGS``).
        maps: Finding → activation in [0, 1], ``(H, W)`` in the frame of the photograph, 0 outside the field of view;
            None if no maps were asked for.
    """

    probability: dict[str, float]
    predicted: dict[str, bool]
    calibrated: dict[str, float | None]
    flags: tuple[str, ...]
    maps: dict[str, Map] | None = None


class FindingsPredictor(Predictor[FindingsAnswer, FindingsResult]):
    """Networks for one or several findings; the probabilities of networks of the same finding are averaged.

    Attributes:
        findings: In the order of the networks.
        thresholds: Finding → operating point. Our reading: the mean of those of several networks.
        counts: Finding → number of networks that its probability is averaged over.
    """

    def __init__(self, networks: Sequence[TrainedNetwork], device: torch.device) -> None:
        super().__init__(networks, device)
        self.findings = tuple(dict.fromkeys(name for network in networks for name in network.names))
        thresholds = {
            name: [network.thresholds[name] for network in networks if name in network.names] for name in self.findings
        }
        self.counts = {name: len(each) for name, each in thresholds.items()}
        self.thresholds = {name: float(np.mean(each)) for name, each in thresholds.items()}

    def describe(self) -> dict[str, object]:
        """Entries of ``prediction.yaml`` about the findings."""
        return {
            "findings": [
                {"name": name, "operating_point": self.thresholds[name], "networks": self.counts[name]}
                for name in self.findings
            ]
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

    @property
    def _answer_columns(self) -> tuple[str, ...]:
        return ("finding", "probability", "predicted", "calibrated", "networks")

    def _answer_rows(self, answer: FindingsAnswer) -> list[tuple[object, ...]]:
        return [
            (name, format_number(probability), int(predicted), format_number(calibrated), self.counts[name])
            for name, probability, predicted, calibrated in zip(
                self.findings, answer.probability, answer.predicted, answer.calibrated, strict=True
            )
        ]

    def _answers(self, pictures: Sequence[PreparedPhotograph]) -> list[FindingsAnswer]:
        probability: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.findings}
        calibrated: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.findings}
        maps: dict[str, list[Map]] = {name: [] for name in self.findings}
        for network in self.networks:
            activation, each = (t.float().cpu().numpy() for t in network.module(self.batch(pictures, network)))
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
        return [
            FindingsAnswer(
                mean[i],
                mean_calibrated[i],
                predicted[i],
                [mean_map([cells[i] for cells in maps[name]]) for name in self.findings],
            )
            for i in range(len(pictures))
        ]

    def _result(self, answer: FindingsAnswer, picture: PreparedPhotograph, maps: bool) -> FindingsResult:
        warped = None
        if maps:
            warped = {n: warp_to_photograph(cells, picture, self.size) for n, cells in self.maps_of(answer).items()}
        return FindingsResult(
            dict(zip(self.findings, answer.probability.tolist(), strict=True)),
            dict(zip(self.findings, answer.predicted.tolist(), strict=True)),
            dict(zip(self.findings, map(none_if_nan, answer.calibrated), strict=True)),
            picture.flags,
            warped,
        )
