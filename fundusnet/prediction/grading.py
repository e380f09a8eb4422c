"""Grades of photographs, and what the first stage looked at (S2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundusnet.data.decode import Pixels
from fundusnet.errors import UserError
from fundusnet.evaluation.calibration import at_temperature
from fundusnet.grading.ranking import class_probabilities, grade_from_probabilities
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage, first_stage
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.maps import Map, in_photograph, mean_map
from fundusnet.prediction.networks import Network
from fundusnet.prediction.picture import Picture
from fundusnet.prediction.predictor import Predictor
from fundusnet.prediction.tables import number


@dataclass(frozen=True)
class GradingAnswer:
    """Of one photograph: ``grade``, ``p`` and ``calibrated`` ``(K-1,)``, stage 1's grade and mask ``(h, w)`` in [0, 1].

    ``stage1`` is None where there is no first stage, ``mask`` where the network has no maps.
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
        grade, name: predicted, 0 … K-1, and what it is called.
        p_gt: probability of "grade > k" for k = 0 … K-2.
        calibrated_gt: the same at the temperatures chosen on validation; None where there is none.
        stage1_grade: what the first stage said; None where there is none.
        flags: what is out of the ordinary about the photograph (``fundusnet.data.appearance.FLAGS``).
        mask: where the first stage (or a single one) looked, in [0, 1], ``(H, W)`` in the frame of the photograph, 0
            outside the field of view. None where it was not asked for, or the network has no maps.
        roi: what the second stage saw: uint8 RGB ``(S, S, 3)`` in the prepared frame; None where there is none.
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

    The grade of several follows from their mean: the most probable class where all are K-way softmaxes, otherwise how
    many of the K-1 probabilities exceed 0.5.

    Attributes:
        classes: names of the grades 0 … K-1.
        two_stages: whether there is a first stage in each network.
    """

    def __init__(self, networks: Sequence[Network], device: torch.device) -> None:
        super().__init__(networks, device)
        self.classes = networks[0].names
        modules = [cast(RankingStage, network.module) for network in networks]
        self.two_stages = all(isinstance(module, TwoStage) for module in modules)
        self._softmax = all(module.network.head == "multiclass" for module in modules)
        self._softmax1 = self.two_stages and all(
            cast(TwoStage, module).stage1.head == "multiclass" for module in modules
        )

    def described(self) -> dict[str, object]:
        """What ``prediction.yaml`` says of the grades."""
        return {"classes": list(self.classes)}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``predictions.csv``; a row an image."""
        p = (f"{kind}_gt_{k}" for kind in ("p", "calibrated") for k in range(len(self.classes) - 1))
        first = ("image_id", "path", "patient_id", "eye", "predicted", "class", "stage1_predicted")
        return (*first, *p, "networks", "flags")

    @property
    def rows_each(self) -> int:
        """Rows a photograph."""
        return 1

    def rows(self, entry: Entry, picture: Picture, answer: GradingAnswer) -> list[tuple[object, ...]]:
        """Rows of ``predictions.csv`` for one photograph."""
        return [
            (
                *(entry.image_id, entry.path, entry.patient_id, entry.eye, answer.grade, self.classes[answer.grade]),
                "" if answer.stage1 is None else answer.stage1,
                *map(number, (*answer.p, *answer.calibrated)),
                *(len(self.networks), ";".join(picture.flags)),
            )
        ]

    def drawn(self, answer: GradingAnswer) -> dict[str, Map]:
        """Maps to draw, by what tells their files apart; none where the network has no maps."""
        return {} if answer.mask is None else {"": answer.mask}

    def _answers(self, pictures: Sequence[Picture]) -> list[GradingAnswer]:
        outputs = [self._output(pictures, network) for network in self.networks]
        p = torch.stack([output.p for output in outputs]).double().mean(dim=0)
        if not torch.isfinite(p).all():
            files = ", ".join(str(network.file) for network in self.networks)
            raise UserError(f"{files} gives no numbers: its training diverged; give another checkpoint")
        alone = len(outputs) == 1
        grade = outputs[0].grade if alone else _joint_grade(p, self._softmax)
        stage1: list[int | None] = [None] * len(pictures)
        if self.two_stages:
            first = [output.stage1 for output in outputs if output.stage1 is not None]
            joint = first[0].grade if alone else _joint_grade(_mean([each.p for each in first]), self._softmax1)
            stage1 = list(joint.tolist())
        calibrated = np.mean([_calibrated(*pair) for pair in zip(outputs, self.networks, strict=True)], axis=0)
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

    def _output(self, pictures: Sequence[Picture], network: Network) -> _Output:
        module, image = network.module, self.batch(pictures, network)
        if isinstance(module, TwoStage):
            whole = module(image)
            stage1 = _Output(whole.first.grade.cpu(), whole.first.p.cpu())
            return _Output(whole.grade.cpu(), whole.p.cpu(), _cells(whole.first.mask), stage1)
        assert isinstance(module, RankingStage)
        if module.network.has_maps:
            single = first_stage(module.network, module.picture(image))
            return _Output(single.grade.cpu(), single.p.cpu(), _cells(single.mask))
        plain = module(image)
        return _Output(plain.grade.cpu(), plain.p.cpu())

    def _result(self, answer: GradingAnswer, picture: Picture, maps: bool) -> GradingResult:
        mask = roi = None
        if maps and answer.mask is not None:
            mask = in_photograph(answer.mask, picture, self.size)
            if self.two_stages and len(self.networks) == 1:
                roi = _roi(picture.pixels[self.size], answer.mask, cast(TwoStage, self.networks[0].module).input)
        return GradingResult(
            answer.grade,
            self.classes[answer.grade],
            tuple(answer.p.tolist()),
            tuple(None if np.isnan(p) else float(p) for p in answer.calibrated),
            answer.stage1,
            picture.flags,
            mask,
            roi,
        )


@dataclass(frozen=True)
class _Output:
    """Of one network and a batch: grades ``(B,)``, ``p`` ``(B, K-1)``, masks ``(B, h, w)``, and stage 1's."""

    grade: torch.Tensor
    p: torch.Tensor
    mask: Map | None = None
    stage1: _Output | None = None


def _calibrated(output: _Output, network: Network) -> NDArray[np.float64]:
    columns = zip(output.p.T.numpy(), network.temperatures.values(), strict=True)
    return np.stack([at_temperature(p, temperature) for p, temperature in columns], axis=1)


def _cells(mask: torch.Tensor) -> Map:
    return np.asarray(mask[:, 0].float().cpu().numpy(), dtype=np.float32)


def _mean(p: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(p).double().mean(dim=0)


def _joint_grade(p: torch.Tensor, softmax: bool) -> torch.Tensor:
    return class_probabilities(p).argmax(dim=1) if softmax else grade_from_probabilities(p)


def _roi(pixels: Pixels, mask: Map, kind: str) -> Pixels:
    size = (pixels.shape[1], pixels.shape[0])
    veil = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)[..., None]
    seen = np.broadcast_to(255 * veil, pixels.shape) if kind == "mask_only" else pixels * veil
    return np.asarray(np.rint(seen), dtype=np.uint8)
