"""DICOM objects of predictions: linked to the photograph's study, and read back by pydicom and by dcmtk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from dicom_photographs import HEIGHT, WIDTH, photograph
from pydicom.uid import (
    ComprehensiveSRStorage,
    OphthalmicPhotography8BitImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from fundusnet.errors import UserError
from fundusnet.evaluation import overlays
from fundusnet.prediction.dicom_objects import DicomWriter, Statement
from fundusnet.prediction.inputs import Entry

pytest.importorskip("highdicom")


def spot() -> np.ndarray:
    """A map that is above the level in a square, and below it elsewhere."""
    cells = np.full((HEIGHT, WIDTH), 0.2, dtype=np.float32)
    cells[10:20, 30:45] = 0.9
    return cells


EYE = Entry("eye", "eye.dcm")
STATEMENTS = [
    Statement("hemorrhage", "present", {"probability": 0.875}, spot(), 0.6, ("macula", "temporal")),
    Statement("retinal_pigmentary_change", "absent", {"probability": 0.125}, np.zeros((HEIGHT, WIDTH), np.float32)),
]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, pydicom.Dataset]:
    source = photograph(tmp_path / "eye.dcm")
    (tmp_path / "out").mkdir()
    DicomWriter(tmp_path / "out", tmp_path, "1.2.3", ("ab" * 32,)).write(EYE, STATEMENTS)
    return tmp_path / "out", source


def test_every_object_belongs_to_the_study_and_the_patient(written: tuple[Path, pydicom.Dataset]) -> None:
    folder, source = written
    read = {file.name: pydicom.dcmread(file) for file in sorted(folder.iterdir())}
    assert {name: str(each.SOPClassUID) for name, each in read.items()} == {
        "eye.hemorrhage.sc.dcm": SecondaryCaptureImageStorage,
        "eye.retinal_pigmentary_change.sc.dcm": SecondaryCaptureImageStorage,
        "eye.seg.dcm": SegmentationStorage,
        "eye.sr.dcm": ComprehensiveSRStorage,
    }
    for each in read.values():
        for name in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "AccessionNumber"):
            assert each[name].value == source[name].value, name
        assert each.SeriesInstanceUID != source.SeriesInstanceUID
    assert len({each.SOPInstanceUID for each in read.values()}) == 4
    assert len({each.SeriesInstanceUID for each in read.values()}) == 3  # both overlays are of one series


def test_the_segmentation_is_the_map_at_its_level(written: tuple[Path, pydicom.Dataset]) -> None:
    import highdicom as hd

    folder, source = written
    segmentation = hd.seg.segread(folder / "eye.seg.dcm")
    masks = segmentation.get_pixels_by_source_instance([source.SOPInstanceUID])[0]
    assert masks.shape == (HEIGHT, WIDTH, 2) and not masks[..., 1].any()
    np.testing.assert_array_equal(masks[..., 0].astype(bool), spot() >= 0.6)
    kinds = {str(each.value) for each in segmentation.iterall() if each.keyword == "ReferencedSOPClassUID"}
    assert kinds == {str(source.SOPClassUID)}
    first = segmentation.get_segment_description(1)
    assert first.segment_label == "hemorrhage" and first.algorithm_identification.version == "1.2.3"
    assert first.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99FUNDUSNET"


def test_the_report_says_what_the_networks_say(written: tuple[Path, pydicom.Dataset]) -> None:
    import highdicom as hd

    folder, _ = written
    report = hd.sr.srread(folder / "eye.sr.dcm")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500" and report.VerificationFlag == "UNVERIFIED"
    kinds = {str(each.value) for each in report.iterall() if each.keyword == "ReferencedSOPClassUID"}
    assert kinds == {OphthalmicPhotography8BitImageStorage, SegmentationStorage}
    (present,) = report.content.get_planar_roi_measurement_groups()
    segmentation = pydicom.dcmread(folder / "eye.seg.dcm")
    assert present.referenced_segmentation_frame.referenced_sop_instance_uid == segmentation.SOPInstanceUID
    (absent,) = report.content.get_image_measurement_groups()
    for group, meaning, value in ((present, "Present", 0.875), (absent, "Absent", 0.125)):
        assert group.get_qualitative_evaluations()[0].value.meaning == meaning
        (measured,) = group.get_measurements()
        assert measured.value == value and measured.unit.value == "1"
        (site,) = group.finding_sites
        assert site.value.meaning == "Retina" and site.laterality.meaning == "Right"
    said = [each.value.meaning for each in present.get_qualitative_evaluations()]
    assert said == ["Present", "macula", "temporal"] and len(absent.get_qualitative_evaluations()) == 1
    assert present.finding_type.meaning == "hemorrhage" and absent.finding_type.meaning == "retinal pigmentary change"


def test_the_overlay_is_drawn_on_the_photograph_at_its_own_size(written: tuple[Path, pydicom.Dataset]) -> None:
    folder, source = written
    capture = pydicom.dcmread(folder / "eye.hemorrhage.sc.dcm")
    expected = overlays.overlay(np.frombuffer(source.PixelData, np.uint8).reshape(HEIGHT, WIDTH, 3), spot())
    np.testing.assert_array_equal(capture.pixel_array, expected)
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert capture.Laterality == "R" and capture.ImageComments == "hemorrhage: present"


def test_predicting_again_gives_the_same_uids_and_another_network_others(
    written: tuple[Path, pydicom.Dataset], tmp_path: Path
) -> None:
    folder, _ = written
    uids = []
    for name, network in (("again", "ab" * 32), ("other", "cd" * 32)):
        (tmp_path / name).mkdir()
        DicomWriter(tmp_path / name, tmp_path, "1.2.3", (network,)).write(EYE, STATEMENTS)
        uids.append(pydicom.dcmread(tmp_path / name / "eye.sr.dcm").SOPInstanceUID)
    first = pydicom.dcmread(folder / "eye.sr.dcm").SOPInstanceUID
    assert uids[0] == first != uids[1]


def test_grades_without_a_map_are_a_report_alone(tmp_path: Path) -> None:
    import highdicom as hd

    photograph(tmp_path / "eye.dcm", ImageLaterality="")
    said = [Statement("grade", "suspicious", {"above normal": 0.75, "above suspicious": 0.25}, None)]
    (tmp_path / "out").mkdir()
    DicomWriter(tmp_path / "out", tmp_path, "1.2.3", ("ab" * 32,)).write(EYE, said)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["eye.sr.dcm"]
    (group,) = hd.sr.srread(tmp_path / "out" / "eye.sr.dcm").content.get_image_measurement_groups()
    assert group.get_qualitative_evaluations()[0].value.meaning == "suspicious"
    assert [each.value for each in group.get_measurements()] == [0.75, 0.25]


def test_a_photograph_without_a_study_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "eye.dcm", StudyInstanceUID="")
    with pytest.raises(UserError, match="has no StudyInstanceUID"):
        DicomWriter(tmp_path, tmp_path, "1", ("ab",)).write(EYE, STATEMENTS)


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dcmtk is not installed")
def test_dcmtk_reads_them_without_a_complaint(written: tuple[Path, pydicom.Dataset], tmp_path: Path) -> None:
    folder, _ = written

    def told(*command: str | Path) -> str:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        assert "W:" not in done.stderr and "E:" not in done.stderr, done.stderr
        return done.stdout

    for file in sorted(folder.iterdir()):
        assert "(0008,0018)" in told("dcmdump", file)
    report = told("dsrdump", folder / "eye.sr.dcm")
    assert "Comprehensive SR" in report and "hemorrhage" in report and "0.875" in report
    told("dcm2pnm", folder / "eye.hemorrhage.sc.dcm", tmp_path / "overlay.ppm")
    drawn = cv2.imread(str(tmp_path / "overlay.ppm"))[:, :, ::-1]
    np.testing.assert_array_equal(drawn, pydicom.dcmread(folder / "eye.hemorrhage.sc.dcm").pixel_array)
