"""One photograph with its points and masks, moved to the prepared frame: the work of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fundusnet.data.crop import Box, Frame, crop_square, find_fields
from fundusnet.data.decode import (
    Mask,
    Photograph,
    Pixels,
    Unreadable,
    picture_size,
    read_flagged_mask,
    read_photograph,
    turn_upright,
)
from fundusnet.data.listing import file_name
from fundusnet.data.regions import is_near

# Finds disc x and y, fovea x and y in a prepared picture; NaN = not found.
Locate = Callable[[Pixels], tuple[float, float, float, float]]

_SMALLEST = 16  # pixels, of the shorter side of a photograph


@dataclass(frozen=True)
class PrepareJob:
    """A photograph to prepare.

    Attributes:
        row: Its row in the manifest's images.
        path: Its file, relative to ``root``.
        points: Disc x and y, fovea x and y in the original frame; NaN = unknown.
        masks: Finding → mask files relative to ``root``, in the original frame; "" = examined and absent.
        partial: Folder of the set under way.
        size: Side of the prepared frame in pixels.
        lesion_above: Grey level that lesions exceed in the mask files.
        locate: Finds the points that are unknown; None = they stay unknown.
    """

    row: int
    image_id: str
    root: str
    path: str
    points: tuple[float, ...]
    masks: dict[str, list[str]]
    partial: str
    size: int
    lesion_above: int = 0
    locate: Locate | None = None


@dataclass(frozen=True)
class PrepareResult:
    """The outcome for one photograph; plain values only, so that the journal can hold it.

    Attributes:
        reason: Why it was rejected; "" = it was prepared.
        points: As in ``PrepareJob``, in the prepared frame, with those that were found.
        localised: Whether disc and fovea were found.
        scale: Prepared pixels per original pixel.
        lesions: Finding → mask file relative to ``manifest/``, in the prepared frame; "" = absent.
        rejected_masks: (path, reason) of mask files that cannot be used.
        flags: Names from ``fundusnet.data.decode.FLAGS``, of the photograph and its masks.
    """

    row: int
    image_id: str
    path: str
    reason: str = ""
    points: tuple[float, ...] = ()
    localised: tuple[bool, ...] = (False, False)
    scale: float = float("nan")
    lesions: dict[str, str] = field(default_factory=dict)
    rejected_masks: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()


def prepare_one(job: PrepareJob) -> tuple[PrepareResult, bytes]:
    """Prepare one photograph: its outcome, and its uint8 pixels ``(size, size, 3)`` as bytes (none if rejected)."""
    try:
        photograph, box = read_field(Path(job.root) / job.path, job.size)
        check_points(job.points, photograph)
        pixels, frame = crop_square(photograph, box, job.size)
    except Unreadable as error:
        return PrepareResult(job.row, job.image_id, job.path, str(error)), b""
    points, localised = _complete((*frame.point(*job.points[:2]), *frame.point(*job.points[2:])), pixels, job.locate)
    lesions, rejected, of_masks = _move_masks(job, photograph, frame)
    flags = (*photograph.flags, *of_masks)
    result = PrepareResult(
        job.row, job.image_id, job.path, "", points, localised, frame.scale, lesions, tuple(rejected), flags
    )
    return result, pixels.tobytes()


def read_field(path: Path, size: int) -> tuple[Photograph, Box]:
    """A photograph and the box of its field of view, decoded as small as the prepared size allows.

    If the field fills little of the picture, it is decoded again at a larger size. Raises ``Unreadable``.
    """
    shorter = min(picture_size(path))
    if shorter < _SMALLEST:
        width, height = picture_size(path)
        raise Unreadable(f"picture is only {width}x{height} pixels")
    reduction = next((power for power in (8, 4, 2) if shorter // power >= size), 1)
    while True:
        photograph = read_photograph(path, reduction)
        box, *others = find_fields(photograph.pixels)
        if photograph.reduction == 1 or max(box[2] - box[0], box[3] - box[1]) >= size:
            more = ("several_fields",) if others or box[2] - box[0] > 1.7 * (box[3] - box[1]) else ()
            return replace(photograph, flags=(*photograph.flags, *more)), box
        reduction = photograph.reduction // 2


def _complete(
    points: tuple[float, float, float, float], pixels: Pixels, locate: Locate | None
) -> tuple[tuple[float, float, float, float], tuple[bool, bool]]:
    """The points of a prepared picture, with those that are unknown and can be found, and which these are."""
    missing = np.isnan(points[0]), np.isnan(points[2])
    if locate is None or not any(missing):
        return points, (False, False)
    found = locate(pixels)
    disc, fovea = (found[:2] if missing[0] else points[:2]), (found[2:] if missing[1] else points[2:])
    localised = bool(missing[0] and not np.isnan(disc[0])), bool(missing[1] and not np.isnan(fovea[0]))
    return (*disc, *fovea), localised


def check_points(points: Sequence[float], photograph: Photograph) -> None:
    """Raise ``Unreadable`` if disc x and y, fovea x and y, NaN where unknown, cannot be those of a photograph."""
    for name, (x, y) in (("optic disc", points[:2]), ("fovea", points[2:])):
        if np.isnan(x) != np.isnan(y):
            raise Unreadable(f"{name} has one coordinate only")
        if not np.isnan(x) and not is_near((x, y), photograph.width, photograph.height):
            size = f"{photograph.width}x{photograph.height}"
            raise Unreadable(f"{name} ({x:g}, {y:g}) lies outside the photograph of {size} pixels")


def _move_masks(
    job: PrepareJob, photograph: Photograph, frame: Frame
) -> tuple[dict[str, str], list[tuple[str, str]], list[str]]:
    lesions: dict[str, str] = {}
    rejected: list[tuple[str, str]] = []
    flags: list[str] = []
    for finding, paths in job.masks.items():
        whole: Mask = np.zeros((job.size, job.size), dtype=bool)
        good = True
        for path in filter(None, paths):
            try:
                mask = _read_upright_mask(Path(job.root) / path, job.lesion_above, photograph, flags)
            except Unreadable as error:
                rejected.append((path, str(error)))
                good = False
                continue
            whole |= frame.mask(mask, job.size)
        if not good:
            # A finding with a broken mask is unknown in this photograph, not absent.
            continue
        lesions[finding] = ""
        if whole.any():
            lesions[finding] = f"lesions/{finding}/{file_name(job.image_id)}"
            file = Path(job.partial) / "manifest" / lesions[finding]
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(whole.astype(np.uint8) * 255).save(file)
    return lesions, rejected, list(dict.fromkeys(flags))


def _read_upright_mask(path: Path, above: int, photograph: Photograph, flags: list[str]) -> Mask:
    """A mask in the frame of its upright photograph; adds to ``flags``. Raises ``Unreadable`` if it does not fit."""
    stored, orientation, found = read_flagged_mask(path, above)
    flags += found
    mask = turn_upright(stored, orientation)
    size = (photograph.height, photograph.width)
    if photograph.orientation != 1 and orientation == 1:
        # Drawn on the stored pixels or on the upright ones: only the sides of a picture on its side tell.
        on_its_side = photograph.orientation >= 5 and mask.shape == size[::-1] != size
        flags.append("turned_mask" if on_its_side else "upright_mask")
        mask = turn_upright(stored, photograph.orientation) if on_its_side else mask
    if mask.shape != size:
        sizes = f"{mask.shape[1]}x{mask.shape[0]}, its photograph {photograph.width}x{photograph.height}"
        raise Unreadable(f"mask is {sizes} pixels")
    return mask
