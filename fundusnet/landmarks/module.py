"""The localiser as a LightningModule: network, loss, metrics, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from fundusnet.config.ranges import Positive
from fundusnet.data.features import stored_features
from fundusnet.errors import NotFiniteError
from fundusnet.fitting.optimizers import MakeOptimizer, build_optimizer
from fundusnet.fitting.schedules import build_schedule
from fundusnet.landmarks.close_up import CloseUpHead, disc_radius
from fundusnet.landmarks.heatmap import cross_entropy, locate, targets
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.networks.build import build_network
from fundusnet.runs.checkpoints import trained_parameters

Batch = dict[str, Tensor]
LIKELY = 0.5  # confidence in both points from which on they are looked at closely; without both there is no scale


class LandmarkModule(pl.LightningModule):
    """Learns where optic disc and fovea are, and whether they are in the picture.

    Args:
        size: Width and height of the pictures in pixels.
        network: Plain values: ``name`` of the network's class, and its arguments.
        channels_last: Memory layout of pictures and weights.
        sigma: Standard deviation of a point's target, in cells.
        optimizer: Makes the optimiser of the parameters it is given; only training needs it.
        schedule: Makes the learning-rate schedule of that optimiser; None = a constant rate.
        network_class: The class of ``network`` if it is the user's own.
    """

    def __init__(
        self,
        size: int,
        network: dict[str, Any],
        channels_last: bool = True,
        sigma: Positive = 1.0,
        optimizer: MakeOptimizer | None = None,
        schedule: Callable[..., LRScheduler] | None = None,
        network_class: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("size", "network", "channels_last", "sigma")
        self.size, self.sigma = size, sigma
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = build_network(network, network_class).to(memory_format=self.memory_format)
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.loss_mean = MeanMetric()
        self.errors = nn.ModuleDict({name: MeanMetric(nan_strategy="ignore") for name in LANDMARKS})
        self.error = MeanMetric(nan_strategy="ignore")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Locate both points; each closely, where both are likely and the network can.

        Args:
            image: ``(B, 3, S, S)`` uint8 or float in [0, 1].

        Returns:
            Points of disc and fovea ``(B, 2, 2)`` in pixels of the image, and their confidence ``(B, 2)``.
        """
        picture = self._scaled(image)
        points, confidence = self._located(self.network(picture))
        radius = disc_radius(points)
        likely = ((confidence >= LIKELY).all(dim=-1) & (radius >= 1))[:, None, None]
        if self.close_up is None or not likely.any():
            return points, confidence
        maps = self.network.close_maps(picture, points.where(likely, torch.nan), radius)  # type: ignore[operator]
        closely = self._from_close_ups(self.close_up.decide_close(maps), points, radius)
        return closely.where(likely, points), confidence

    @property
    def close_up(self) -> CloseUpHead | None:
        """The part of the network that looks closely, if it has one."""
        found: CloseUpHead | None = getattr(self.network, "close_up", None)
        return found

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss, _, _ = self._loss(batch, "train")
        self.log(
            "train/loss", loss, on_epoch=True, on_step=False, batch_size=len(batch["index"]), prog_bar=True,
            sync_dist=True,
        )  # fmt: skip
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        loss, logits, closely = self._loss(batch, "val")
        self.loss_mean.update(loss, weight=len(batch["index"]))
        points, known = self._located(logits)[0], batch["points"]
        radius = disc_radius(known)[:, None]
        errors = (points - known).norm(dim=-1) / radius
        for number, name in enumerate(LANDMARKS):
            cast(MeanMetric, self.errors[name]).update(errors[:, number])
        if self.close_up is not None and closely is not None:
            points = self._from_close_ups(closely, batch["around"], batch["radius"])
            errors = (points - known).norm(dim=-1) / radius
        self.error.update(errors.clamp(max=1))  # one that is missed counts as a radius

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.loss_mean.compute(), prog_bar=True)
        self.loss_mean.reset()
        self.log("val/error", self.error.compute())
        self.error.reset()
        for name in LANDMARKS:
            metric = cast(MeanMetric, self.errors[name])
            self.log(f"val/error_{name}", metric.compute())
            metric.reset()

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        features = stored_features(batch)  # whose close-ups are around what is known
        located = self(batch["image"]) if features is None else self._located(self.network.decide(features))  # type: ignore[operator]
        points, confidence = located
        return {"points": points.float(), "confidence": confidence.float(), "index": batch["index"]}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hyper_parameters"] = trained_parameters(checkpoint)

    def configure_optimizers(self) -> Any:
        assert self.make_optimizer is not None, "a module that was loaded for prediction has no optimiser"
        optimizer = build_optimizer(self.make_optimizer, self.network)
        if self.make_schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": build_schedule(self.make_schedule, optimizer, self.trainer)}

    def _loss(self, batch: Batch, split: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss of a batch, and the logits of whole pictures and of close-ups."""
        features = stored_features(batch)
        maps = features
        if maps is None and self.close_up is not None:
            maps = self.network.extract(*self.network_inputs(batch))  # type: ignore[operator]
        logits: Tensor = self.network(self._scaled(batch["image"])) if maps is None else self.network.decide(maps)  # type: ignore[operator]
        points, (cells, stride) = batch["points"], self._grid(logits)
        loss = cross_entropy(logits.float(), targets(points, cells, stride, self.sigma))
        closely: Tensor | None = None
        if self.close_up is not None:
            closely = self.network.decide_close(maps)  # type: ignore[operator]
            inside = ((points > -0.5) & (points < self.size - 0.5)).all(dim=-1, keepdim=True)
            close = self.close_up.from_picture(points.where(inside, torch.nan), batch["around"], batch["radius"])
            assert closely is not None
            target = targets(close, *self._close_grid(closely), self.close_up.sigma)
            loss = loss + cross_entropy(closely.float(), target)
        if not torch.isfinite(loss):
            raise NotFiniteError(split, float(loss.detach()), batch["index"].tolist())
        return loss, logits, closely

    def network_inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """What ``LandmarkNetwork.extract`` takes of a batch of images."""
        picture = self._scaled(batch["image"])
        return (picture,) if self.close_up is None else (picture, batch["around"], batch["radius"])

    def _located(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return locate(logits.float(), self._grid(logits)[1])

    def _from_close_ups(self, logits: Tensor, around: Tensor, radius: Tensor) -> Tensor:
        """Points ``(B, 2, 2)`` in pixels of the picture, from logits of close-ups ``around`` others."""
        assert self.close_up is not None
        points, _ = locate(logits.float(), self._close_grid(logits)[1], self.close_up.sigma)
        return self.close_up.to_picture(points, around, radius)

    def _grid(self, logits: Tensor) -> tuple[int, float]:
        """Cells on each side of the map, and the pixels that one covers."""
        cells = round((logits.shape[-1] - 1) ** 0.5)
        return cells, self.size / cells

    def _close_grid(self, logits: Tensor) -> tuple[int, float]:
        assert self.close_up is not None
        cells = round((logits.shape[-1] - 1) ** 0.5)
        return cells, self.close_up.side / cells

    def _scaled(self, image: Tensor) -> Tensor:
        scaled = image.float().div_(255) if image.dtype == torch.uint8 else image
        return scaled.contiguous(memory_format=self.memory_format)
