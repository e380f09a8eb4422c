"""Labels of each photograph, and the cues of the findings that are present (S1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundusnet.data.consensus import consensus
from fundusnet.data.prepared import PreparedSet
from fundusnet.data.regions import REGIONS, Point, paint, region_id, regions_touched
from fundusnet.errors import UserError


@dataclass(frozen=True)
class FindingLabels:
    """Labels of N photographs and F findings.

    Attributes:
        label: ``(N, F)`` float32; 1 present, 0 absent, NaN undecided.
        cue_known: ``(N, F)`` bool; the finding is absent, or present with a cue: the guidance loss applies.
        regions: For each photograph and finding the names of the marked regions, or None if only pixels or nothing are
            known.
        points: For each photograph optic disc and fovea (x, y) in the prepared frame, or None if either is unknown.
    """

    prepared: PreparedSet
    findings: tuple[str, ...]
    label: NDArray[np.float32]
    cue_known: NDArray[np.bool_]
    regions: list[list[frozenset[str] | None]]
    points: list[tuple[Point, Point] | None]

    def cue(self, row: int) -> NDArray[np.bool_]:
        """``(F, S, S)``: the cue masks of one photograph in the prepared frame; empty if absent or unknown."""
        return np.unpackbits(self.packed_cue(row), axis=0, count=len(self.findings)).view(np.bool_)

    def packed_cue(self, row: int) -> NDArray[np.uint8]:
        """``(ceil(F / 8), S, S)``: ``np.packbits`` of ``cue`` over the findings: a warp moves eight cues at once."""
        size = self.prepared.size
        packed = np.zeros((-(-len(self.findings) // 8), size, size), dtype=np.uint8)
        wanted = np.zeros((max(REGIONS) + 1, len(self.findings)), dtype=bool)
        for column in np.flatnonzero(self.cue_known[row] & (self.label[row] == 1)):
            if marked := self.regions[row][column]:
                wanted[[region_id(name) for name in marked], column] = True
            elif (lesion := self.prepared.lesion_mask(self._image_id(row), self.findings[column])) is not None:
                packed[column // 8] |= lesion.view(np.uint8) << np.uint8(7 - column % 8)
        points = self.points[row]
        for plane, values in zip(packed, np.packbits(wanted, axis=1).T, strict=True):
            if points is not None and values.any():
                plane |= paint((size, size), *points, values)
        return packed

    def _image_id(self, row: int) -> str:
        return str(self.prepared.manifest.images["image_id"].iloc[row])


def finding_labels(
    prepared: PreparedSet,
    findings: Sequence[str],
    present: int = 2,
    cue: str = "regions",
    all_known: bool = True,
) -> FindingLabels:
    """Labels and cues of every photograph of a prepared set.

    Readings decide by consensus. If a finding was not read, its lesion mask decides: with any pixel it is present,
    without one, or with an examined-and-absent row, it is absent. Without a row it is undecided.

    Args:
        present: Number of annotators who must mark a finding before it is present.
        cue: "regions" (those annotated, or those the lesion touches; needs disc and fovea) or "pixels" (the lesion).
        all_known: Refuse a finding that the set has no label of; else it is undecided in every photograph.

    Raises:
        UserError: ``cue`` is neither, or the set has no label of a finding.
    """
    if cue not in ("regions", "pixels"):
        raise UserError(f"data.cue={cue} is unknown; use regions or pixels")
    readings, lesions = prepared.manifest.readings, prepared.manifest.lesions
    table = consensus(readings, present=present, findings=_marked_findings(readings, findings))
    read = {
        (image_id, finding): (label, regions)
        for image_id, finding, label, regions in table[["image_id", "finding", "label", "regions"]].itertuples(
            index=False, name=None
        )
    }
    examined = set(lesions[["image_id", "finding"]].itertuples(index=False, name=None))
    shape = (len(prepared), len(findings))
    label = np.full(shape, np.nan, dtype=np.float32)
    known = np.zeros(shape, dtype=bool)
    regions: list[list[frozenset[str] | None]] = [[None] * shape[1] for _ in range(shape[0])]
    points = _landmarks(prepared)
    for row, image_id in enumerate(prepared.manifest.images["image_id"]):
        landmarks = points[row]
        for column, finding in enumerate(findings):
            key = (image_id, finding)
            lesion = None
            if key in examined and (cue == "pixels" or key not in read):
                lesion = prepared.lesion_mask(image_id, finding)
            marked: frozenset[str] = frozenset()
            if key in read:
                verdict, marked = read[key]
                label[row, column] = {"present": 1.0, "absent": 0.0, "undecided": np.nan}[verdict]
            elif lesion is not None:
                label[row, column] = float(lesion.any())
            if label[row, column] == 0:
                known[row, column] = True
            elif label[row, column] == 1 and cue == "pixels":
                known[row, column] = lesion is not None and bool(lesion.any())
            elif label[row, column] == 1 and landmarks is not None:
                if not marked and lesion is not None:
                    marked = regions_touched(lesion, *landmarks)
                regions[row][column] = marked or None
                known[row, column] = bool(marked)
    if all_known:
        _check_known(label, findings, prepared)
    return FindingLabels(prepared, tuple(findings), label, known, regions, points)


def _marked_findings(readings: object, findings: Sequence[str]) -> list[str]:
    """The findings that some annotator marked; the others may not have been looked for."""
    marked = set(readings["finding"])  # type: ignore[index]
    return [finding for finding in findings if finding in marked]


def _check_known(label: NDArray[np.float32], findings: Sequence[str], prepared: PreparedSet) -> None:
    missing = [f"'{finding}'" for column, finding in enumerate(findings) if np.isnan(label[:, column]).all()]
    if missing:
        manifest = prepared.manifest
        have = sorted(({*manifest.readings["finding"], *manifest.lesions["finding"]}) - {""})
        known = (
            f"it has labels of {', '.join(have)}"
            if have
            else "it has labels of no finding; to learn grades use experiment=grading"
        )
        raise UserError(f"no photograph of {prepared.folder} has a label of {', '.join(missing)}; {known}")


def _landmarks(prepared: PreparedSet) -> list[tuple[Point, Point] | None]:
    """Disc and fovea of every photograph, None if either is unknown."""
    table = prepared.manifest.images[["disc_x", "disc_y", "fovea_x", "fovea_y"]].to_numpy(dtype=float)
    return [((a, b), (c, d)) if np.isfinite([a, b, c, d]).all() else None for a, b, c, d in table.tolist()]
