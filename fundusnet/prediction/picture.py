"""One photograph as each network has to see it: cropped and resized by the code of ``prepare``.

Worker processes come here: nothing that imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fundusnet.data.appearance import UNCHECKED, Appearance, numbers_of
from fundusnet.data.crop import Frame, crop_square, find_field
from fundusnet.data.decode import Photograph, Pixels, Unreadable, from_image
from fundusnet.data.prepare_one import read_field

Source = Pixels | Image.Image | str | Path


@dataclass(frozen=True)
class View:
    """What a network needs of a photograph: the side of its pictures, and how its training set looked."""

    size: int
    appearance: Appearance | None


@dataclass(frozen=True)
class Picture:
    """A photograph in the frames of the networks.

    Attributes:
        pixels: size → uint8 RGB ``(size, size, 3)``, as ``prepare`` makes them.
        frames: size → where these lie in the photograph.
        width, height: of the photograph, upright, in pixels.
        flags: what is out of the ordinary (``fundusnet.data.appearance.FLAGS``); none = like the training set.
    """

    pixels: Mapping[int, Pixels]
    frames: Mapping[int, Frame]
    width: int
    height: int
    flags: tuple[str, ...]


def read_picture(path: Path, views: Sequence[View]) -> Picture:
    """The photograph in ``path``; raises ``Unreadable``."""
    pixels, frames = {}, {}
    for size in dict.fromkeys(view.size for view in views):
        # Once for each size, as `prepare` would: how far a JPEG is shrunk while it is decoded depends on it.
        photograph, box = read_field(path, size)
        pixels[size], frames[size] = crop_square(photograph, box, size)
    return Picture(pixels, frames, photograph.width, photograph.height, _flags(pixels, views))


def to_picture(source: Source, views: Sequence[View]) -> Picture:
    """A photograph at hand: uint8 RGB ``(H, W, 3)``, a Pillow image, or a file.

    Raises:
        Unreadable: the file or image gives no usable picture, or ``source`` is something else.
    """
    if isinstance(source, (str, Path)):
        return read_picture(Path(source), views)
    photograph = _photograph(source)
    box = find_field(photograph.pixels)
    pixels, frames = {}, {}
    for size in dict.fromkeys(view.size for view in views):
        pixels[size], frames[size] = crop_square(photograph, box, size)
    return Picture(pixels, frames, photograph.width, photograph.height, _flags(pixels, views))


def _photograph(source: Any) -> Photograph:
    if isinstance(source, Image.Image):
        return from_image(source)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3:
        if not source.size:
            raise Unreadable("picture has no pixels")
        return Photograph(np.ascontiguousarray(source), source.shape[1], source.shape[0], 1)
    what = f"an array {source.dtype} {source.shape}" if isinstance(source, np.ndarray) else type(source).__name__
    raise Unreadable(f"a photograph is a uint8 RGB array (H, W, 3), a Pillow image or a path, not {what}")


def _flags(pixels: Mapping[int, Pixels], views: Sequence[View]) -> tuple[str, ...]:
    """Flags of any of the networks, each once."""
    numbers = {size: numbers_of(each) for size, each in pixels.items()}
    found: list[str] = []
    for view in views:
        found += view.appearance.flags(numbers[view.size]) if view.appearance else [UNCHECKED]
    return tuple(dict.fromkeys(found))
