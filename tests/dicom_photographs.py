"""Ophthalmic photographs in DICOM as cameras store them, with a study to refer to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, OphthalmicPhotography8BitImageStorage, generate_uid

HEIGHT, WIDTH = 40, 60


def photograph(file: Path, **tags: object) -> pydicom.Dataset:
    """An ophthalmic photograph of a right eye, as a camera stores it."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = OphthalmicPhotography8BitImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName, dataset.ImageLaterality = "OP", "P-7", "Doe^Jo", "R"
    dataset.StudyDate, dataset.StudyID, dataset.AccessionNumber = "20240102", "S1", "A9"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = HEIGHT, WIDTH, 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8).tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(file, enforce_file_format=True)
    return dataset
