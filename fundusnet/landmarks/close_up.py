"""A close look at each point: a small square of the picture around where it was found, of one scale for every eye.

A close-up of S pixels has a disc radius of ``radius`` pixels, a fifth of the distance between disc and fovea, whatever
the photograph's size and framing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align  # type: ignore[import-untyped]

from fundusnet.config.ranges import Count, Positive
from fundusnet.errors import UserError
from fundusnet.landmarks.heatmap import PointHead
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.networks.scales import Scales


class CloseUpHead(PointHead):
    """Scores the cells of close-ups of disc and fovea, on maps of the backbone of the whole picture.

    Args:
        backbone: That backbone.
        name: Its name, for messages.
        side: Width and height S of a close-up in pixels.
        radius: Pixels of a disc radius in it.
        strides: Maps of the backbone to join, by the pixels that a cell covers.
        map_stride: The one of them whose cells are scored.
        width: Channels of the joined map.
        dilations: A 3x3 convolution for each, one after the other.
        sigma: Standard deviation of a point's target, in cells.
    """

    def __init__(
        self,
        backbone: Any,
        name: str,
        side: Count = 160,
        radius: Positive = 32.0,
        strides: Sequence[Count] = (4, 8, 16),
        map_stride: Count = 4,
        width: Count = 32,
        dilations: Sequence[Count] = (1, 2, 4, 8, 1),
        sigma: Positive = 2.0,
    ) -> None:
        scales = Scales(backbone, name, strides, map_stride)
        super().__init__(scales.channels, width, dilations, len(LANDMARKS))
        self.scales = scales
        self.side, self.radius, self.sigma = int(side), float(radius), float(sigma)
        self.extracted = f"strides {list(strides)} of close-ups of {side} pixels, {radius:g} to a disc radius"

    def cut(self, image: Tensor, points: Tensor, radius: Tensor) -> Tensor:
        """Close-ups ``(B, 2, 3, S, S)`` of ``image`` ``(B, 3, H, W)``; black outside, and of unknown points.

        Args:
            image: In [0, 1].
            points: Centres of the close-ups of disc and fovea ``(B, 2, 2)``, in pixels of ``image``; NaN = unknown.
            radius: Disc radius ``(B,)``, in pixels of ``image``; NaN = unknown.
        """
        start, zoom = self._frame(points, radius)
        start = start + 0.5  # roi_align counts from the corners of pixels, points from their centres
        corners = torch.cat([start, start + self.side * zoom], dim=-1).flatten(0, 1)
        known = corners.isfinite().all(dim=-1, keepdim=True)
        boxes = corners.where(known, torch.tensor(-1e4, device=image.device)).to(image.dtype)
        of = torch.arange(len(image), device=image.device, dtype=image.dtype).repeat_interleave(points.shape[1])
        cut: Tensor = roi_align(image, torch.cat([of[:, None], boxes], dim=1), self.side, aligned=True)
        return cut.reshape(*points.shape[:2], *cut.shape[1:])

    def from_picture(self, points: Tensor, around: Tensor, radius: Tensor) -> Tensor:
        """``points`` of the picture in pixels of the close-ups that ``cut`` makes ``around`` others, ``(B, 2, 2)``."""
        start, zoom = self._frame(around, radius)
        return (points - start) / zoom - 0.5

    def to_picture(self, points: Tensor, around: Tensor, radius: Tensor) -> Tensor:
        """The reverse of ``from_picture``."""
        start, zoom = self._frame(around, radius)
        return start + (points + 0.5) * zoom

    def _frame(self, around: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Upper left corners ``(B, 2, 2)``, and pixels of the picture to one of the close-up ``(B, 1, 1)``."""
        zoom = (radius / self.radius)[:, None, None]
        return around - self.side / 2 * zoom, zoom

    def decide_close(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of close-ups ``(B, 2, C_i, h_i, w_i)`` → logits ``(B, 2, h * w + 1)`` of each point in its own.

        "Not in the picture" comes last.
        """
        flat = [each.flatten(0, 1) for each in maps]
        logits = self.score(flat, self.scales.size(flat))
        logits = logits.reshape(*maps[0].shape[:2], *logits.shape[1:])
        return torch.stack([logits[:, number, number] for number in range(len(LANDMARKS))], dim=1)


def disc_radius(points: Tensor) -> Tensor:
    """A fifth of the distance between disc and fovea ``(B, 2, 2)``, in their pixels, ``(B,)``."""
    radius: Tensor = (points[:, 0] - points[:, 1]).norm(dim=-1) / 5
    return radius


def check_close_strides(close: Scales, whole: Scales) -> None:
    """Raise UserError if close-ups need a deeper layer of the backbone than the whole picture."""
    if max(close.levels) > max(whole.levels):
        raise UserError("model.network.close_up.strides reach deeper than model.network.strides; use smaller ones")
