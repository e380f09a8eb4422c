"""The two terms of the loss of S1 (S1.4)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fundusnet.config.ranges import NonNegative, NonNegativeInt, Positive

Form = Literal["log", "bce"]


class GuidedLoss(nn.Module):
    """The loss of S1: classification and, weighed by lambda, guidance (S1.4).

    Args:
        weight: Lambda of the guidance term; 0 trains without guidance.
        form: ``log`` (Eq. 2) or ``bce``, see ``guidance_loss``.
        eps: Floor under the logarithm of the guidance term.
        per: ``cell`` (Eq. 2), or ``window``: lambda counts for each window of the max-pooling. The maximum gives a
            window's whole share of the classification gradient to one cell, while the guidance term, a mean over all
            cells, gives that cell only its own share; multiplied by the size of the window the two are equal.
        warmup_epochs: Epochs over which lambda rises from 0 to its weight.
        balance: ``inverse`` weighs the classification term by class frequency.
        pool_within_cue: In training, pool the logit of a present finding over its cue instead of the whole map: the
            annotators say that it is there. The paper pools over the map. No effect where ``weight`` is 0.
    """

    finding_weight: Tensor | None
    positive_weight: Tensor | None
    windows: Tensor | None

    def __init__(
        self,
        weight: NonNegative = 1.0,
        form: Form = "log",
        eps: Positive = 1e-3,
        per: Literal["cell", "window"] = "cell",
        warmup_epochs: NonNegativeInt = 0,
        balance: Literal["none", "inverse"] = "none",
        pool_within_cue: bool = False,
    ) -> None:
        super().__init__()
        self.weight, self.form, self.eps, self.per = weight, form, eps, per
        self.warmup_epochs, self.balance, self.pool_within_cue = warmup_epochs, balance, pool_within_cue
        self.register_buffer("windows", None, persistent=False)
        self.register_buffer("finding_weight", None, persistent=False)
        self.register_buffer("positive_weight", None, persistent=False)

    def fit_to(self, label: NDArray[np.float32], windows: Tensor) -> None:
        """Set the weights from the training labels ``(N, F)`` and the network's pooling windows ``(F,)``."""
        self.windows = windows
        if self.per == "window":
            self.finding_weight = windows
        if self.balance == "inverse":
            present, absent = (label == 1).sum(axis=0), (label == 0).sum(axis=0)
            self.positive_weight = torch.tensor(absent / np.maximum(present, 1), dtype=torch.float32)

    def forward(
        self,
        logit_map: Float[Tensor, "B F h w"],
        logit: Float[Tensor, "B F"],
        label: Float[Tensor, "B F"],
        cue: Float[Tensor, "B F h w"],
        epoch: int | None = None,
    ) -> dict[str, Tensor]:
        """``loss``, and its terms ``classification`` and ``guidance``, each a scalar.

        Args:
            logit_map: ``(B, F, h, w)``.
            logit: ``(B, F)``.
            label: ``(B, F)``, NaN = undecided.
            cue: ``(B, F, h, w)``, NaN = unknown.
            epoch: Of training, for the warm-up. None in validation, which always uses the full weight, and the logit of
                the whole map: epochs of the warm-up would otherwise look better than they are.
        """
        if self.pool_within_cue and self.weight and epoch is not None:
            logit = pool_within_cue(logit_map, logit, label, cue, self.windows)
        classification = classification_loss(logit, label, self.positive_weight)
        guidance = guidance_loss(logit_map.float().sigmoid(), cue, self.eps, self.form, self.finding_weight)
        weight = self.weight if epoch is None else self.weight_at(epoch)
        total = classification + weight * guidance if weight else classification
        return {"loss": total, "classification": classification, "guidance": guidance}

    def weight_at(self, epoch: int) -> float:
        """Lambda in an epoch of training."""
        return self.weight * min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else self.weight


