"""Photographs in DICOM files, as cameras and archives export them (ophthalmic photography).

They are read through pydicom: ``pip install "fundusnet[dicom]"``.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fundusnet.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

SUFFIXES = frozenset((".dcm", ".dicom"))
REMEDY = 'pip install "fundusnet[dicom]"'
_EYES = {"L": "left", "OS": "left", "R": "right", "OD": "right"}
_TAGS = ("PatientID", "ImageLaterality", "Laterality")
_HEAD = 132  # bytes: a preamble of 128, then the mark


def is_dicom(data: npt.NDArray[np.uint8]) -> bool:
    """Whether the content of a file is DICOM, by its mark, since archives often omit the suffix."""
    return data[_HEAD - 4 : _HEAD].tobytes() == b"DICM"


def looks_like_dicom(file: Path) -> bool:
    """Whether a file is DICOM, by its suffix or, if it has none, by its first bytes.

    Archives also name files by their UID (``1.2.840.55``), whose last number is not a suffix.
    """
    if file.suffix.lower() in SUFFIXES:
        return True
    if file.suffix and not file.suffix[1:].isdecimal():
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(_HEAD)[-4:] == b"DICM"
    except OSError:
        return False


def installed() -> bool:
    """Whether DICOM can be read here."""
    return find_spec("pydicom") is not None


def check_installed(files: Iterable[Path]) -> None:
    """Raise UserError if one of ``files`` is DICOM and pydicom is not installed."""
    if not installed() and (file := next(filter(looks_like_dicom, files), None)):
        raise UserError(f"{file} is DICOM, which needs pydicom: {REMEDY}")


def size(data: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """(width, height) in pixels; raises ValueError with the reason if the file does not hold a single picture."""
    dataset = _read_dataset(data, pixels=False)
    return int(dataset.Columns), int(dataset.Rows)


def patient_and_eye(file: Path) -> tuple[str, str]:
    """Patient id, and "left" or "right", from the header; "" = it lacks them, or cannot be read (logged)."""
    from pydicom import dcmread

    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        patient, *sides = (str(header.get(name) or "").strip() for name in _TAGS)
    except Exception as error:  # pydicom raises many kinds of errors on incomplete files
        # Logged, since images of an unknown patient may end up in different splits.
        log.warning("%s: patient and eye cannot be read (%s: %s)", file, type(error).__name__, error)
        return "", ""
    return patient, _EYES.get(next(filter(None, sides), "").upper(), "")


def pixels(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 RGB ``(H, W, 3)``; of more than eight bits the upper eight are kept, grey becomes RGB.

    Raises:
        ValueError: No picture, several frames, pixels that cannot be decoded, or pydicom is not installed.
    """
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    dataset = _read_dataset(data, pixels=True)
    kind = str(dataset.get("PhotometricInterpretation", ""))
    try:
        values: npt.NDArray[Any] = pixel_array(dataset)
        if kind == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
    except Exception as error:  # each of pydicom's decoders raises its own errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"DICOM pixels cannot be decoded: {reason}") from error
    bits = 8 * values.dtype.itemsize if kind == "PALETTE COLOR" else int(dataset.BitsStored)
    eight = _to_eight_bits(values, bits)
    if eight.ndim == 2:
        eight = 255 - eight if kind == "MONOCHROME1" else eight  # there 0 is white
        eight = np.repeat(eight[:, :, None], 3, axis=2)
    if eight.ndim != 3 or eight.shape[2] not in (3, 4):
        raise ValueError(f"DICOM does not hold a single colour or grey picture, but pixels of shape {eight.shape}")
    return np.ascontiguousarray(eight[:, :, :3])


def _read_dataset(data: npt.NDArray[np.uint8], *, pixels: bool) -> Dataset:
    if not installed():
        raise ValueError(f"picture is DICOM, which needs pydicom: {REMEDY}")
    from pydicom import dcmread

    try:
        dataset = dcmread(io.BytesIO(data.tobytes()), stop_before_pixels=not pixels)
        frames, columns, rows = int(dataset.get("NumberOfFrames") or 1), dataset.get("Columns"), dataset.get("Rows")
    except Exception as error:  # pydicom raises many kinds of errors on incomplete files
        raise ValueError(f"DICOM is damaged: {error}") from error
    if not rows or not columns or (pixels and "PixelData" not in dataset):
        raise ValueError("DICOM holds no picture")
    if frames > 1:
        raise ValueError(f"DICOM holds {frames} frames; export the photograph as a single one")
    return dataset


def _to_eight_bits(values: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    if values.dtype.kind not in "ui" or (values.dtype.kind == "i" and values.min() < 0):
        raise ValueError("DICOM pixels are not unsigned integers")
    shifted = values >> (bits - 8) if bits > 8 else values
    return np.asarray(np.minimum(shifted, 255), dtype=np.uint8)
