"""A point as a distribution over the cells of a map and the answer "not in the picture", and back.

Points are pixels ``(x, y)`` of the picture, cells cover ``stride`` x ``stride`` of them: the cell in row i and column j
has its centre at pixel ``((j + 0.5) stride - 0.5, (i + 0.5) stride - 0.5)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fundusnet.networks.scales import JoinedMaps, Size

# Standard deviations of a target on either side of the peak over which the position is averaged and the confidence
# summed.
WINDOW = 3


class PointHead(nn.Module):
    """Scores every cell of joined maps, and "not in the picture", for some points.

    Args:
        channels: Channels of each map.
        width: Channels of the joined map.
        dilations: A 3x3 convolution for each, one after the other: how far the surroundings of a cell count.
        points: Number P of points.
    """

    def __init__(self, channels: Sequence[int], width: int, dilations: Sequence[int], points: int) -> None:
        super().__init__()
        self.join = JoinedMaps(channels, width)
        self.rectify = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.context = nn.Sequential(*(_Dilated(width, rate) for rate in dilations))
        self.cells = nn.Conv2d(width, points, kernel_size=1)
        self.nowhere = nn.Linear(width, points)

    def score(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Maps ``(B, C_i, h_i, w_i)``, none larger than ``size`` → logits ``(B, P, h * w + 1)``, "nowhere" last."""
        features = self.context(self.rectify(self.join(maps, size)))
        nowhere: Tensor = self.nowhere(features.mean(dim=(2, 3)))
        return torch.cat([self.cells(features).flatten(2), nowhere[..., None]], dim=-1)


class _Dilated(nn.Module):
    """A dilated convolution, added to the input."""

    def __init__(self, width: int, rate: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.body(x)
        return x + added


def targets(points: Tensor, cells: int, stride: float, sigma: float = 1.0) -> Tensor:
    """The distribution that a network should predict for points.

    A point in the picture is a Gaussian over the cells; one outside has all its probability in the last entry.

    Args:
        points: ``(..., 2)`` pixels; NaN = unknown.
        cells: Cells on each side of the map.
        stride: Pixels of a cell.
        sigma: Standard deviation of the Gaussian, in cells.

    Returns:
        ``(..., cells * cells + 1)``, which sums to 1; NaN for unknown points.
    """
    place = (points + 0.5) / stride - 0.5
    grid = torch.arange(cells, dtype=points.dtype, device=points.device)
    # Its log, as the nearest cell of a point at the very edge must not underflow.
    x, y = (-((grid - place[..., axis, None]) ** 2) / (2 * sigma**2) for axis in (0, 1))
    inside = ((points >= -0.5) & (points < cells * stride - 0.5)).all(dim=-1, keepdim=True)
    gaussian = (y[..., :, None] + x[..., None, :]).flatten(-2).softmax(dim=-1)
    return torch.cat([gaussian * inside, (~inside).to(points.dtype)], dim=-1).where(
        points.isfinite().all(dim=-1, keepdim=True), torch.nan
    )


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean cross-entropy over known points, 0 if there is none.

    Args:
        logits: ``(..., cells * cells + 1)``.
        target: As ``targets`` returns.
    """
    known = target.isfinite().all(dim=-1)
    losses = -(target.nan_to_num() * logits.log_softmax(dim=-1)).sum(dim=-1)
    return losses[known].sum() / known.sum().clamp(min=1)


def locate(logits: Tensor, stride: float, sigma: float = 1.0) -> tuple[Tensor, Tensor]:
    """Points and their confidence.

    A point is the mean over the window around the highest cell, weighted by probability, which is finer than a cell.

    Args:
        logits: ``(..., cells * cells + 1)``.
        stride: Pixels of a cell.
        sigma: Of the targets, in cells.

    Returns:
        Points ``(..., 2)`` in pixels, and the probability of the window ``(...)``.
    """
    probability = logits.softmax(dim=-1)[..., :-1]
    cells = round(probability.shape[-1] ** 0.5)
    peak = probability.argmax(dim=-1)
    grid = torch.arange(cells, device=logits.device)
    near_y, near_x = (
        ((grid - at[..., None]).abs() <= WINDOW * sigma).to(logits.dtype) for at in (peak // cells, peak % cells)
    )
    window = probability.reshape(*probability.shape[:-1], cells, cells) * near_y[..., :, None] * near_x[..., None, :]
    mass = window.sum(dim=(-2, -1))
    place = torch.stack(
        [(window.sum(dim=axis) * grid).sum(dim=-1) / mass for axis in (-2, -1)],
        dim=-1,
    )
    return (place + 0.5) * stride - 0.5, mass