def guidance_loss(
    activation: Float[Tensor, "B F h w"],
    cue: Float[Tensor, "B F h w"],
    eps: float = 1e-3,
    form: Form = "log",
    finding_weight: Float[Tensor, " F"] | None = None,
) -> Float[Tensor, ""]:
    """Penalty on activation outside the cue (S1 Eq. 2).

    ``log``: mean of ``(1 - m) log(max(a, eps))``; falls from 0 to ``log(eps)``, its gradient in the logit is ``1 - a``:
    weakest on the worst violation. ``bce``: mean of ``-(1 - m) log(max(1 - a, eps))``, whose gradient is ``a``.

    Args:
        activation: ``(B, F, h, w)`` in [0, 1].
        cue: ``(B, F, h, w)``, 1 inside the marked regions; a map with NaN has no known cue and takes no part.
        eps: Floor under the logarithm.
        finding_weight: ``(F,)`` factors of each finding's cost; None = 1.

    Returns:
        Scalar: the mean over all cells of the maps with a cue, cells inside the mask included; 0 without such maps.

    Raises:
        ValueError: The shapes differ.
    """
    if activation.shape != cue.shape:
        raise ValueError(f"activation {tuple(activation.shape)} and cue {tuple(cue.shape)} differ in shape")
    known = ~cue.isnan().any(dim=(2, 3), keepdim=True)
    outside = torch.where(known, 1.0 - cue, 0.0).nan_to_num()
    # In 16 bits eps is lost and 1 - a rounds to 0 or 1 too soon.
    a = activation.float()
    cost = a.clamp_min(eps).log() if form == "log" else -(1.0 - a).clamp_min(eps).log()
    if finding_weight is not None:
        cost = cost * finding_weight[:, None, None]
    cells = known.sum() * activation.shape[-2] * activation.shape[-1]
    return (outside * cost).sum() / cells.clamp_min(1)


def pool_within_cue(
    logit_map: Float[Tensor, "B F h w"],
    logit: Float[Tensor, "B F"],
    label: Float[Tensor, "B F"],
    cue: Float[Tensor, "B F h w"],
    windows: Float[Tensor, " F"] | None = None,
) -> Float[Tensor, "B F"]:
    """Logits of which those of present findings with a known cue are the mean of the highest cells inside the cue.

    As many cells are taken as the network's own pooling lets count, fewer where the cue is smaller.

    Args:
        logit_map: ``(B, F, h, w)``.
        logit: ``(B, F)``, kept for every other finding.
        label: ``(B, F)``, NaN = undecided.
        cue: ``(B, F, h, w)``, NaN = unknown.
        windows: ``(F,)`` cells of the map for each that counts (``fundusnet.findings.network.pooling_windows``); None
            = all count.
    """
    inside = cue.flatten(2) > 0  # NaN is not
    cells = inside.shape[-1]
    wanted = torch.full_like(logit[0], cells) if windows is None else (cells / windows).round().clamp(min=1)
    counted = torch.minimum(inside.sum(dim=-1), wanted)  # (B, F)
    values = logit_map.flatten(2).masked_fill(~inside, -torch.inf)
    highest = values.topk(int(wanted.max()), dim=-1).values
    taken = torch.arange(highest.shape[-1], device=logit.device) < counted[..., None]
    mean = torch.where(taken, highest, 0.0).sum(dim=-1) / counted.clamp(min=1)
    return torch.where((label == 1) & (counted > 0), mean, logit)


def classification_loss(
    logit: Float[Tensor, "B F"], label: Float[Tensor, "B F"], positive_weight: Float[Tensor, " F"] | None = None
) -> Float[Tensor, ""]:
    """Binary cross-entropy over the decided labels (S1.4).

    Args:
        logit: ``(B, F)``.
        label: ``(B, F)``, 0 or 1; NaN is undecided and takes no part.
        positive_weight: ``(F,)`` absent / present ratio of the training labels, or None.

    Returns:
        Scalar; 0 if no label is decided.
    """
    decided = ~label.isnan()
    cost = functional.binary_cross_entropy_with_logits(
        logit.float(), label.nan_to_num(), pos_weight=positive_weight, reduction="none"
    )
    return torch.where(decided, cost, 0.0).sum() / decided.sum().clamp_min(1)
