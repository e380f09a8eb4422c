"""One stage of the grading system as a LightningModule: network, losses, optimiser, best epochs, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from fundusnet.errors import NotFiniteError, UserError
from fundusnet.grading.cam import upsampled
from fundusnet.grading.network import GradingNetwork
from fundusnet.grading.ranking import grading_losses, predicted_grade, probabilities

Batch = dict[str, Tensor]
Input = Literal["image", "roi", "mask_only"]


@dataclass(frozen=True)
class Graded:
    """What a stage says of ``B`` pictures: ``grade`` ``(B,)`` long, ``p`` ``(B, K-1)``, probability of "grade > k"."""

    grade: Tensor
    p: Tensor


class RankingStage(pl.LightningModule):
    """Learns ordered grades from whole pictures or from regions of interest (S2.1-S2.4).

    A batch is a dict: ``image`` ``(B, 3, H, W)`` uint8, or float in [0, 1]; ``grade`` ``(B,)`` long; ``index``
    ``(B,)``, the row of the prepared set; with ``input`` other than image also ``mask`` ``(B, 1, h, w)``, uint8 or
    float in [0, 1], upsampled where it is smaller than the image.

    Each member of the network (a ranking's K-1 sub-classifiers) keeps the weights of its own best epoch by validation
    loss, in checkpoints too; ``restore_best`` puts them in place when training has ended.

    Args:
        classes: number K of ordered grades.
        network: options of ``fundusnet.grading.network.GradingNetwork``, plain values.
        optimizer: ``name`` (rmsprop, sgd or adamw), ``lr``, ``momentum``, ``weight_decay``, and ``decay``, the factor
            on the learning rate from one epoch to the next.
        input: ``image``; ``roi``, the image times its mask; ``mask_only``, the mask in place of the image (S2.5).
        class_counts: training images of each grade, to weigh them by inverse frequency; None = unweighted.
        channels_last: memory layout of pictures and weights.
    """

    def __init__(
        self,
        classes: int,
        network: dict[str, Any],
        optimizer: dict[str, Any],
        input: Input = "image",
        class_counts: list[int] | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if class_counts is not None and len(class_counts) != classes:
            raise UserError(
                f"{len(class_counts)} class counts were given for {classes} grades; give one for each grade"
            )
        self.classes = classes
        self.optimizer_options = optimizer
        self.input = input
        self.class_counts = class_counts
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = GradingNetwork(classes, **network).to(memory_format=self.memory_format)
        members = len(self.network.members)
        #: validation loss and epoch of each member's best weights so far
        self.best_loss: list[float] = [math.inf] * members
        self.best_epoch: list[int] = [-1] * members
        self._best_weights: list[dict[str, Tensor]] = [{} for _ in range(members)]
        self._val_sums: list[Tensor] = []

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Graded:
        """Grade ``(B, 3, H, W)`` pictures, uint8 or float in [0, 1], whole or through ``mask`` ``(B, 1, h, w)``."""
        return graded(self.network, self.network(self.picture(image, mask)))

    def picture(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the network sees: float ``(B, 3, H, W)`` in [0, 1], before its channels are normalised (S2.2)."""
        picture = scaled(image)
        if mask is not None:
            veil = upsampled(scaled(mask), (image.shape[-2], image.shape[-1]))
            picture = veil.expand_as(picture) if self.input == "mask_only" else picture * veil
        return picture.contiguous(memory_format=self.memory_format)

    def batch_mask(self, batch: Batch) -> Tensor | None:
        """The mask through which the batch is seen, None for whole images."""
        if self.input == "image":
            return None
        if "mask" not in batch:
            raise UserError(
                f"input={self.input} needs a mask with each image, and there is none; make masks with stage 1"
            )
        return batch["mask"]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        losses, _ = self._losses(batch, "train")
        size = len(batch["image"])
        for name, value in self._named(losses):
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=size, prog_bar=name == "loss")
        return losses.sum()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        losses, logits = self._losses(batch, "val")
        size = len(batch["image"])
        hits = (graded(self.network, logits).grade == batch["grade"]).sum()
        self._val_sums.append(torch.cat([losses * size, torch.stack([hits, hits.new_tensor(size)])]))

    def on_validation_epoch_end(self) -> None:
        # Before any callback saves a checkpoint, which happens in on_validation_end: this epoch may be the best.
        if not self._val_sums:
            return
        sums = self.trainer.strategy.reduce(torch.stack(self._val_sums).sum(dim=0), reduce_op="sum")
        self._val_sums.clear()
        means: Tensor = sums[:-1] / sums[-1]
        for name, value in self._named(means[:-1]):
            self.log(f"val/{name}", value, prog_bar=name == "loss")
        self.log("val/accuracy", means[-1])
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._keep_best(means[:-1].tolist())

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        result = self(batch["image"], self.batch_mask(batch))
        check_finite(result.p, batch)
        return {"p": result.p, "grade": result.grade, "index": batch["index"]}

    def restore_best(self) -> list[int]:
        """Give each member the weights of its best epoch, let go of the copies, and return those epochs.

        Raises:
            UserError: no validation epoch has finished since the last call.
        """
        if not all(self._best_weights):
            raise UserError("there is no best epoch to restore: no validation epoch has finished")
        for member, weights in zip(self.network.members, self._best_weights, strict=True):
            member.load_state_dict(weights)
            weights.clear()
        return list(self.best_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"] = {"loss": self.best_loss, "epoch": self.best_epoch, "weights": self._best_weights}
        parameters = checkpoint.get("hyper_parameters", {})
        checkpoint["hyper_parameters"] = {
            key: without_start(value) if key in ("network", "stage1") else value for key, value in parameters.items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        best = checkpoint["best"]
        self.best_loss, self.best_epoch = list(best["loss"]), list(best["epoch"])
        self._best_weights = [dict(weights) for weights in best["weights"]]

    def configure_optimizers(self) -> Any:
        options = self.optimizer_options
        parameters = [p for p in self.parameters() if p.requires_grad]
        common = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
        optimizer: torch.optim.Optimizer
        if options["name"] == "rmsprop":
            optimizer = torch.optim.RMSprop(parameters, momentum=options["momentum"], **common)
        elif options["name"] == "sgd":
            momentum = options["momentum"]
            optimizer = torch.optim.SGD(parameters, momentum=momentum, nesterov=momentum > 0, **common)
        elif options["name"] == "adamw":
            optimizer = torch.optim.AdamW(parameters, **common)
        else:
            raise UserError(f"model.optimizer.name={options['name']} is unknown; use rmsprop, sgd or adamw")
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=options["decay"])
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _losses(self, batch: Batch, split: str) -> tuple[Tensor, Tensor]:
        """``(M,)`` losses of the network's members, and the logits.

        Their sum is what training lowers: each member is trained as it would be alone.
        """
        logits = self.network(self.picture(batch["image"], self.batch_mask(batch)))
        losses = grading_losses(self.network.head, logits, batch["grade"], self.class_counts)
        if not torch.isfinite(losses).all():
            raise NotFiniteError(split, float(losses.detach().sum()), batch["index"].tolist())
        return losses, logits

    def _named(self, losses: Tensor) -> list[tuple[str, Tensor]]:
        parts = [(f"loss_gt_{k}", loss) for k, loss in enumerate(losses)] if self.network.head == "ranking" else []
        return [("loss", losses.sum()), *parts]

    def _keep_best(self, losses: list[float]) -> None:
        for number, (member, loss) in enumerate(zip(self.network.members, losses, strict=True)):
            if loss < self.best_loss[number]:
                self.best_loss[number], self.best_epoch[number] = loss, self.current_epoch
                state = member.state_dict()
                self._best_weights[number] = {key: value.detach().cpu().clone() for key, value in state.items()}


def load_stage(file: str | Path) -> RankingStage:
    """A trained stage from its checkpoint, in evaluation mode, on the CPU.

    Raises:
        UserError: the file is missing, torn, or not of a stage.
    """
    from fundusnet.runs.checkpoints import load_checkpoint  # it knows every module, this one too

    content = load_checkpoint(Path(file))
    parameters = content.get("hyper_parameters", {})
    if "classes" not in parameters or "stage1" in parameters:
        raise UserError(f"checkpoint {file} is not of a single grading stage; give one that training a stage wrote")
    stage = RankingStage(**parameters)
    stage.load_state_dict(content["state_dict"])
    return stage.eval()


def graded(network: GradingNetwork, logits: Tensor) -> Graded:
    """Grades and probabilities that the network's head reads from its logits."""
    return Graded(predicted_grade(network.head, logits), probabilities(network.head, logits))


def scaled(pixels: Tensor) -> Tensor:
    """uint8 → float in [0, 1]; floats pass."""
    return pixels.float().div(255) if pixels.dtype == torch.uint8 else pixels


def without_start(network: dict[str, Any]) -> dict[str, Any]:
    """Network options for a checkpoint: its weights are in the file, nothing is to be fetched for a start."""
    return {**network, "pretrained": False, "weights": None}


def check_finite(p: Tensor, batch: Batch) -> None:
    """Refuse probabilities that are no numbers: they would read as grade 0."""
    if not torch.isfinite(p).all():
        raise UserError(
            f"the network gives no numbers on the pictures in rows {_rows(batch)} of the prepared set; "
            "look at these pictures, or train again with a lower model.optimizer.lr"
        )


def _rows(batch: Batch) -> str:
    return ", ".join(str(i) for i in batch["index"].tolist())
