"""One stage of the grading system as a LightningModule: network, losses, optimiser, best epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from fundusnet.data.features import stored_features
from fundusnet.errors import NotFiniteError, UserError
from fundusnet.fitting.optimizers import MakeOptimizer, build_optimizer
from fundusnet.fitting.schedules import build_schedule
from fundusnet.grading.cam import upsampled
from fundusnet.grading.network import GradingNetwork
from fundusnet.grading.ranking import GradingLoss, grade_of, predicted_grade, probabilities
from fundusnet.networks.build import build_network
from fundusnet.networks.flips import flipped
from fundusnet.runs.checkpoints import load_checkpoint, load_module, trained_parameters

Batch = dict[str, Tensor]
Input = Literal["image", "roi", "mask_only"]


@dataclass(frozen=True)
class Graded:
    """A stage's prediction: ``grade`` ``(B,)`` long, ``p`` ``(B, K-1)``, the probability of "grade > k"."""

    grade: Tensor
    p: Tensor


class RankingStage(pl.LightningModule):
    """Learns ordered grades from whole images or from regions of interest (S2.1-S2.4).

    A batch is a dict: ``image`` ``(B, 3, H, W)`` uint8, or float in [0, 1]; ``grade`` ``(B,)`` long; ``index``
    ``(B,)``, the row of the prepared set; with ``input`` other than image also ``mask`` ``(B, 1, h, w)``, uint8 or
    float in [0, 1], upsampled where it is smaller than the image.

    Each member of the network (a ranking's K-1 sub-classifiers) keeps the weights of its own best epoch by validation
    loss, in checkpoints too; ``restore_best`` puts them in place when training has ended.

    Args:
        classes: Number K of ordered grades.
        network: Plain values: ``name`` of the network's class, and its arguments.
        input: ``image``; ``roi``, the image times its mask; ``mask_only``, the mask in place of the image (S2.5).
        channels_last: Memory layout of pictures and weights.
        loss, optimizer, schedule, flips, network_class: As in ``fundusnet.findings.module.GuidedModule``; the loss is
            called as ``fundusnet.grading.ranking.GradingLoss`` is.
    """

    def __init__(
        self,
        classes: int,
        network: dict[str, Any],
        input: Input = "image",
        channels_last: bool = True,
        loss: nn.Module | None = None,
        optimizer: MakeOptimizer | None = None,
        schedule: Callable[..., LRScheduler] | None = None,
        flips: bool = False,
        network_class: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("classes", "network", "input", "channels_last", "flips")
        self.flips = flips
        self.classes = classes
        self.input = input
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = cast(GradingNetwork, build_network(network, network_class, classes=classes))
        self.network.to(memory_format=self.memory_format)
        self.loss = GradingLoss() if loss is None else loss
        self.make_optimizer, self.make_schedule = optimizer, schedule
        members = len(self.network.members)
        #: validation loss and epoch of each member's best weights so far
        self.best_loss: list[float] = [math.inf] * members
        self.best_epoch: list[int] = [-1] * members
        self._best_weights: list[dict[str, Tensor]] = [{} for _ in range(members)]
        self._judged: list[dict[str, Tensor]] = []
        self.member_losses = nn.ModuleList(MeanMetric() for _ in range(members))
        self.accuracy = MeanMetric()

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Graded:
        """Grade ``(B, 3, H, W)`` images, uint8 or float in [0, 1], whole or through ``mask`` ``(B, 1, h, w)``."""
        if not self.flips:
            return graded(self.network, self.network(self.picture(image, mask)))
        pictures = flipped(self.picture(image, mask))
        return mean_grade(self.network, [probabilities(self.network.head, self.network(each)) for each in pictures])

    def picture(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """The network's input: float ``(B, 3, H, W)`` in [0, 1], before its channels are normalised (S2.2)."""
        picture = scaled(image)
        if mask is not None:
            veil = upsampled(scaled(mask), (image.shape[-2], image.shape[-1]))
            picture = veil.expand_as(picture) if self.input == "mask_only" else picture * veil
        return picture.contiguous(memory_format=self.memory_format)

    def batch_mask(self, batch: Batch) -> Tensor | None:
        """The mask of the batch, None for whole images."""
        if self.input == "image":
            return None
        if "mask" not in batch:
            raise UserError(
                f"input={self.input} needs a mask with each image, and there is none; make masks with stage 1"
            )
        return batch["mask"]

    def network_inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The network's input of a batch of images."""
        return (self.picture(batch["image"], self.batch_mask(batch)),)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        losses, _ = self._losses(batch, "train")
        size = len(batch["index"])
        for name, value in self._named(losses):
            shown = name == "loss"
            self.log(
                f"train/{name}", value, prog_bar=shown, on_step=False, on_epoch=True, sync_dist=True, batch_size=size
            )
        return losses.sum()

    def on_validation_epoch_start(self) -> None:
        # A callback that averages weights lends the averages for the validation, and takes them back before its end.
        self._judged = [copied(member) for member in self.network.members] if self._chooses_epochs else []

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        losses, logits = self._losses(batch, "val")
        size = len(batch["index"])
        # Not by Lightning's own means over processes, which round the mean size of uneven batches.
        for mean, loss in zip(cast(Iterable[MeanMetric], self.member_losses), losses, strict=True):
            mean.update(loss, weight=size)
        self.accuracy.update((graded(self.network, logits).grade == batch["grade"]).float())

    def on_validation_epoch_end(self) -> None:
        # Before any callback saves a checkpoint, which happens in on_validation_end: this epoch may be the best.
        means = cast(Iterable[MeanMetric], self.member_losses)
        losses = torch.stack([mean.compute() for mean in means])
        for name, value in self._named(losses):
            self.log(f"val/{name}", value, prog_bar=name == "loss")
        self.log("val/accuracy", self.accuracy.compute())
        for metric in (*means, self.accuracy):
            metric.reset()
        if self._chooses_epochs:
            self._keep_best(losses.tolist())

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        if "image" in batch:
            result = self(batch["image"], self.batch_mask(batch))
        else:
            result = graded(self.network, self._logits(batch))
        check_finite(result.p, batch)
        return {"p": result.p, "grade": result.grade, "index": batch["index"]}

    def restore_best(self) -> list[int]:
        """Give each member the weights of its best epoch, drop the copies, and return those epochs.

        Raises:
            UserError: No validation epoch has finished since the last call.
        """
        if not all(self._best_weights):
            raise UserError("there is no best epoch to restore: no validation epoch has finished")
        for member, weights in zip(self.network.members, self._best_weights, strict=True):
            member.load_state_dict(weights)
            weights.clear()
        return list(self.best_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"] = {"loss": self.best_loss, "epoch": self.best_epoch, "weights": self._best_weights}
        checkpoint["hyper_parameters"] = trained_parameters(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        best = checkpoint["best"]
        self.best_loss, self.best_epoch = list(best["loss"]), list(best["epoch"])
        self._best_weights = [dict(weights) for weights in best["weights"]]

    def configure_optimizers(self) -> Any:
        assert self.make_optimizer is not None, "a stage that was loaded for prediction has no optimiser"
        optimizer = build_optimizer(self.make_optimizer, self.network)
        if self.make_schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": build_schedule(self.make_schedule, optimizer, self.trainer)}

    def _losses(self, batch: Batch, split: str) -> tuple[Tensor, Tensor]:
        """``(M,)`` losses of the network's members, and the logits.

        Training minimises their sum, so each member is trained as it would be alone.
        """
        logits = self._logits(batch)
        losses = self.loss(self.network.head, logits, batch["grade"])
        if not torch.isfinite(losses).all():
            raise NotFiniteError(split, float(losses.detach().sum()), batch["index"].tolist())
        return losses, logits

    def _logits(self, batch: Batch) -> Tensor:
        """Logits of a batch of images, or of the features of a frozen backbone."""
        features = stored_features(batch)
        logits: Tensor = (
            self.network(*self.network_inputs(batch)) if features is None else self.network.decide(features)
        )
        return logits

    def _named(self, losses: Tensor) -> list[tuple[str, Tensor]]:
        parts = [(f"loss_gt_{k}", loss) for k, loss in enumerate(losses)] if self.network.head == "ranking" else []
        return [("loss", losses.sum()), *parts]

    @property
    def _chooses_epochs(self) -> bool:
        return self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking

    def _keep_best(self, losses: list[float]) -> None:
        for number, (judged, loss) in enumerate(zip(self._judged, losses, strict=True)):
            if loss < self.best_loss[number]:
                self.best_loss[number], self.best_epoch[number] = loss, self.current_epoch
                self._best_weights[number] = judged
        self._judged = []


def copied(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module, on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}


def load_stage(file: str | Path, network_class: type[nn.Module] | None = None) -> RankingStage:
    """A trained stage from its checkpoint, in evaluation mode, on the CPU.

    Raises:
        UserError: The file is missing, torn, or not of a stage.
    """
    content = load_checkpoint(Path(file))
    parameters = content.get("hyper_parameters", {})
    if "classes" not in parameters or "stage1" in parameters:
        raise UserError(f"checkpoint {file} is not of a single grading stage; give one that training a stage wrote")
    return load_module(Path(file), RankingStage, content, network_class)


def graded(network: GradingNetwork, logits: Tensor) -> Graded:
    """Grades and probabilities from the network's logits."""
    return Graded(predicted_grade(network.head, logits, network.decision), probabilities(network.head, logits))


def mean_grade(network: GradingNetwork, p: Sequence[Tensor]) -> Graded:
    """The grade of several predictions ``(B, K-1)`` for the same images."""
    mean = torch.stack(list(p)).mean(dim=0)
    return Graded(grade_of(network.decision, mean), mean)


def scaled(pixels: Tensor) -> Tensor:
    """uint8 → float in [0, 1]; floats pass."""
    return pixels.float().div(255) if pixels.dtype == torch.uint8 else pixels


def check_finite(p: Tensor, batch: Batch) -> None:
    """Refuse NaN and infinite probabilities: they would read as grade 0."""
    if not torch.isfinite(p).all():
        raise UserError(
            f"the network's output is NaN or infinite on the images in rows {_rows(batch)} of the prepared set; "
            "look at these images, or train again with a lower model.optimizer.lr"
        )


def _rows(batch: Batch) -> str:
    return ", ".join(str(i) for i in batch["index"].tolist())
