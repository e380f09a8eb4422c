"""Predictions of DICOM photographs as DICOM objects of the same study, for archives and viewers.

A segmentation of what each map shows, a structured report (TID 1500) of findings or grades that refers to it, and a
secondary capture of each overlay. Their UIDs follow from the photograph and the networks, so that predicting again
replaces objects in an archive rather than adding to them.
"""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fundusnet.data.decode import Pixels, read_photograph
from fundusnet.data.listing import file_name
from fundusnet.errors import UserError
from fundusnet.evaluation import overlays
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.map_geometry import Map

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

FOLDER = "dicom"
SCHEME = "99FUNDUSNET"  # of codes that no public dictionary at hand has
# Findings with a code of SNOMED CT in the dictionary of DICOM.
SNOMED = {"cataract": ("193570009", "Cataract (disorder)")}
# Of the type-2 elements of a photograph, those that the objects copy.
_COPIED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5."  # ophthalmic photographs and others of that kind
_SERIES = {"segmentation": 901, "report": 902, "overlay": 903}


@dataclass(frozen=True)
class Statement:
    """One thing that the networks say of a photograph.

    Attributes:
        name: A finding, or "grade".
        value: "present" or "absent", or the name of the grade.
        probabilities: What each number is → the number, 0 to 1.
        map: ``(H, W)`` in the frame of the photograph, in [0, 1]; None if there is none.
        level: The activation from which a pixel belongs to the segment.
        regions: Names of the regions that the map lies in.
    """

    name: str
    value: str
    probabilities: Mapping[str, float]
    map: Map | None
    level: float = 0.5
    regions: tuple[str, ...] = ()

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of the segment."""
        assert self.map is not None
        return np.asarray(self.map >= self.level)


@dataclass(frozen=True)
class DicomWriter:
    """Writes the objects of one photograph after another.

    Attributes:
        folder: Where the files go.
        root: Folder that the paths of photographs are relative to.
        version: Of fundusnet.
        networks: Checksums of the checkpoints.
    """

    folder: Path
    root: Path
    version: str
    networks: tuple[str, ...]

    def write(self, entry: Entry, statements: Sequence[Statement]) -> None:
        """Write ``<image_id>.seg.dcm``, ``.sr.dcm``, and ``.<finding>.sc.dcm`` for each map.

        Args:
            entry: The DICOM file that was predicted.
            statements: What the networks say of it.

        Raises:
            UserError: The photograph names no study, or a file cannot be written.
        """
        photograph = self.root / entry.path
        source = _source(photograph)
        drawn = [each for each in statements if each.map is not None]
        segmentation = self._segmentation(source, drawn) if drawn else None
        objects = {"sr": self._report(source, statements, drawn, segmentation)}
        if segmentation is not None:
            objects["seg"] = segmentation
        pixels = read_photograph(photograph).pixels
        for number, each in enumerate(drawn, start=1):
            objects[f"{each.name}.sc"] = self._overlay(source, pixels, each, number)
        for kind, content in objects.items():
            file = self.folder / file_name(entry.image_id, kind, suffix="dcm")
            try:
                content.save_as(file, enforce_file_format=True)
            except OSError as error:
                raise UserError(
                    f"{file} cannot be written: {error.strerror}; make room and run the same command again to resume"
                ) from error

    def _segmentation(self, source: Dataset, drawn: Sequence[Statement]) -> Dataset:
        import highdicom as hd
        from pydicom.sr.codedict import codes
        from pydicom.uid import SecondaryCaptureImageStorage

        algorithm = hd.AlgorithmIdentificationSequence(
            name="fundusnet", family=codes.DCM.ArtificialIntelligence, version=self.version
        )
        described = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=each.name[:64],
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=_code(each.name),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=self._uid(source, "tracking", each.name),
                tracking_id=each.name,
                anatomic_regions=[codes.SCT.Retina],
            )
            for number, each in enumerate(drawn, start=1)
        ]
        masks = np.stack([each.mask for each in drawn], axis=-1)
        single = copy.deepcopy(source)  # a shallow copy shares its elements
        single.SOPClassUID = SecondaryCaptureImageStorage  # highdicom wants geometry of kinds with several frames
        segmentation = hd.seg.Segmentation(
            source_images=[single],
            pixel_array=masks[None].astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            omit_empty_frames=False,
            content_description="activation at the level that counts, and above",
            content_label="ACTIVATION",
            **self._identity(source, "segmentation"),
        )

        def set_kind(_: Dataset, element: DataElement) -> None:
            if element.keyword == "ReferencedSOPClassUID":
                element.value = source.SOPClassUID  # it refers to nothing else

        segmentation.walk(set_kind)
        return segmentation

    def _report(
        self, source: Dataset, statements: Sequence[Statement], drawn: Sequence[Statement], segmentation: Dataset | None
    ) -> Dataset:
        import highdicom as hd
        from pydicom.sr.codedict import codes

        device = hd.sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                uid=_uid("device", self.version, *self.networks),
                name="fundusnet",
                model_name=f"fundusnet {self.version}",
                serial_number=self.networks[0][:16],
            ),
        )
        groups: list[Any] = []
        for each in statements:
            about: dict[str, Any] = {
                "tracking_identifier": hd.sr.TrackingIdentifier(
                    uid=self._uid(source, "tracking", each.name), identifier=each.name
                ),
                "finding_type": _code(each.name),
                "algorithm_id": hd.sr.AlgorithmIdentification(
                    name="fundusnet", version=self.version, parameters=[f"network {each}" for each in self.networks]
                ),
                "finding_sites": [_site(source)],
                "measurements": [
                    hd.sr.Measurement(name=_code(name), value=round(value, 6), unit=codes.UCUM.NoUnits)
                    for name, value in each.probabilities.items()
                ],
                "qualitative_evaluations": [
                    hd.sr.QualitativeEvaluation(name=_code(each.name), value=_code(each.value)),
                    *(hd.sr.QualitativeEvaluation(name=_code("region"), value=_code(name)) for name in each.regions),
                ],
            }
            if segmentation is not None and each.map is not None and each.mask.any():
                number = [other.name for other in drawn].index(each.name) + 1
                segment = hd.sr.ReferencedSegmentationFrame.from_segmentation(segmentation, segment_number=number)
                # The standard has one or the other; the segment is all that is meant.
                del segment[0].ReferencedSOPSequence[0].ReferencedFrameNumber
                groups.append(hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **about))
            else:
                image = hd.sr.SourceImageForMeasurementGroup.from_source_image(source)
                groups.append(hd.sr.MeasurementsAndQualitativeEvaluations(source_images=[image], **about))
        content = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_device_context=device),
            procedure_reported=codes.SCT.ImagingProcedure,
            imaging_measurements=groups,
            referenced_images=[source],
        )
        return hd.sr.ComprehensiveSR(
            evidence=[source] if segmentation is None else [source, segmentation],
            content=content[0],
            is_complete=True,
            is_final=False,  # for research: nobody has verified it
            is_verified=False,
            **{key: value for key, value in self._identity(source, "report").items() if key in _OF_REPORTS},
        )

    def _overlay(self, source: Dataset, pixels: Pixels, statement: Statement, number: int) -> Dataset:
        import highdicom as hd

        identity = self._identity(source, "overlay", statement.name) | {"instance_number": number}
        capture = hd.sc.SCImage.from_ref_dataset(
            ref_dataset=source,
            pixel_array=overlays.overlay(pixels, np.asarray(statement.map, dtype=np.float32)),
            photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
            bits_allocated=8,
            coordinate_system=hd.CoordinateSystemNames.PATIENT,
            patient_orientation=("L", "F"),
            laterality=_laterality(source),
            **{key: value for key, value in identity.items() if key in _OF_CAPTURES},
        )
        orientation: Any = source.get("PatientOrientation") or None
        capture.PatientOrientation = orientation
        capture.ImageType = ["DERIVED", "SECONDARY"]
        capture.SeriesDescription = "fundusnet, for research"
        capture.ImageComments = f"{statement.name}: {statement.value}"
        reference = hd.sr.SourceImageForMeasurementGroup.from_source_image(source)
        capture.SourceImageSequence = reference.ReferencedSOPSequence
        return capture

    def _identity(self, source: Dataset, kind: str, *more: str) -> dict[str, Any]:
        """UIDs and numbers of an object, and what made it."""
        return {
            "series_instance_uid": _uid(source.StudyInstanceUID, kind, *self.networks),
            "series_number": _SERIES[kind],
            "sop_instance_uid": self._uid(source, kind, *more),
            "instance_number": 1,
            "manufacturer": "fundusnet",
            "manufacturer_model_name": "fundusnet",
            "software_versions": self.version,
            "device_serial_number": self.networks[0][:16],
            "series_description": "fundusnet, for research",
        }

    def _uid(self, source: Dataset, *parts: str) -> str:
        return _uid(source.SOPInstanceUID, *parts, *self.networks)


_OF_REPORTS = ("series_instance_uid", "series_number", "sop_instance_uid", "instance_number", "manufacturer",
               "series_description")  # fmt: skip
_OF_CAPTURES = ("series_instance_uid", "series_number", "sop_instance_uid", "instance_number", "manufacturer")


def _source(file: Path) -> Dataset:
    """The header of a photograph, with the elements that objects of its study copy."""
    from pydicom import dcmread

    source = dcmread(file, force=True)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not source.get(name):
            raise UserError(f"{file} has no {name}, so that nothing can refer to it; leave out dicom=true")
    for name in _COPIED:
        if name not in source:
            setattr(source, name, "")
    if str(source.SOPClassUID).startswith(_OPHTHALMIC) and not source.get("NumberOfFrames"):
        source.NumberOfFrames = 1  # which this kind of object always has, and some cameras leave out
    return source


def _code(name: str) -> Any:
    """A name as a coded concept: of DICOM or SNOMED CT where its dictionary has it, else one of our own."""
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    known = {"present": codes.SCT.Present, "absent": codes.SCT.Absent, "probability": codes.DCM.Probability}
    if name in known:
        return known[name]
    if name in SNOMED:
        return CodedConcept(SNOMED[name][0], "SCT", SNOMED[name][1])
    # The value of a code has at most 16 characters.
    short = name if len(name) <= 16 else hashlib.sha256(name.encode()).hexdigest()[:16]
    return CodedConcept(short, SCHEME, name.replace("_", " ")[:64])


def _site(source: Dataset) -> Any:
    from highdicom.sr import FindingSite
    from pydicom.sr.codedict import codes

    side = {"R": codes.SCT.Right, "L": codes.SCT.Left}.get(_laterality(source) or "")
    return FindingSite(anatomic_location=codes.SCT.Retina, laterality=side)


def _laterality(source: Dataset) -> str | None:
    side = str(source.get("ImageLaterality") or source.get("Laterality") or "").upper()
    return {"R": "R", "OD": "R", "L": "L", "OS": "L"}.get(side)


def _uid(*parts: object) -> str:
    """A UID that is a function of ``parts``, under the root for UUIDs."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(['fundusnet', *map(str, parts)])).int}"
