"""The two-stage system: the second stage grades the image through the mask of a frozen first stage (S2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from fundusnet.errors import UserError
from fundusnet.grading import cam
from fundusnet.grading.network import GradingNetwork
from fundusnet.grading.stage import (
    Batch,
    Graded,
    Input,
    RankingStage,
    check_finite,
    graded,
    load_stage,
    mean_grade,
    scaled,
)
from fundusnet.networks.build import build_network, without_start
from fundusnet.networks.flips import FLIPS, flipped, mean_map
from fundusnet.runs.checkpoints import load_checkpoint, trained_parameters

MaskKind = Literal["predicted", "constant", "agnostic", "other"]
MASK_KINDS: tuple[MaskKind, ...] = ("predicted", "constant", "agnostic", "other")


@dataclass(frozen=True)
class Masked(Graded):
    """A first stage's prediction, and its ``mask`` ``(B, 1, h, w)`` in [0, 1], not upsampled."""

    mask: Tensor


@dataclass(frozen=True)
class TwoStageOutput(Graded):
    """The system's prediction, which is stage 2's, and how it was made.

    ``first`` is stage 1's prediction and mask; ``mask`` ``(B, 1, H, W)`` in [0, 1] is the mask that was used; ``roi``
    ``(B, 3, H, W)`` in [0, 1] is stage 2's input.
    """

    first: Masked
    mask: Tensor
    roi: Tensor


def first_stage(
    network: GradingNetwork,
    picture: Tensor,
    kind: MaskKind = "predicted",
    scale: cam.Scale = "minmax",
    floor: float = 0.0,
) -> Masked:
    """Grade images and make the mask of each in one pass through the network (S2.2).

    Args:
        network: Of stage 1, in evaluation mode; any head that has activation maps.
        picture: ``(B, 3, H, W)`` float in [0, 1].
        kind: The mask of the *predicted* grade, or a control (S2.5): ``constant``, ones; ``agnostic``, the mean over
            all grades; ``other``, the mask of the previous image in the batch.
        scale, floor: As in ``fundusnet.grading.cam.grade_mask``.
    """
    with torch.no_grad():
        logits, cams = network.with_maps(picture)
        answer = graded(network, logits)
        cells = (cams.shape[-2], cams.shape[-1])
        if kind == "constant":
            mask = cam.constant_mask(len(picture), cells, picture.device)
        elif kind == "agnostic":
            mask = cam.agnostic_mask(cams, cells, scale, floor)
        else:
            of_grade = cam.class_mask if network.head == "multiclass" else cam.grade_mask
            mask = of_grade(cams, answer.grade, cells, scale, floor)
            if kind == "other":
                if len(mask) < 2:
                    raise UserError("mask.kind=other needs two images in each batch; change data.batch_size")
                mask = cam.other_mask(mask)
    return Masked(answer.grade, answer.p, mask)


