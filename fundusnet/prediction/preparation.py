"""Crops and resizes a photograph for each network, with the code that ``fundusnet prepare`` uses.

Worker processes import this module, so nothing here may import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fundusnet.data.appearance import UNCHECKED, Appearance, numbers_of
from fundusnet.data.crop import Frame, crop_square, find_field
from fundusnet.data.decode import Photograph, Pixels, Unreadable, from_image
from fundusnet.data.prepare_one import check_points, read_field
from fundusnet.data.regions import Point

PhotographSource = Pixels | Image.Image | str | Path
Field = tuple[Photograph, tuple[int, int, int, int]]
Points = tuple[Point | None, Point | None]
UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class InputSpec:
    """What a network expects of its input.

    Attributes:
        size: Side of the prepared picture in pixels.
        appearance: Statistics of the training set; None if the checkpoint holds none.
    """

    size: int
    appearance: Appearance | None


@dataclass(frozen=True)
class PreparedPhotograph:
    """A photograph in the frame of each network.

    Attributes:
        pixels: Size → uint8 RGB ``(size, size, 3)``, the pixels that ``prepare`` would store.
        frames: Size → where these pixels lie in the photograph.
        width: Of the upright photograph, in pixels.
        height: Of the upright photograph, in pixels.
        flags: Names from ``fundusnet.data.appearance.FLAGS``; empty if the photograph looks like the training set.
        points: Disc and fovea that were given with it, in pixels of the upright photograph; None if unknown.
    """

    pixels: Mapping[int, Pixels]
    frames: Mapping[int, Frame]
    width: int
    height: int
    flags: tuple[str, ...]
    points: Points = (None, None)


def prepare_photograph(
    source: PhotographSource, specs: Sequence[InputSpec], points: Points = (None, None)
) -> PreparedPhotograph:
    """Prepare a photograph for every network.

    Args:
        source: A uint8 RGB array ``(H, W, 3)``, a Pillow image, or the path of a file.
        specs: What each network expects.
        points: Disc and fovea, if they are known.

    Raises:
        Unreadable: The file or image holds no usable photograph, a point lies outside it, or ``source`` is of another
            type.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        # Read again for each size, as `prepare` would: how far a JPEG is shrunk in decoding depends on the size.
        return _prepare(lambda size: read_field(path, size), specs, points)
    photograph = _decoded(source)
    box = find_field(photograph.pixels)
    return _prepare(lambda size: (photograph, box), specs, points)


def _prepare(field_for: Callable[[int], Field], specs: Sequence[InputSpec], points: Points) -> PreparedPhotograph:
    pixels, frames = {}, {}
    for size in dict.fromkeys(spec.size for spec in specs):
        photograph, box = field_for(size)
        check_points([number for point in points for number in point or UNKNOWN], photograph)
        pixels[size], frames[size] = crop_square(photograph, box, size)
    flags = tuple(dict.fromkeys((*photograph.flags, *_flags(pixels, specs))))
    return PreparedPhotograph(pixels, frames, photograph.width, photograph.height, flags, points)


def _decoded(source: Any) -> Photograph:
    if isinstance(source, Image.Image):
        return from_image(source)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3:
        if not source.size:
            raise Unreadable("picture has no pixels")
        return Photograph(np.ascontiguousarray(source), source.shape[1], source.shape[0], 1)
    what = f"an array {source.dtype} {source.shape}" if isinstance(source, np.ndarray) else type(source).__name__
    raise Unreadable(f"a photograph is a uint8 RGB array (H, W, 3), a Pillow image or a path, not {what}")


def _flags(pixels: Mapping[int, Pixels], specs: Sequence[InputSpec]) -> tuple[str, ...]:
    """The flags raised for any of the networks, each once."""
    numbers = {size: numbers_of(each) for size, each in pixels.items()}
    found: list[str] = []
    for spec in specs:
        found += spec.appearance.flags(numbers[spec.size]) if spec.appearance else [UNCHECKED]
    return tuple(dict.fromkeys(found))
