"""The guided model as a LightningModule: network, loss, metrics, optimiser, and nothing else."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from fundusnet.errors import NotFiniteError, UserError
from fundusnet.findings.loss import classification_loss, guidance_loss
from fundusnet.findings.network import GuidedCAM, GuidedTimm, InceptionCAM
from fundusnet.fitting.gathering import gathered

Batch = dict[str, Tensor]
LOSSES = ("loss", "classification", "guidance")  # what training lowers, and its two terms


class GuidedModule(pl.LightningModule):
    """Learns whether a finding is present and, through the guidance loss, where (S1.3-S1.5).

    Args:
        findings: names of the F findings, in the order of the network's maps.
        size: width and height of the pictures in pixels.
        network, loss, optimizer: plain values, as in ``conf/model``.
        max_epochs: length of the learning-rate schedule.
        positive_weight: absent / present ratio of each finding in the training labels; None = unweighted.
        channels_last: memory layout of pictures and weights.
    """

    positive_weight: Tensor | None
    window: Tensor | None

    def __init__(
        self,
        findings: list[str],
        size: int,
        network: dict[str, Any],
        loss: dict[str, Any],
        optimizer: dict[str, Any],
        max_epochs: int = 1,
        positive_weight: list[float] | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.findings = findings
        self.loss_options = loss
        self.optimizer_options = optimizer
        self.max_epochs = max_epochs
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = build_network(len(findings), **network).to(memory_format=self.memory_format)
        self.register_buffer(
            "positive_weight", torch.tensor(positive_weight) if positive_weight else None, persistent=False
        )
        window = pooling_windows(network, len(findings)) if loss["per"] == "window" else None
        self.register_buffer("window", window, persistent=False)
        self._scores: list[tuple[Tensor, Tensor]] = []
        self._sums: list[Tensor] = []

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, S, S)`` uint8 or float in [0, 1] → activation map ``(B, F, h, w)``, probability ``(B, F)``."""
        logit_map, logit = self.network(self._scaled(image))
        return logit_map.sigmoid(), logit.sigmoid()

    def guidance_weight(self) -> float:
        """λ of this epoch: it rises from 0 over ``loss.warmup_epochs``."""
        weight, warmup = float(self.loss_options["weight"]), int(self.loss_options["warmup_epochs"])
        return weight * min(1.0, self.current_epoch / warmup) if warmup else weight

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        losses, _ = self._losses(batch, "train")
        size = len(batch["image"])
        for name, value in losses.items():
            # All processes' batches are of one size.
            show = name == "loss"
            self.log(
                f"train/{name}", value, on_epoch=True, on_step=False, batch_size=size, prog_bar=show, sync_dist=True
            )
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        losses, logit = self._losses(batch, "val")
        self._scores.append((logit.sigmoid().float(), batch["label"]))
        size = len(batch["image"])
        self._sums.append(torch.stack([*losses.values(), logit.new_ones(())]).float() * size)

    def on_validation_epoch_end(self) -> None:
        if not self._scores:
            return
        # Not by Lightning's own means over processes, which cut the mean size of uneven batches down to a whole number.
        sums = self.trainer.strategy.reduce(torch.stack(self._sums).sum(dim=0), reduce_op="sum")
        self._sums.clear()
        for name, value in zip(LOSSES, sums[:-1] / sums[-1], strict=True):
            self.log(f"val/{name}", value, prog_bar=name == "loss")
        scores, labels = (gathered(torch.cat(parts)) for parts in zip(*self._scores, strict=True))
        self._scores.clear()
        areas = []
        for finding, score, label in zip(self.findings, scores.T, labels.T, strict=True):
            decided = ~label.isnan()
            if label[decided].unique().numel() < 2:
                rank_zero_warn(f"val/auroc of {finding} is undefined: the validation split holds one class of it only")
                continue
            areas.append(binary_auroc(score[decided], label[decided].long()))
            if len(self.findings) > 1:
                self.log(f"val/auroc/{finding}", areas[-1])
        if areas:
            self.log("val/auroc", torch.stack(areas).mean())

    def predict_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        activation, probability = self(batch["image"])
        return {"map": activation.float(), "probability": probability.float(), "index": batch["index"]}

    def configure_optimizers(self) -> Any:
        options = self.optimizer_options
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer: torch.optim.Optimizer
        if options["name"] == "sgd":
            optimizer = torch.optim.SGD(
                parameters,
                lr=options["lr"],
                momentum=options["momentum"],
                nesterov=options["momentum"] > 0,
                weight_decay=options["weight_decay"],
            )
        else:
            optimizer = torch.optim.AdamW(parameters, lr=options["lr"], weight_decay=options["weight_decay"])
        if options["schedule"] == "constant":
            return optimizer
        if options["schedule"] == "cosine":
            schedule: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.max_epochs)
        else:
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.01 ** (1 / self.max_epochs))
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _losses(self, batch: Batch, split: str) -> tuple[dict[str, Tensor], Tensor]:
        """The losses by name, in the order of ``LOSSES``, and the logits ``(B, F)``."""
        logit_map, logit = self.network(self._scaled(batch["image"]))
        classification = classification_loss(logit, batch["label"], self.positive_weight)
        options = self.loss_options
        guidance = guidance_loss(
            logit_map.float().sigmoid(), batch["cue"], options["eps"], options["form"], self.window
        )
        # Validation always uses the full weight: epochs of the warm-up would otherwise look better than they are.
        weight = self.guidance_weight() if split == "train" else float(options["weight"])
        total = classification + weight * guidance if weight else classification
        if not torch.isfinite(total):
            raise NotFiniteError(split, float(total.detach()), batch["index"].tolist())
        return dict(zip(LOSSES, (total, classification, guidance), strict=True)), logit

    def _scaled(self, image: Tensor) -> Tensor:
        scaled = image.float().div(255) if image.dtype == torch.uint8 else image
        return scaled.contiguous(memory_format=self.memory_format)