class TwoStage(RankingStage):
    """Stage 2 behind a frozen stage 1; one checkpoint holds both (S2.2, S2.3).

    It trains as ``fundusnet.grading.stage.RankingStage`` does, on regions of interest, through the ``mask`` of the
    batch (out-of-fold masks, S2.5) or else the mask that stage 1 makes of the augmented images. A mask is always of
    the predicted grade; labels never affect it.

    Args:
        classes, network, channels_last, loss, optimizer, schedule, flips, network_class: Of stage 2, as in
            ``RankingStage``.
        stage1: Specification of stage 1's network, which needs a linear classifier (``hidden: null``).
        mask: ``kind``, ``scale`` and ``floor`` as in ``first_stage``.
        input: ``roi`` or ``mask_only``.

    Raises:
        UserError: A first stage without activation maps, unknown mask options.
    """

    def __init__(
        self,
        classes: int,
        network: dict[str, Any],
        stage1: dict[str, Any],
        mask: dict[str, Any] | None = None,
        input: Input = "roi",
        channels_last: bool = True,
        flips: bool = False,
        network_class: type[nn.Module] | None = None,
        **training: Any,
    ) -> None:
        if input == "image":
            raise UserError("stage 2 of two sees input=roi or input=mask_only; for whole images train a single stage")
        options = _mask_options(mask or {})
        super().__init__(classes, network, input, channels_last, flips=flips, network_class=network_class, **training)
        self.save_hyperparameters("classes", "network", "stage1", "mask", "input", "channels_last", "flips")
        self.mask_options = options
        self.stage1 = cast(GradingNetwork, build_network(stage1, network_class, classes=classes))
        self.stage1.to(memory_format=self.memory_format)
        if not self.stage1.has_maps:
            raise UserError("stage 1 has a hidden layer and so no activation maps; train it with network.hidden=null")
        self.stage1.requires_grad_(False).eval()

    @classmethod
    def from_stage1(cls, stage1: str | Path, classes: int, **stage2: Any) -> TwoStage:
        """A new stage 2 behind the trained stage 1 of a checkpoint; ``stage2`` are the arguments of the constructor.

        Raises:
            UserError: The checkpoint is not of a first stage with ``classes`` grades.
        """
        first = load_stage(stage1, stage2.get("network_class"))
        if first.classes != classes:
            raise UserError(f"stage 1 in {stage1} has {first.classes} grades, the data has {classes}; train it on them")
        return cls._joined(first, stage1, {**stage2, "classes": classes})

    @classmethod
    def from_stages(cls, stage1: str | Path, stage2: str | Path, mask: dict[str, Any] | None = None) -> TwoStage:
        """The system of two checkpoints: stage 1's, and stage 2's or that of a system whose stage 1 is replaced.

        ``mask`` replaces the mask options that the second checkpoint holds.

        Raises:
            UserError: The stages have different numbers of grades; stage 2 was trained on whole images, or behind a
                first stage of another backbone; a file is missing or of something else.
        """
        first = load_stage(stage1)
        content = load_checkpoint(Path(stage2))
        parameters = trained_parameters(content)
        if "classes" not in parameters:
            raise UserError(f"checkpoint {stage2} is not of a grading stage; give one that training stage 2 wrote")
        if parameters["classes"] != first.classes:
            raise UserError(
                f"stage 1 in {stage1} has {first.classes} grades, stage 2 in {stage2} {parameters['classes']}; "
                "give two stages of the same data"
            )
        if parameters["input"] == "image":
            raise UserError(f"stage 2 in {stage2} was trained on whole images; train it with input=roi")
        backbone = first.hparams["network"].get("backbone", "densenet121")
        before = parameters.get("stage1", {}).get("backbone", backbone)
        if before != backbone:
            raise UserError(
                f"stage 2 in {stage2} was trained behind {before}, stage 1 in {stage1} is {backbone}; "
                f"give a stage 1 with {before}"
            )
        if mask is not None:
            parameters["mask"] = mask
        system = cls._joined(first, stage1, parameters)
        system.load_state_dict({**content["state_dict"], **_stage1_state(first)})
        return system.eval()

    def train(self, mode: bool = True) -> TwoStage:
        """Stage 1 stays in evaluation mode: its batch-norm statistics do not change."""
        super().train(mode)
        self.stage1.eval()
        return self

    def forward(self, image: Tensor, mask: Tensor | None = None) -> TwoStageOutput:
        """Grade ``(B, 3, H, W)`` pictures, uint8 or float in [0, 1]; ``mask`` ``(B, 1, h, w)`` replaces stage 1's."""
        if self.flips:
            return self._over_flips(image, mask)
        return self._once(image, mask)

    def _over_flips(self, image: Tensor, mask: Tensor | None) -> TwoStageOutput:
        masks = [None] * len(FLIPS) if mask is None else list(flipped(mask))
        each = [self._once(*pair) for pair in zip(flipped(image), masks, strict=True)]
        first = mean_grade(self.stage1, [answer.first.p for answer in each])
        final = mean_grade(self.network, [answer.p for answer in each])
        looked = Masked(first.grade, first.p, mean_map([answer.first.mask for answer in each]))
        used = mean_map([answer.mask for answer in each])
        return TwoStageOutput(final.grade, final.p, looked, used, self.picture(image, used))

    def _once(self, image: Tensor, mask: Tensor | None) -> TwoStageOutput:
        first = self.look(image)
        used = cam.upsampled(first.mask if mask is None else scaled(mask), (image.shape[-2], image.shape[-1]))
        roi = self.picture(image, used)
        final = graded(self.network, self.network(roi))
        return TwoStageOutput(final.grade, final.p, first, used, roi)

    def look(self, image: Tensor) -> Masked:
        """Stage 1's prediction and mask."""
        picture = scaled(image).contiguous(memory_format=self.memory_format)
        return first_stage(self.stage1, picture, **self.mask_options)

    def batch_mask(self, batch: Batch) -> Tensor:
        """The mask of the batch, or the one that stage 1 makes."""
        return batch["mask"] if "mask" in batch else self.look(batch["image"]).mask

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """``p``, ``grade``, ``index``; of stage 1 ``stage1_p``, ``stage1_grade`` and ``mask`` ``(B, 1, h, w)``."""
        result = self(batch["image"], batch.get("mask"))
        check_finite(torch.cat([result.p, result.first.p], dim=1), batch)
        return {
            "p": result.p,
            "grade": result.grade,
            "stage1_p": result.first.p,
            "stage1_grade": result.first.grade,
            "mask": batch.get("mask", result.first.mask),
            "index": batch["index"],
        }

    @classmethod
    def _joined(cls, first: RankingStage, file: str | Path, stage2: dict[str, Any]) -> TwoStage:
        if first.input != "image":
            raise UserError(f"stage 1 in {file} was trained with input={first.input}; train it on whole images")
        system = cls(**{**stage2, "stage1": without_start(first.hparams["network"])})
        system.stage1.load_state_dict(first.network.state_dict())
        return system


def _stage1_state(first: RankingStage) -> dict[str, Tensor]:
    return {f"stage1.{key}": value for key, value in first.network.state_dict().items()}


def _mask_options(mask: dict[str, Any]) -> dict[str, Any]:
    options = {"kind": "predicted", "scale": "minmax", "floor": 0.0, **mask}
    for key, known in (("kind", MASK_KINDS), ("scale", cam.SCALES)):
        if options[key] not in known:
            raise UserError(f"mask.{key}={options[key]} is unknown; use {', '.join(known)}")
    if not 0 <= options["floor"] <= 1:
        raise UserError(f"mask.floor={options['floor']} is outside [0, 1]")
    return options
