"""The two terms of the loss of S1 (S1.4)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Form = Literal["log", "bce"]


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
