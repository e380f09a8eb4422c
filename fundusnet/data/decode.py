"""Reading photographs and masks from files, however a camera, an export or a broken download wrote them."""

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
from fundusnet.data.jpeg import is_complete

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# What Pillow raises on damaged files, EXIF included; found by damaging files of every format at random places.
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
# OpenCV's flag for each power of two by which libjpeg shrinks a picture while decoding it.
_JPEG_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# How to turn stored pixels upright, by EXIF orientation.
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
    """A file without a usable picture; the message is the reason."""


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph in the original frame (``fundusnet.data.crop``), perhaps reduced.

    Attributes:
        pixels: uint8 RGB ``(ceil(height / reduction), ceil(width / reduction), 3)``.
        width, height: Size of the original frame in pixels.
        reduction: 1, 2, 4 or 8: original pixels per decoded pixel, along each side.
    """

    pixels: Pixels
    width: int
    height: int
    reduction: int


def read_photograph(path: Path | str, reduction: int = 1) -> Photograph:
    """Decode ``path`` to upright 8-bit RGB.

    A JPEG is reduced while it is decoded, which costs a fraction of decoding it in full; other formats are returned at
    full size (``reduction`` 1). Of sixteen bits the upper eight are kept, grey becomes RGB, alpha is dropped.

    Raises:
        Unreadable: The file is missing, empty, truncated, or not a picture.
    """
    data = _read_bytes(Path(path))
    if dicom.is_dicom(data):
        pixels = _read_dicom(data)
        return Photograph(pixels, pixels.shape[1], pixels.shape[0], 1)
    image = _open_image(data)
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        if not is_complete(data.tobytes()):
            # OpenCV would fill the rest with grey without an error.
            raise Unreadable("picture is truncated: the JPEG ends before its end marker")
        if image.mode in ("RGB", "L"):
            orientation = _orientation(image)
            pixels = _turn_upright(_decode_jpeg(data, reduction), orientation)
            size = (height, width) if orientation >= 5 else (width, height)
            return Photograph(pixels, *size, reduction)
    return from_image(image)


def from_image(image: Image.Image) -> Photograph:
    """A Pillow image as ``read_photograph`` would return it; raises ``Unreadable``."""
    pixels = _turn_upright(_to_rgb(_load_pixels(image)), _orientation(image))
    return Photograph(pixels, pixels.shape[1], pixels.shape[0], 1)


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

    Above 0, the rule of ``lesions.csv``, it is True where the pixel, or in a palette file its index, is not zero.

    Raises:
        Unreadable: As ``read_photograph``.
    """
    image = _load_pixels(_open_image(_read_bytes(Path(path))))
    if image.mode in ("RGBA", "LA", "PA"):
        image = image.convert({"RGBA": "RGB", "LA": "L", "PA": "P"}[image.mode])
    if above and image.mode == "P":
        image = image.convert("L")  # a palette's index is not a grey level
    lesion = np.asarray(image) > above
    return np.asarray(lesion.any(axis=2) if lesion.ndim == 3 else lesion, dtype=bool)


def _read_bytes(path: Path) -> npt.NDArray[np.uint8]:
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


def _read_dicom(data: npt.NDArray[np.uint8]) -> Pixels:
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


def _turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    return np.ascontiguousarray(_UPRIGHT[orientation](pixels)) if orientation in _UPRIGHT else pixels


def _decode_jpeg(data: npt.NDArray[np.uint8], reduction: int) -> Pixels:
    try:
        # OpenCV would turn JPEGs only; all formats are turned by one rule here.
        pixels = cv2.imdecode(data, _JPEG_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise Unreadable(f"picture is damaged: {error.err}") from error
    if pixels is None:
        raise Unreadable("picture is damaged: it cannot be decoded")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("grey values lie outside 16 bits")
        grey = (values >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise Unreadable("pixels are floating-point numbers; save the picture with 8 or 16 bits")
    return np.array(image.convert("RGB"), dtype=np.uint8)
