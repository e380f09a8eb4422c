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

from fundusnet.data.depth import to_eight_bits
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
    """Whether the content of a file is DICOM, since archives often omit the suffix.

    It is by its mark, or where it lacks the preamble by its first element, of group 2 or 8 and a small number.
    """
    group, element = (int.from_bytes(data[at : at + 2].tobytes(), "little") for at in (0, 2))
    bare = group in (2, 8) and element < 0x100 and data[4:6].tobytes().isupper()
    return bare or data[_HEAD - 4 : _HEAD].tobytes() == b"DICM"


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
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
        patient, *sides = (str(header.get(name) or "").strip() for name in _TAGS)
    except Exception as error:  # pydicom raises many kinds of errors on incomplete files
        # Logged, since images of an unknown patient may end up in different splits.
        log.warning("%s: patient and eye cannot be read (%s: %s)", file, type(error).__name__, error)
        return "", ""
    return patient, _EYES.get(next(filter(None, sides), "").upper(), "")


def pixels(data: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], bool]:
    """uint8 RGB ``(H, W, 3)``, and whether fewer bits are in use than the file offers; grey becomes RGB.

    Grey levels are scaled by the window of the file if it has one. Else the upper eight bits are kept: of the bits
    that it says are stored, or of those in use where it says 16.

    Raises:
        ValueError: No picture, several frames, pixels that cannot be decoded, or pydicom is not installed.
    """
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    dataset = _read_dataset(data, pixels=True)
    kind = str(dataset.get("PhotometricInterpretation", ""))
    fewer = False
    try:
        values: npt.NDArray[Any] = pixel_array(dataset)
        if kind == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
        elif kind.startswith("MONOCHROME"):
            values = _windowed(values, dataset)
    except Exception as error:  # each of pydicom's decoders raises its own errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"DICOM pixels cannot be decoded: {reason}") from error
    if values.dtype == np.uint8:
        eight = np.asarray(values)
    elif values.dtype.kind not in "ui" or values.min() < 0:
        raise ValueError("DICOM pixels are not unsigned integers, and no window says how to show them")
    else:
        bits = 8 * values.dtype.itemsize if kind == "PALETTE COLOR" else int(dataset.BitsStored)
        eight, fewer = to_eight_bits(values, bits)
    if eight.ndim == 2:
        eight = 255 - eight if kind == "MONOCHROME1" else eight  # there 0 is white
        eight = np.repeat(eight[:, :, None], 3, axis=2)
    if eight.ndim != 3 or eight.shape[2] not in (3, 4):
        raise ValueError(f"DICOM does not hold a single colour or grey picture, but pixels of shape {eight.shape}")
    return np.ascontiguousarray(eight[:, :, :3]), fewer


def _windowed(values: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[Any]:
    """Grey levels after rescaling and the file's first window, as uint8; as they are if it has none."""
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    if "WindowCenter" not in dataset or "WindowWidth" not in dataset:
        return values
    rescaled = apply_modality_lut(values, dataset)
    shown = apply_windowing(rescaled, dataset)
    # pydicom spreads the window over all values that the stored bits can have, rescaled.
    signed, bits = bool(dataset.PixelRepresentation), int(dataset.BitsStored)
    ends = np.array((-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1), dtype=float)
    if "RescaleSlope" in dataset:
        ends = ends * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    low, high = ends.min(), ends.max()
    eight: npt.NDArray[np.uint8] = np.rint(
        (np.asarray(shown, dtype=float) - low).clip(0, high - low) * (255 / (high - low))
    ).astype(np.uint8)
    return eight


def _read_dataset(data: npt.NDArray[np.uint8], *, pixels: bool) -> Dataset:
    if not installed():
        raise ValueError(f"picture is DICOM, which needs pydicom: {REMEDY}")
    from pydicom import dcmread

    try:
        dataset = dcmread(io.BytesIO(data.tobytes()), stop_before_pixels=not pixels, force=True)
        frames, columns, rows = int(dataset.get("NumberOfFrames") or 1), dataset.get("Columns"), dataset.get("Rows")
    except Exception as error:  # pydicom raises many kinds of errors on incomplete files
        raise ValueError(f"DICOM is damaged: {error}") from error
    if not rows or not columns or (pixels and "PixelData" not in dataset):
        raise ValueError("DICOM holds no picture")
    if frames > 1:
        raise ValueError(f"DICOM holds {frames} frames; export the photograph as a single one")
    return dataset
