"""Where the activation of a map lies: regions and lesions (S1.6)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.classification import BinaryAUROC
from torchmetrics.utilities import dim_zero_cat


def activation_in_regions(activation: Tensor, cue: Tensor) -> Tensor:
    """Return the share of the activation inside the cue (AIR); a flat map scores the share that the cue covers.

    Args:
        activation: ``(B, F, h, w)``, not negative.
        cue: ``(B, F, h, w)`` of 0 and 1.

    Returns:
        ``(B, F)`` in [0, 1]; NaN where the map has no activation or the cue is NaN.
    """
    total = activation.sum(dim=(2, 3))
    inside = (activation * cue).sum(dim=(2, 3))
    return torch.where(total > 0, inside / total, torch.nan)


def cue_fraction(cue: Tensor) -> Tensor:
    """Return the share of the picture that the cue covers, ``(B, F, h, w)`` → ``(B, F)``."""
    return cue.mean(dim=(2, 3))


def pointing_hit(activation: Tensor, lesion: Tensor) -> Tensor:
    """Return whether the highest cell of the map touches a lesion (pointing game).

    Args:
        activation: ``(B, F, h, w)``.
        lesion: ``(B, F, h, w)``, 1 where any pixel under the cell is lesion.

    Returns:
        ``(B, F)``. Where several cells share the maximum, the share of them that hit, in [0, 1].
    """
    peak = activation == activation.amax(dim=(2, 3), keepdim=True)
    return (peak * lesion).sum(dim=(2, 3)) / peak.sum(dim=(2, 3))


class DecidedAUROC(BinaryAUROC):
    """Area under the ROC curve over the images of a finding that are decided; NaN where these are of one class.

    Takes scores ``(B,)`` and labels ``(B,)`` of 0 and 1, NaN = undecided; processes pool what they have seen.
    """

    def __init__(self) -> None:
        super().__init__(ignore_index=-1)

    def update(self, score: Tensor, label: Tensor) -> None:
        super().update(score, label.nan_to_num(-1).long())

    def compute(self) -> Tensor:  # type: ignore[override]
        label = dim_zero_cat(self.target)
        if not 0 < label.clamp(min=0).sum() < (label >= 0).sum():
            return torch.tensor(torch.nan, device=label.device)
        area: Tensor = super().compute()
        return area
