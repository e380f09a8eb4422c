"""The guided model as a LightningModule: network, loss, metrics, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from fundusnet.data.features import stored_features
from fundusnet.errors import NotFiniteError
from fundusnet.findings.metrics import DecidedAUROC
from fundusnet.fitting.optimizers import MakeOptimizer, build_optimizer
from fundusnet.fitting.schedules import build_schedule
from fundusnet.networks.build import build_network, without_start
from fundusnet.networks.flips import flipped, mean_map
from fundusnet.runs.checkpoints import trained_parameters

Batch = dict[str, Tensor]


class GuidedModule(pl.LightningModule):
    """Learns whether a finding is present and, through the guidance loss, where (S1.3-S1.5).

    Args:
        findings: Names of the F findings, in the order of the network's maps.
        size: Width and height of the pictures in pixels.
        network: Plain values: ``name`` of the network's class, and its arguments.
        channels_last: Memory layout of pictures and weights.
        loss: Called as ``GuidedLoss`` is; only training and validation need it.
        optimizer: Makes the optimiser of the parameters it is given; only training needs it.
        schedule: Makes the learning-rate schedule of that optimiser; None = a constant rate.
        flips: Predict the mean over an image and its three mirror images.
        network_class: The class of ``network`` if it is the user's own.
    """

    def __init__(
        self,
        findings: list[str],
        size: int,
        network: dict[str, Any],
        channels_last: bool = True,
        loss: nn.Module | None = None,
        optimizer: MakeOptimizer | None = None,
        schedule: Callable[..., LRScheduler] | None = None,
        flips: bool = False,
        network_class: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("findings", "size", "network", "channels_last", "flips")
        self.flips = flips
        self.findings = findings
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = build_network(network, network_class, findings=len(findings)).to(
            memory_format=self.memory_format
        )
        self.loss = loss
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.losses = nn.ModuleDict()  # means over validation by name, as soon as the loss has named its terms
        self.areas = nn.ModuleList(DecidedAUROC() for _ in findings)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, S, S)`` uint8 or float in [0, 1] → activation map ``(B, F, h, w)``, probability ``(B, F)``."""
        scaled = self._scaled(image)
        answers = [self.network(each) for each in (flipped(scaled) if self.flips else [scaled])]
        activations, probabilities = zip(
            *((m.float().sigmoid(), logit.float().sigmoid()) for m, logit in answers), strict=True
        )
        if not self.flips:
            return activations[0], probabilities[0]
        return mean_map(activations), torch.stack(probabilities).mean(dim=0)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        losses, _ = self._losses(batch, self.current_epoch)
        size = len(batch["index"])
        for name, value in losses.items():
            # All processes' batches are of one size.
            show = name == "loss"
            self.log(
                f"train/{name}", value, on_epoch=True, on_step=False, batch_size=size, prog_bar=show, sync_dist=True
            )
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        losses, logit = self._losses(batch, None)
        for name, value in losses.items():
            if name not in self.losses:
                self.losses[name] = MeanMetric().to(self.device)
            # Not by Lightning's own means over processes, which round the mean size of uneven batches.
            cast(MeanMetric, self.losses[name]).update(value, weight=len(batch["index"]))
        for area, score, label in zip(self.areas, logit.sigmoid().float().T, batch["label"].T, strict=True):
            cast(DecidedAUROC, area).update(score, label)

    def on_validation_epoch_end(self) -> None:
        for name, mean in cast(Iterable[tuple[str, MeanMetric]], self.losses.items()):
            self.log(f"val/{name}", mean.compute(), prog_bar=name == "loss")
            mean.reset()
        areas = {}
        for finding, metric in zip(self.findings, cast(Iterable[DecidedAUROC], self.areas), strict=True):
            areas[finding] = metric.compute()
            metric.reset()
            if areas[finding].isnan():
                rank_zero_warn(f"val/auroc of {finding} is undefined: the validation split holds one class of it only")
        defined = [value for value in areas.values() if not value.isnan()]
        if len(self.findings) > 1:
            for finding, value in areas.items():
                if not value.isnan():
                    self.log(f"val/auroc/{finding}", value)
        if defined:
            self.log("val/auroc", torch.stack(defined).mean())

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        if "image" in batch:
            activation, probability = self(batch["image"])
        else:
            activation, probability = (values.sigmoid() for values in self._logits(batch))
        return {"map": activation.float(), "probability": probability.float(), "index": batch["index"]}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hyper_parameters"] = trained_parameters(checkpoint)

    def configure_optimizers(self) -> Any:
        assert self.make_optimizer is not None, "a module that was loaded for prediction has no optimiser"
        optimizer = build_optimizer(self.make_optimizer, self.network)
        if self.make_schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": build_schedule(self.make_schedule, optimizer, self.trainer)}

    def _losses(self, batch: Batch, epoch: int | None) -> tuple[dict[str, Tensor], Tensor]:
        """The losses by name, and the logits ``(B, F)``; ``epoch`` is None in validation."""
        assert self.loss is not None, "a module that was loaded for prediction has no loss"
        logit_map, logit = self._logits(batch)
        losses = self.loss(logit_map, logit, batch["label"], batch["cue"], epoch)
        if not torch.isfinite(losses["loss"]):
            split = "val" if epoch is None else "train"
            raise NotFiniteError(split, float(losses["loss"].detach()), batch["index"].tolist())
        return losses, logit

    def _logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logit map and logits of a batch of images, or of the features of a frozen backbone."""
        features = stored_features(batch)
        found: tuple[Tensor, Tensor] = (
            self.network(self._scaled(batch["image"])) if features is None else self.network.decide(features)  # type: ignore[operator]
        )
        return found

    def _scaled(self, image: Tensor) -> Tensor:
        scaled = image.float().div(255) if image.dtype == torch.uint8 else image
        return scaled.contiguous(memory_format=self.memory_format)


def map_size(size: int, findings: int, network: dict[str, Any], network_class: type[nn.Module] | None = None) -> int:
    """Cells per side of the activation map of ``size`` x ``size`` images, from a run of the network without weights.

    A stride does not determine it: Inception-v3 has no padding and makes 14 x 14 cells of 512 pixels.
    """
    with torch.device("meta"), torch.inference_mode():
        built = build_network(without_start(network), network_class, findings=findings).eval()
        logit_map, _ = built(torch.zeros(1, 3, size, size))
    return int(logit_map.shape[-1])
