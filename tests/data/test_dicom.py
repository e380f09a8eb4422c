"""DICOM photographs: what cameras and archives write is read as the picture it is."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    OphthalmicPhotography8BitImageStorage,
    generate_uid,
)

from fundusnet.data import dicom
from fundusnet.data.decode import Unreadable, picture_size, read_photograph
from fundusnet.data.listing import photographs


def write_dicom(file: Path, pixels: np.ndarray, *, jpeg: bool = False, **tags: object) -> Path:
    """An ophthalmic photograph as a camera stores it: ``pixels`` RGB or grey, plain or as baseline JPEG."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = OphthalmicPhotography8BitImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PatientID, dataset.ImageLaterality = "OP", "P-0007", "L"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "YBR_FULL_422" if jpeg else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    data = pixels.tobytes()
    if jpeg:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95, subsampling="4:2:2")
        data = encapsulate([stream.getvalue()])
    dataset.PixelData = data
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(file, enforce_file_format=True)
    return file


def eye(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth reddish picture."""
    coarse = np.random.default_rng(0).integers(40, 255, (4, 5, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture[..., 2] //= 2
    return picture


def test_a_round_trip_gives_the_same_pixels(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "eye.dcm", eye())
    photograph = read_photograph(file)
    np.testing.assert_array_equal(photograph.pixels, eye())
    assert (photograph.width, photograph.height) == picture_size(file) == (64, 48)
    assert dicom.patient_and_eye(file) == ("P-0007", "left")


def test_jpeg_inside_comes_out_in_true_colours(tmp_path: Path) -> None:
    photograph = read_photograph(write_dicom(tmp_path / "eye.dcm", eye(), jpeg=True))
    assert np.abs(photograph.pixels.astype(int) - eye()).mean() < 3


def test_grey_inverted_and_sixteen_bits(tmp_path: Path) -> None:
    grey = eye()[..., 1]
    for stored, tags in (
        (grey, {}),
        (255 - grey, {"PhotometricInterpretation": "MONOCHROME1"}),
        (grey.astype(np.uint16) * 16, {"BitsStored": 12, "HighBit": 11}),
    ):
        pixels = read_photograph(write_dicom(tmp_path / "grey.dcm", stored, **tags)).pixels
        np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, axis=2))


def test_a_file_without_a_suffix_is_recognised_by_its_mark(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "IM000001", eye(), ImageLaterality="", PatientID="")
    (tmp_path / "README").write_text("x" * 200)
    assert dicom.looks_like_dicom(file) and not dicom.looks_like_dicom(tmp_path / "README")
    assert dicom.patient_and_eye(file) == ("", "")
    np.testing.assert_array_equal(read_photograph(file).pixels, eye())


def test_a_file_named_by_its_uid_is_recognised_by_its_mark(tmp_path: Path) -> None:
    assert dicom.looks_like_dicom(write_dicom(tmp_path / "1.2.840.10008.55", eye()))
    (tmp_path / "table.1").write_text("x" * 200)
    assert not dicom.looks_like_dicom(tmp_path / "table.1")
    assert not dicom.looks_like_dicom(write_dicom(tmp_path / "eye.jpg", eye())), "another suffix is taken at its word"


def test_the_header_is_read_without_the_pixels(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "eye.dcm", eye(1000, 1000))

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    dicom.patient_and_eye(file)  # pydicom reads its own tables once
    before = bytes_read()
    assert dicom.patient_and_eye(file) == ("P-0007", "left")
    assert bytes_read() - before < 200_000 < file.stat().st_size


def test_a_file_without_a_single_picture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    several = write_dicom(tmp_path / "several.dcm", eye(), NumberOfFrames=3)
    torn = tmp_path / "torn.dcm"
    torn.write_bytes(write_dicom(tmp_path / "whole.dcm", eye()).read_bytes()[:-900])
    stub = tmp_path / "stub.dcm"
    stub.write_bytes(b"\0" * 128 + b"DICM" + b"\1\2\3")
    for file, message in ((several, "holds 3 frames"), (torn, "cannot be decoded"), (stub, "DICOM")):
        with pytest.raises(Unreadable, match=message):
            read_photograph(file)
    for file in (stub, tmp_path / "nowhere.dcm", tmp_path):
        assert dicom.patient_and_eye(file) == ("", "")
    for file in (tmp_path / "nowhere.dcm", tmp_path):
        assert f"{file}: patient and eye cannot be read (" in caplog.text
    monkeypatch.setattr(dicom, "installed", lambda: False)
    with pytest.raises(Unreadable, match=r"needs pydicom: pip install .fundusnet\[dicom\]"):
        read_photograph(tmp_path / "whole.dcm")


def test_the_window_decides_what_is_black_and_white(tmp_path: Path) -> None:
    grey = np.linspace(0, 4095, 48 * 64).reshape(48, 64).round().astype(np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 1024}
    shown = read_photograph(write_dicom(tmp_path / "w.dcm", grey, **tags)).pixels[..., 0].astype(float)
    # PS3.3 C.11.2.1.2.1: linear between centre - 0.5 -+ (width - 1) / 2.
    expected = np.clip((grey - 2047.5) / 1023 + 0.5, 0, 1) * 255
    assert np.abs(shown - expected).max() <= 1
    inverted = {**tags, "PhotometricInterpretation": "MONOCHROME1"}
    other = read_photograph(write_dicom(tmp_path / "i.dcm", grey, **inverted)).pixels[..., 0]
    assert np.abs(255 - other.astype(float) - expected).max() <= 1


def test_the_window_is_of_rescaled_values(tmp_path: Path) -> None:
    grey = np.linspace(0, 4095, 48 * 64).reshape(48, 64).round().astype(np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 2, "RescaleIntercept": -1000}
    file = write_dicom(tmp_path / "r.dcm", grey, WindowCenter=3096, WindowWidth=2048, **tags)
    shown = read_photograph(file).pixels[..., 0].astype(float)
    expected = np.clip((2.0 * grey - 1000 - 3095.5) / 2047 + 0.5, 0, 1) * 255
    assert np.abs(shown - expected).max() <= 1


def test_fewer_bits_than_the_file_offers_are_scaled_and_flagged(tmp_path: Path) -> None:
    grey = np.linspace(0, 4095, 48 * 64).reshape(48, 64).round().astype(np.uint16)
    photograph = read_photograph(write_dicom(tmp_path / "a.dcm", grey))
    assert photograph.flags == ("fewer_bits",)
    np.testing.assert_array_equal(photograph.pixels[..., 0], grey >> 4)
    # Where the file says how many bits are stored, a dark picture stays dark.
    dark = read_photograph(write_dicom(tmp_path / "b.dcm", grey >> 3, BitsStored=12, HighBit=11))
    assert dark.flags == () and dark.pixels.max() == 4095 >> 7


def test_a_file_without_a_preamble_is_read(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "whole.dcm", eye()).read_bytes()
    (tmp_path / "bare.dcm").write_bytes(whole[132:])
    np.testing.assert_array_equal(read_photograph(tmp_path / "bare.dcm").pixels, eye())


def test_the_index_of_a_medium_is_no_photograph(tmp_path: Path) -> None:
    write_dicom(tmp_path / "DICOMDIR", eye())
    write_dicom(tmp_path / "eye.dcm", eye())
    assert photographs(tmp_path) == [tmp_path / "eye.dcm"]


def test_a_reason_of_several_lines_is_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Unable to decompress, all plugins lack dependencies:\n\tgdcm - requires python-gdcm")

    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", refuse)
    with pytest.raises(Unreadable, match="lack dependencies: gdcm - requires python-gdcm"):
        read_photograph(write_dicom(tmp_path / "eye.dcm", eye()))
