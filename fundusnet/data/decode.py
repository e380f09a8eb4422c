"""Reading photographs and masks from files, however a camera, an export or a broken download wrote them."""

from __future__ import annotations

import io
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image

from fundusnet.data import dicom
from fundusnet.data.depth import to_eight_bits
from fundusnet.data.jpeg import is_complete

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# What Pillow raises on damaged files, EXIF included; found by damaging files of every format at random places.
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")
_COMPRESSION = 16  # grey levels that compression may leave in an empty mask
# What a reader should know about how a photograph was read; ``Photograph.flags`` are names of these.
FLAGS = {
    "fewer_bits": "grey levels use fewer bits than the file offers; they were scaled by the bits in use",
    "several_fields": "several fields of view in one picture, perhaps both eyes: only the largest was read",
    "damaged_rows": "the brightness jumps at a row of blocks, as in a damaged JPEG",
    "lossy_mask": "a mask was saved in a lossy format: only what is brighter than half its range counts",
    "turned_mask": "the photograph is turned by its EXIF orientation; its mask, which has none, was turned like it",
    "upright_mask": "the photograph is turned by its EXIF orientation; its mask, which has none, was taken as upright",
}
# How to turn stored pixels upright, by EXIF orientation.
_UPRIGHT = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


# Grey levels: of a jump that no seam of a good JPEG has (none of 230 real photographs), and of the field.
_JUMP, _LIT = 7, 20
_ALIKE = 3  # grey levels that columns of a small jump may differ
_COLUMNS = 256  # that are enough to see a jump
_TIFF_KIND = 254  # tag NewSubfileType; its lowest bit marks a smaller copy of another page


