"""Photographs and masks from files, whatever a camera, an export or a broken download made of them."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from fundusnet.data import dicom

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# What Pillow raises on damaged files, camera notes included; found by damaging files of every format at random places.
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
# Flags of OpenCV's decoder by the power of two that libjpeg shrinks the picture by while decoding it.
_JPEG_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# What turns stored pixels upright, by the number in the EXIF orientation tag.
_UPRIGHT = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}


class Unreadable(Exception):  # noqa: N818 - names the file's state, as StopIteration does
    """A file that gives no usable picture; the message is the reason."""


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph, upright as its EXIF orientation asks.

    Attributes:
        pixels: uint8 RGB ``(ceil(height / reduction), ceil(width / reduction), 3)``.
        width, height: size of the file's picture in pixels, upright.
        reduction: 1, 2, 4 or 8: file pixels to one decoded pixel.
    """

    pixels: Pixels
    width: int
    height: int
    reduction: int


def read_photograph(path: Path | str, reduction: int = 1) -> Photograph:
    """Decode ``path`` to upright 8-bit RGB.

    A JPEG is shrunk by ``reduction`` while it is decoded, which costs a fraction of a full decoding; other formats
    come at full size (``reduction`` 1). Sixteen bits keep their upper eight, grey becomes RGB, alpha is dropped.

    Raises:
        Unreadable: missing, empty, truncated, or no picture.
    """
    data = _bytes(Path(path))
    if dicom.is_dicom(data):
        pixels = _dicom(data)
        return Photograph(pixels, pixels.shape[1], pixels.shape[0], 1)
    image = _open(data)
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        _check_complete(data)
        if image.mode in ("RGB", "L"):
            orientation = _orientation(image)
            pixels = _upright(_decode_jpeg(data, reduction), orientation)
            size = (height, width) if orientation >= 5 else (width, height)
            return Photograph(pixels, *size, reduction)
    return from_image(image)


def from_image(image: Image.Image) -> Photograph:
    """A Pillow image as upright 8-bit RGB, by the rules of ``read_photograph``; raises ``Unreadable``."""
    pixels = _upright(_eight_bit_rgb(_load(image)), _orientation(image))
    return Photograph(pixels, pixels.shape[1], pixels.shape[0], 1)


def picture_size(path: Path | str) -> tuple[int, int]:
    """Stored (width, height) in pixels, from the header alone; raises ``Unreadable``."""
    data = _bytes(Path(path))
    if dicom.is_dicom(data):
        try:
            return dicom.size(data)
        except ValueError as error:
            raise Unreadable(str(error)) from error
    return _open(data).size


def read_mask(path: Path | str, above: int = 0) -> Mask:
    """A mask file as bool ``(H, W)``: what lies above a grey level is lesion; alpha is ignored.

    At 0, the rule of ``lesions.csv``, that is whatever is not zero, in palette files whatever is not index zero.

    Raises:
        Unreadable: as ``read_photograph``.
    """
    image = _load(_open(_bytes(Path(path))))
    if image.mode in ("RGBA", "LA", "PA"):
        image = image.convert({"RGBA": "RGB", "LA": "L", "PA": "P"}[image.mode])
    if above and image.mode == "P":
        image = image.convert("L")  # the index of a palette is no grey level
    lesion = np.asarray(image) > above
    return np.asarray(lesion.any(axis=2) if lesion.ndim == 3 else lesion, dtype=bool)


def _bytes(path: Path) -> npt.NDArray[np.uint8]:
    try:
        # np.fromfile rather than cv2.imread, which cannot open every non-ASCII path.
        data: npt.NDArray[np.uint8] = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise Unreadable("file is missing") from error
    except OSError as error:
        raise Unreadable(f"file cannot be read: {error.strerror or error}") from error
    if data.size == 0:
        raise Unreadable("file is empty")
    return data


def _dicom(data: npt.NDArray[np.uint8]) -> Pixels:
    try:
        return dicom.pixels(data)
    except ValueError as error:
        raise Unreadable(str(error)) from error


def _open(data: npt.NDArray[np.uint8]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data.tobytes()))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable("picture claims more pixels than any camera takes") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable("file is not a picture in a format known here") from error


def _load(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except DAMAGED as error:
        raise Unreadable(f"picture is truncated or damaged: {error}") from error
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation still to be undone (Pillow turns a TIFF itself while loading it); 1 where unreadable."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DAMAGED:
        # Damaged camera notes do not make the picture unreadable.
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    return np.ascontiguousarray(_UPRIGHT[orientation](pixels)) if orientation in _UPRIGHT else pixels


def _decode_jpeg(data: npt.NDArray[np.uint8], reduction: int) -> Pixels:
    try:
        # Orientation is applied here rather than by OpenCV so that every format is turned by one rule.
        pixels = cv2.imdecode(data, _JPEG_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise Unreadable(f"picture is damaged: {error.err}") from error
    if pixels is None:
        raise Unreadable("picture is damaged: it cannot be decoded")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _check_complete(data: npt.NDArray[np.uint8]) -> None:
    """Refuse a JPEG that ends before its end marker: OpenCV would fill the rest with grey and say nothing."""
    content = data.tobytes()
    position = 2
    # Walk over the segments before the first scan: the thumbnail among them has an end marker of its own.
    while position + 4 <= len(content) and content[position] == 0xFF and content[position + 1] != 0xDA:
        if content[position + 1] == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    if content.find(b"\xff\xd9", position) < 0:
        raise Unreadable("picture is truncated: the JPEG ends before its end marker")


def _eight_bit_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("grey values lie outside 16 bits")
        grey = (values >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise Unreadable("pixels are floating-point numbers; save the picture with 8 or 16 bits")
    return np.array(image.convert("RGB"), dtype=np.uint8)
