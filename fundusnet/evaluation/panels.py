"""Validation photographs with what a network sees in them during training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from fundusnet.data.prepared import PreparedSet
from fundusnet.evaluation.overlays import Pixels


@torch.no_grad()
def draw_panels(
    module: nn.Module,
    prepared: PreparedSet,
    rows: Iterable[int],
    draw: Callable[[int, Pixels, Tensor], Figure | None],
) -> dict[str, Figure]:
    """Draw photographs of a prepared set, by image id, while ``module`` is in evaluation mode.

    ``draw`` maps a row, its pixels uint8 ``(S, S, 3)``, and these as a batch ``(1, 3, S, S)`` on the module's device to
    a figure; None where there is nothing to show.
    """
    device = next(module.parameters()).device
    training = module.training
    module.eval()
    panels = {}
    for row in rows:
        pixels = np.asarray(prepared.pixels[row])
        picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(device)
        if (figure := draw(row, pixels, picture)) is not None:
            panels[str(prepared.manifest.images["image_id"].iloc[row])] = figure
    module.train(training)
    return panels