class Unreadable(Exception):  # noqa: N818 - names the file's state, as StopIteration does
    """A file without a usable picture; the message is the reason."""


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph in the original frame (``fundusnet.data.crop``), perhaps reduced.

    Attributes:
        pixels: uint8 RGB ``(ceil(height / reduction), ceil(width / reduction), 3)``.
        width, height: Size of the original frame in pixels.
        reduction: 1, 2, 4 or 8: original pixels per decoded pixel, along each side.
        flags: Names from ``FLAGS``.
        orientation: EXIF orientation of the file, 1 to 8; ``pixels`` are upright.
    """

    pixels: Pixels
    width: int
    height: int
    reduction: int
    flags: tuple[str, ...] = ()
    orientation: int = 1


def read_photograph(path: Path | str, reduction: int = 1) -> Photograph:
    """Decode ``path`` to upright 8-bit RGB.

    A JPEG is reduced while it is decoded, which costs a fraction of decoding it in full; other formats are returned at
    full size (``reduction`` 1). Grey becomes RGB; what is transparent becomes black, unless all of it is alike. Of more
    than eight bits the upper eight of those in use are kept: a camera's 12 bits in a file of 16 are scaled as 12. DICOM
    is scaled by its window if it has one.

    Raises:
        Unreadable: The file is missing, empty, truncated, damaged, not a picture, or holds several.
    """
    data = _read_bytes(Path(path))
    if dicom.is_dicom(data):
        return _photograph(*_read_dicom(data))
    image = _open_image(data)
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        if not is_complete(data.tobytes()):
            raise Unreadable("picture is truncated: the JPEG ends before its end marker")
        if image.mode in ("RGB", "L"):
            orientation = _orientation(image)
            pixels = _decode_jpeg(data, (width, height), reduction)
            # Shrunk by 8, a block is one pixel, and steps in the picture itself look like seams.
            finer = pixels if reduction < 8 else _decode_jpeg(data, (width, height), 4)
            flags = ("damaged_rows",) if has_jump(finer, min(reduction, 4)) else ()
            size = (height, width) if orientation >= 5 else (width, height)
            return Photograph(turn_upright(pixels, orientation), *size, reduction, flags, orientation)
        _decode_jpeg(data, (width, height), 8, "CMYK")  # Pillow, which knows its profiles, would not notice damage
    _check_single(image)
    if _is_deep_colour(image):
        stored, fewer = to_eight_bits(_decode_deep_colour(data))
        # OpenCV turns a TIFF upright, and no other format when it decodes all its bits.
        return _photograph(
            stored if image.format == "TIFF" else turn_upright(stored, _orientation(image)), fewer, _orientation(image)
        )
    return from_image(image)


def from_image(image: Image.Image) -> Photograph:
    """A Pillow image as ``read_photograph`` would return it; raises ``Unreadable``."""
    orientation = _orientation(image)
    stored, fewer = _to_rgb(_load_pixels(image))
    # Pillow turns a TIFF upright while loading it.
    return _photograph(turn_upright(stored, _orientation(image)), fewer, orientation)


def _photograph(upright: Pixels, fewer_bits: bool, orientation: int = 1) -> Photograph:
    flags = ("fewer_bits",) if fewer_bits else ()
    return Photograph(upright, upright.shape[1], upright.shape[0], 1, flags, orientation)


def has_jump(pixels: Pixels, reduction: int = 1) -> bool:
    """Whether the brightness jumps between two rows of a JPEG's blocks by the same amount nearly everywhere.

    A damaged bit may change all blocks after it alike, without an error that a decoder could notice. The change begins
    within a row of blocks, so each column shows it at one of two consecutive seams.

    Args:
        pixels: A decoded JPEG ``(H, W, 3)``, not yet turned upright.
        reduction: Its original pixels per decoded pixel, 1 to 4.
    """
    some = pixels[:, :: max(1, pixels.shape[1] // _COLUMNS)]
    for block in (8 // reduction, 16 // reduction):
        seams = np.arange(block, len(some), block)
        above, below = (some[rows].astype(np.int16) for rows in (seams - 1, seams))
        steps = below - above
        brighter = np.maximum(above, below)
        lit = np.maximum(np.maximum(brighter[..., 0], brighter[..., 1]), brighter[..., 2]) > _LIT
        columns, steps = lit[:-1] | lit[1:], steps[:-1] + steps[1:]
        # Of a jump three quarters of the columns are on its side, by at least this much.
        far = _JUMP - _ALIKE
        count = np.count_nonzero(columns, axis=1)
        possible = np.zeros(len(count), dtype=bool)
        for channel in np.moveaxis(steps, 2, 0):
            for side in (channel >= far, channel <= -far):
                possible |= np.count_nonzero(side & columns, axis=1) > 0.75 * count
        for place in np.flatnonzero(possible & (count >= some.shape[1] / 4)):
            both = steps[place, columns[place]]
            middle = np.median(both, axis=0)
            alike = (np.abs(both - middle) <= np.maximum(_ALIKE, np.abs(middle) / 3)).mean(axis=0)
            if ((np.abs(middle) >= _JUMP) & (alike > 0.75)).any():
                return True
    return False


def picture_size(path: Path | str) -> tuple[int, int]:
    """Stored (width, height) in pixels, before it is turned upright, from the header; raises ``Unreadable``."""
    data = _read_bytes(Path(path))
    if dicom.is_dicom(data):
        try:
            return dicom.size(data)
        except ValueError as error:
            raise Unreadable(str(error)) from error
    return _open_image(data).size


def read_mask(path: Path | str, above: int = 0) -> Mask:
    """A mask file as bool ``(H, W)``, True above a grey level; alpha is ignored.

    Above 0, the rule of ``lesions.csv``, it is True where the pixel, or in a palette file its index, is not zero. In a
    lossy format it is True above half of its brightest level: compression leaves grey around every edge.

    Raises:
        Unreadable: As ``read_photograph``.
    """
    return read_flagged_mask(path, above)[0]


def read_flagged_mask(path: Path | str, above: int = 0) -> tuple[Mask, int, tuple[str, ...]]:
    """``read_mask`` of a file as it is stored, its EXIF orientation, and names from ``FLAGS``."""
    image = _open_image(_read_bytes(Path(path)))
    _check_single(image)
    lossy = image.format in _LOSSY
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    image = _load_pixels(image)
    if image.mode in ("RGBA", "LA", "PA"):
        image = image.convert({"RGBA": "RGB", "LA": "L", "PA": "P"}[image.mode])
    if above and image.mode == "P":
        image = image.convert("L")  # a palette's index is not a grey level
    values = np.asarray(image)
    if lossy and not above:
        above = max(int(values.max()) // 2, _COMPRESSION)
    lesion = values > above
    mask = np.asarray(lesion.any(axis=2) if lesion.ndim == 3 else lesion, dtype=bool)
    return mask, orientation, ("lossy_mask",) if lossy else ()


def turn_upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """``(H, W, …)`` as stored, turned by its EXIF orientation."""
    return np.ascontiguousarray(_UPRIGHT[orientation](pixels)) if orientation in _UPRIGHT else pixels


def _read_bytes(path: Path) -> npt.NDArray[np.uint8]:
    try:
        # np.fromfile rather than cv2.imread, which cannot open every non-ASCII path.
        data: npt.NDArray[np.uint8] = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        unnamed = re.search(r"\\x[0-9a-f]{2}", path.name)  # see fundusnet.data.listing.relative_path
        raise Unreadable("file name is not UTF-8; rename the file" if unnamed else "file is missing") from error
    except OSError as error:
        raise Unreadable(f"file cannot be read: {error.strerror or error}") from error
    if data.size == 0:
        raise Unreadable("file is empty")
    return data


def _read_dicom(data: npt.NDArray[np.uint8]) -> tuple[Pixels, bool]:
    try:
        return dicom.pixels(data)
    except ValueError as error:
        raise Unreadable(str(error)) from error


def _open_image(data: npt.NDArray[np.uint8]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data.tobytes()))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable("picture claims more pixels than any camera takes") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable("file is not a picture in a supported format") from error


def _load_pixels(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except DAMAGED as error:
        raise Unreadable(f"picture is truncated or damaged: {error}") from error
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation still to be undone (Pillow turns a TIFF while loading it); 1 where unreadable."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DAMAGED:
        # Damaged EXIF does not make the picture unreadable.
        return 1


def _decode_jpeg(
    data: npt.NDArray[np.uint8], size: tuple[int, int], reduction: int, colours: Literal["RGB", "CMYK"] = "RGB"
) -> Pixels:
    width, height = (-(-side // reduction) for side in size)
    try:
        # Stops at what libjpeg only warns of: it would fill up a damaged picture with grey.
        pixels = simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height, min_factor=reduction)
    except ValueError as error:
        raise Unreadable(f"JPEG is damaged: {error}") from error
    return np.asarray(pixels, dtype=np.uint8)


def _check_single(image: Image.Image) -> None:
    """Raise ``Unreadable`` for several pages or frames; smaller copies of the first page do not count."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format == "MPO":  # a camera's previews
        return
    pages = 1
    if image.format == "TIFF":
        try:
            for number in range(1, frames):
                image.seek(number)
                pages += not image.tag_v2.get(_TIFF_KIND, 0) & 1  # type: ignore[attr-defined]
            image.seek(0)
        except DAMAGED as error:
            raise Unreadable(f"picture is truncated or damaged: {error}") from error
    else:
        pages = frames
    if pages > 1:
        raise Unreadable(f"{image.format} holds {pages} pictures; save the photograph as a single one")


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether the file holds colours of 16 bits, of which Pillow would keep the upper eight whatever is in use."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]


def _decode_deep_colour(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """RGB ``(H, W, 3)`` of 16 bits over black."""
    try:
        values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Unreadable(f"picture is truncated or damaged: {error.err}") from error
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise Unreadable("picture is truncated or damaged: its 16 bits cannot be decoded")
    colours = values[:, :, 2::-1]
    if values.shape[2] == 4 and values[:, :, 3].min() != values[:, :, 3].max():
        colours = (colours.astype(np.uint32) * values[:, :, 3:] // 65535).astype(np.uint16)
    return np.ascontiguousarray(colours)


def _to_rgb(image: Image.Image) -> tuple[Pixels, bool]:
    """uint8 RGB ``(H, W, 3)``, and whether fewer bits are in use than the file offers."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("grey values lie outside 16 bits")
        grey, fewer = to_eight_bits(values.astype(np.uint16))
        return np.repeat(grey[:, :, None], 3, axis=2), fewer
    if image.mode == "F":
        raise Unreadable("pixels are floating-point numbers; save the picture with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        low, high = rgba.getchannel("A").getextrema()
        if low != high:  # else the channel is not used
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.array(image.convert("RGB"), dtype=np.uint8), False