def pooling_windows(network: dict[str, Any], findings: int) -> Tensor:
    """``(F,)`` cells of the window that is max-pooled before a map's mean is taken.

    The maximum hands a whole window's share of the classification gradient to one cell, where the guidance term, a
    mean over all cells, meets it with the share of one. Weighed by the window they meet as equals, for every finding.
    """
    pool = network.get("pool", 1) if network["name"] != "inception_cam" else 1
    pools = [pool] * findings if isinstance(pool, int) else list(pool)
    return torch.tensor([float(p * p) for p in pools])


def map_size(size: int, findings: int, name: str, **options: Any) -> int:
    """Cells a side of the activation map of ``size`` x ``size`` pictures: asked of the network itself, without weights.

    It does not follow from a stride: Inception-v3 pads nothing and makes 14 x 14 of 512 pixels.
    """
    options = {**options, "pretrained": False, "weights": None}
    with torch.device("meta"), torch.inference_mode():
        logit_map, _ = build_network(findings, name, **options).eval()(torch.zeros(1, 3, size, size))
    return int(logit_map.shape[-1])


def build_network(findings: int, name: str | type[nn.Module], **options: Any) -> nn.Module:
    """The network called ``name`` for this many findings; ``options`` are those of ``conf/model``'s ``network``.

    ``name`` may also be a class of the user's own, which takes ``findings`` and all of ``options``.
    """
    if isinstance(name, type):
        return name(findings, **options)
    own = ("width", "max_width", "reductions", "residual_units")
    head = ("dilations", "pool", "pyramid_width")
    timm = ("backbone", "pretrained", "weights")
    if name == "guided":
        return GuidedCAM(findings, **{key: options[key] for key in (*own, *head) if key in options})
    if name == "guided_timm":
        return GuidedTimm(findings=findings, **{key: options[key] for key in (*timm, *head) if key in options})
    if name == "inception_cam":
        return InceptionCAM(findings=findings, **{key: options[key] for key in timm if key in options})
    raise UserError(f"model.network.name={name} is unknown; use guided, guided_timm or inception_cam")
