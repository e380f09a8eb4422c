"""Grades of photographs, and where the first stage looked (S2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundusnet.data.decode import Pixels
from fundusnet.evaluation.calibration import at_temperature
from fundusnet.grading.ranking import Decision, grade_of
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage, first_stage
from fundusnet.prediction.dicom_objects import Statement
from fundusnet.prediction.map_geometry import Map, mean_map, warp_to_photograph
from fundusnet.prediction.output_files import format_number
from fundusnet.prediction.predictor import PredictionPrecision, Predictor, check_finite, none_if_nan
from fundusnet.prediction.preparation import PreparedPhotograph
from fundusnet.prediction.trained_network import TrainedNetwork


@dataclass(frozen=True)
class GradingAnswer:
    """What the networks predict for one photograph and K grades.

    Attributes:
        grade: 0 … K-1.
        p: ``(K-1,)``, probability of "grade > k".
        calibrated: ``(K-1,)``, the same at the temperatures chosen on validation; NaN if there is none.
        stage1: Grade of the first stage; None for a single stage.
        mask: ``(h, w)`` in [0, 1]; None if the network has no maps.
    """

    grade: int
    p: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    stage1: int | None
    mask: Map | None


@dataclass(frozen=True)
class GradingResult:
    """The grade of a photograph.

    Attributes:
        grade: Predicted grade, 0 … K-1.
        name: Its class name.
        p_gt: Probability of "grade > k" for k = 0 … K-2.
        calibrated_gt: The same at the temperatures chosen on validation; None if there is none.
        stage1_grade: Grade of the first stage; None for a single stage.
        flags: Warnings about the photograph (``fundusnet.data.appearance.FLAGS``).
        mask: Where the first (or only) stage looked, in [0, 1], ``(H, W)`` in the frame of the photograph, 0 outside
            the field of view; None if it was not asked for or the network has no maps.
        roi: What the second stage saw, uint8 RGB ``(S, S, 3)`` in the prepared frame; None if there is none.
    """

    grade: int
    name: str
    p_gt: tuple[float, ...]
    calibrated_gt: tuple[float | None, ...]
    stage1_grade: int | None
    flags: tuple[str, ...]
    mask: Map | None = None
    roi: Pixels | None = None


class GradingPredictor(Predictor[GradingAnswer, GradingResult]):
    """Networks that grade; the probabilities of several are averaged.

    The grade of several follows from the mean: the most probable one if all decide so, otherwise the number of the K-1
    probabilities that exceed 0.5.

    Attributes:
        classes: Names of the grades 0 … K-1.
        two_stages: Whether every network has a first stage.
    """

    def __init__(
        self, networks: Sequence[TrainedNetwork], device: torch.device, precision: PredictionPrecision = "32-true"
    ) -> None:
        super().__init__(networks, device, precision)
        self.classes = networks[0].names
        modules = [cast(RankingStage, network.module) for network in networks]
        self.two_stages = all(isinstance(module, TwoStage) for module in modules)
        self._decision = _common([module.network.decision for module in modules])
        first = [cast(TwoStage, module).stage1.decision for module in modules] if self.two_stages else []
        self._stage1_decision = _common(first)

    def describe(self) -> dict[str, object]:
        """Entries of ``prediction.yaml`` about the grades."""
        return {"classes": list(self.classes)}

    @property
    def rows_per_photograph(self) -> int:
        """One row."""
        return 1

    def maps_of(self, answer: GradingAnswer) -> dict[str, Map]:
        """The mask, if the network has maps."""
        return {} if answer.mask is None else {"": answer.mask}

    def statements(self, answer: GradingAnswer, picture: PreparedPhotograph) -> list[Statement]:
        """The grade, the probabilities of being above each, and the mask if there is one."""
        mask = None if answer.mask is None else warp_to_photograph(answer.mask, picture, self.size)
        probabilities = {f"above {name}": float(p) for name, p in zip(self.classes, answer.p.tolist(), strict=False)}
        return [Statement("grade", self.classes[answer.grade], probabilities, mask)]

    @property
    def _answer_columns(self) -> tuple[str, ...]:
        p = (f"{kind}_gt_{k}" for kind in ("p", "calibrated") for k in range(len(self.classes) - 1))
        return ("predicted", "class", "stage1_predicted", *p, "networks")

    def _answer_rows(self, answer: GradingAnswer) -> list[tuple[object, ...]]:
        stage1 = "" if answer.stage1 is None else answer.stage1
        p = map(format_number, (*answer.p, *answer.calibrated))
        return [(answer.grade, self.classes[answer.grade], stage1, *p, len(self.networks))]

    def _answers(self, pictures: Sequence[PreparedPhotograph]) -> list[GradingAnswer]:
        with self.autocast():
            outputs = [self._output(pictures, network) for network in self.networks]
        p, grade = _mean(outputs, self._decision)
        stage1: list[int | None] = [None] * len(pictures)
        if self.two_stages:
            first = [output.stage1 for output in outputs if output.stage1 is not None]
            stage1 = list(_mean(first, self._stage1_decision)[1].tolist())
        pairs = zip(outputs, self.networks, strict=True)
        calibrated = np.mean([_calibrated(output, network) for output, network in pairs], axis=0)
        masks = [output.mask for output in outputs if output.mask is not None]
        return [
            GradingAnswer(
                int(grade[i]),
                p[i].numpy(),
                calibrated[i],
                stage1[i],
                mean_map([mask[i] for mask in masks]) if masks else None,
            )
            for i in range(len(pictures))
        ]

    def _output(self, pictures: Sequence[PreparedPhotograph], network: TrainedNetwork) -> _Output:
        module, image = network.module, self.batch(pictures, network)
        stage1 = mask = None
        assert isinstance(module, RankingStage)
        if isinstance(module, TwoStage):
            both = module(image)
            grade, p, mask = both.grade, both.p, both.first.mask
            stage1 = _Output(both.first.grade.cpu(), both.first.p.cpu())
        elif module.network.has_maps:
            single = first_stage(module.network, module.picture(image))
            plain = module(image) if module.flips else single
            grade, p, mask = plain.grade, plain.p, single.mask
        else:
            plain = module(image)
            grade, p = plain.grade, plain.p
        check_finite(p.float().cpu().numpy(), network)
        cells = None if mask is None else np.asarray(mask[:, 0].float().cpu().numpy(), dtype=np.float32)
        return _Output(grade.cpu(), p.cpu(), cells, stage1)

    def _result(self, answer: GradingAnswer, picture: PreparedPhotograph, maps: bool) -> GradingResult:
        mask = roi = None
        if maps and answer.mask is not None:
            mask = warp_to_photograph(answer.mask, picture, self.size)
            if self.two_stages and len(self.networks) == 1:
                roi = _roi(picture.pixels[self.size], answer.mask, cast(TwoStage, self.networks[0].module).input)
        return GradingResult(
            answer.grade,
            self.classes[answer.grade],
            tuple(answer.p.tolist()),
            tuple(map(none_if_nan, answer.calibrated)),
            answer.stage1,
            picture.flags,
            mask,
            roi,
        )


@dataclass(frozen=True)
class _Output:
    """Output of one network for a batch: grades ``(B,)``, ``p`` ``(B, K-1)``, masks ``(B, h, w)``, and stage 1's."""

    grade: torch.Tensor
    p: torch.Tensor
    mask: Map | None = None
    stage1: _Output | None = None


def _common(decisions: Sequence[Decision]) -> Decision:
    return "most_probable" if set(decisions) == {"most_probable"} else "count"


def _mean(outputs: Sequence[_Output], decision: Decision) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean probabilities ``(B, K-1)`` of several networks, and the grades ``(B,)`` that follow from them."""
    p = torch.stack([output.p for output in outputs]).double().mean(dim=0)
    if len(outputs) == 1:
        return p, outputs[0].grade
    return p, grade_of(decision, p)


def _calibrated(output: _Output, network: TrainedNetwork) -> NDArray[np.float64]:
    columns = zip(output.p.T.numpy(), network.temperatures.values(), strict=True)
    return np.stack([at_temperature(p, temperature) for p, temperature in columns], axis=1)


def _roi(pixels: Pixels, mask: Map, kind: str) -> Pixels:
    size = (pixels.shape[1], pixels.shape[0])
    weight = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)[..., None]
    seen = np.broadcast_to(255 * weight, pixels.shape) if kind == "mask_only" else pixels * weight
    return np.asarray(np.rint(seen), dtype=np.uint8)
