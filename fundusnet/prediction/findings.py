"""Findings in photographs: probabilities, decisions at the operating point, and maps (S1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fundusnet.errors import UserError
from fundusnet.evaluation.calibration import at_temperature
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.maps import Map, in_photograph, mean_map
from fundusnet.prediction.networks import Network
from fundusnet.prediction.picture import Picture
from fundusnet.prediction.predictor import Predictor
from fundusnet.prediction.tables import number


@dataclass(frozen=True)
class FindingsAnswer:
    """Of one photograph: ``probability`` and ``calibrated`` ``(F,)``, ``predicted`` bool ``(F,)``, a map a finding."""

    probability: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    predicted: NDArray[np.bool_]
    maps: list[Map]


@dataclass(frozen=True)
class FindingsResult:
    """What is found in a photograph.

    Attributes:
        probability: finding → probability of its presence, 0 to 1.
        predicted: finding → whether that reaches the operating point.
        calibrated: finding → the probability at the temperature chosen on validation; None where there is none.
        flags: what is out of the ordinary about the photograph (``fundusnet.data.appearance.FLAGS``).
        maps: finding → activation in [0, 1], ``(H, W)`` in the frame of the photograph, 0 outside the field of view;
            None where maps were not asked for.
    """

    probability: dict[str, float]
    predicted: dict[str, bool]
    calibrated: dict[str, float | None]
    flags: tuple[str, ...]
    maps: dict[str, Map] | None = None


class FindingsPredictor(Predictor[FindingsAnswer, FindingsResult]):
    """Networks for one or several findings; where several know a finding, their mean decides.

    Attributes:
        findings: in the order of the networks.
        thresholds: finding → operating point. Our reading: of several networks, the mean of theirs.
        counts: finding → how many networks its probability is the mean of.
    """

    def __init__(self, networks: Sequence[Network], device: torch.device) -> None:
        super().__init__(networks, device)
        self.findings = tuple(dict.fromkeys(name for network in networks for name in network.names))
        knowing = {name: [network for network in networks if name in network.names] for name in self.findings}
        self.counts = {name: len(known) for name, known in knowing.items()}
        self.thresholds = {
            name: float(np.mean([network.thresholds[name] for network in known])) for name, known in knowing.items()
        }

    def described(self) -> dict[str, object]:
        """What ``prediction.yaml`` says of the findings."""
        return {
            "findings": [
                {"name": name, "operating_point": self.thresholds[name], "networks": self.counts[name]}
                for name in self.findings
            ]
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``predictions.csv``; a row an image and finding."""
        about = ("image_id", "path", "patient_id", "eye", "finding")
        return (*about, "probability", "predicted", "calibrated", "networks", "flags")

    @property
    def rows_each(self) -> int:
        """Rows a photograph."""
        return len(self.findings)

    def rows(self, entry: Entry, picture: Picture, answer: FindingsAnswer) -> list[tuple[object, ...]]:
        """Rows of ``predictions.csv`` for one photograph."""
        return [
            (
                *(entry.image_id, entry.path, entry.patient_id, entry.eye, finding),
                *(number(answer.probability[f]), int(answer.predicted[f]), number(answer.calibrated[f])),
                *(self.counts[finding], ";".join(picture.flags)),
            )
            for f, finding in enumerate(self.findings)
        ]

    def drawn(self, answer: FindingsAnswer) -> dict[str, Map]:
        """Maps to draw, by what tells their files apart: a finding."""
        return dict(zip(self.findings, answer.maps, strict=True))

    def _answers(self, pictures: Sequence[Picture]) -> list[FindingsAnswer]:
        probability: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.findings}
        calibrated: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.findings}
        maps: dict[str, list[Map]] = {name: [] for name in self.findings}
        for network in self.networks:
            activation, each = (t.float().cpu().numpy() for t in network.module(self.batch(pictures, network)))
            if not np.isfinite(each).all():
                raise UserError(f"{network.file} gives no numbers: its training diverged; give another checkpoint")
            for f, name in enumerate(network.names):
                probability[name].append(each[:, f].astype(np.float64))
                calibrated[name].append(at_temperature(each[:, f], network.temperatures[name]))
                maps[name].append(activation[:, f])
        after = np.stack([np.mean(calibrated[name], axis=0) for name in self.findings], axis=1)
        mean = np.stack([np.mean(probability[name], axis=0) for name in self.findings], axis=1)
        predicted = mean >= np.array([self.thresholds[name] for name in self.findings])
        return [
            FindingsAnswer(
                mean[i], after[i], predicted[i], [mean_map([m[i] for m in maps[name]]) for name in self.findings]
            )
            for i in range(len(pictures))
        ]

    def _result(self, answer: FindingsAnswer, picture: Picture, maps: bool) -> FindingsResult:
        shown = None
        if maps:
            shown = {name: in_photograph(cells, picture, self.size) for name, cells in self.drawn(answer).items()}
        return FindingsResult(
            dict(zip(self.findings, answer.probability.tolist(), strict=True)),
            dict(zip(self.findings, answer.predicted.tolist(), strict=True)),
            {name: None if np.isnan(p) else float(p) for name, p in zip(self.findings, answer.calibrated, strict=True)},
            picture.flags,
            shown,
        )
