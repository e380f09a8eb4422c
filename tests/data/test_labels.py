"""Labels and cues worked by hand: from consensus, from lesion masks, and unknown ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fundusnet.data.labels import FindingLabels, finding_labels
from fundusnet.data.manifest import LESION_COLUMNS, READING_COLUMNS, Manifest, images_table
from fundusnet.data.prepare import prepare
from fundusnet.data.prepared import PreparedSet
from fundusnet.data.regions import REGIONS, cue_mask
from fundusnet.errors import UserError

FINDINGS = ("hemorrhage", "drusen", "membrane")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """Whole pictures, so that the prepared frame is the original one: 0 and 1 read, 2 and 3 with masks, 4 bare."""
    root = tmp_path_factory.mktemp("labels")
    rows: list[dict[str, object]] = []
    for number in range(5):
        noise = np.random.default_rng(number).integers(100, 200, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(root / f"{number}.png")
        points = {"disc_x": 20.0, "disc_y": 32.0, "fovea_x": 44.0, "fovea_y": 32.0}
        row: dict[str, object] = {"image_id": str(number), "path": f"{number}.png"}
        rows.append(row if number == 3 else row | points)
    mask = np.zeros((64, 64), np.uint8)
    mask[30:34, 43:46] = 255
    Image.fromarray(mask).save(root / "macula.png")
    readings = [
        ("0", "a", "hemorrhage", "macula"),
        ("0", "b", "hemorrhage", "temporal;macula"),
        ("0", "c", "drusen", "macula"),
        ("1", "a", "hemorrhage", ""),
        ("1", "b", "hemorrhage", ""),
        ("1", "c", "", ""),
    ]
    lesions = [("2", "hemorrhage", "macula.png"), ("2", "membrane", ""), ("3", "hemorrhage", "macula.png")]
    manifest = Manifest(
        root,
        images_table(rows),
        pd.DataFrame(readings, columns=list(READING_COLUMNS)),
        pd.DataFrame(lesions, columns=list(LESION_COLUMNS)),
    )
    return prepare(manifest, root / "set", size=64)


def test_labels_by_hand(prepared: PreparedSet) -> None:
    nan = np.nan
    expected = [[1, nan, nan], [1, 0, nan], [1, nan, 0], [1, nan, nan], [nan, nan, nan]]
    labels = finding_labels(prepared, FINDINGS)
    assert labels.label.dtype == np.float32
    assert np.array_equal(labels.label, np.array(expected, np.float32), equal_nan=True)
    strict = finding_labels(prepared, FINDINGS, present=3)
    assert np.isnan(strict.label[:2, 0]).all(), "two of three are undecided for the strict"


def test_cues_are_known_only_where_regions_or_lesions_are(prepared: PreparedSet) -> None:
    labels = finding_labels(prepared, FINDINGS)
    expected = [
        [True, False, False],
        [False, True, False],  # present without regions; absent needs none
        [True, False, True],
        [False, False, False],  # a lesion touches no region where disc and fovea are unknown
        [False, False, False],
    ]
    assert labels.cue_known.tolist() == expected


def test_cue_is_the_union_over_readers_and_the_regions_a_lesion_touches(prepared: PreparedSet) -> None:
    labels = finding_labels(prepared, FINDINGS)
    points = ((20.0, 32.0), (44.0, 32.0))
    assert labels.cue(0).shape == (3, 64, 64)
    assert np.array_equal(labels.cue(0)[0], cue_mask((64, 64), *points, ["macula", "temporal"]))
    assert np.array_equal(labels.cue(2)[0], cue_mask((64, 64), *points, ["macula"]))
    assert not labels.cue(2)[2].any()


def test_pixels_are_the_lesion_itself(prepared: PreparedSet) -> None:
    labels = finding_labels(prepared, FINDINGS, cue="pixels")
    mask = np.zeros((64, 64), bool)
    mask[30:34, 43:46] = True
    for row in (2, 3):
        assert labels.cue_known[row, 0]
        assert np.array_equal(labels.cue(row)[0], mask)
    assert not labels.cue_known[0, 0], "regions are no pixels"


@pytest.mark.parametrize("count", [1, 8, 9, 17])
def test_packed_cues_are_the_cues(prepared: PreparedSet, count: int) -> None:
    """Nine findings and more stand in further planes; readings, touched regions and lesion pixels alike."""
    rng = np.random.default_rng(count)
    label = rng.integers(0, 2, (5, count)).astype(np.float32)
    names = np.array(list(REGIONS.values()))
    regions = [[frozenset(names[rng.random(8) < 0.3].tolist()) or None for _ in range(count)] for _ in range(5)]
    points = [((20.0, 32.0), (44.0, 32.0))] * 3 + [None] * 2
    known = rng.random((5, count)) < 0.8
    labels = FindingLabels(prepared, ("hemorrhage",) * count, label, known, regions, points)
    for row in range(5):
        packed = labels.packed_cue(row)
        assert packed.shape == (-(-count // 8), 64, 64) and packed.dtype == np.uint8
        for column in range(count):
            expected = np.zeros((64, 64), dtype=bool)
            lesion = prepared.lesion_mask(str(row), "hemorrhage")
            if known[row, column] and label[row, column] == 1:
                if marked := regions[row][column]:
                    if where := points[row]:
                        expected = cue_mask((64, 64), *where, marked)
                elif lesion is not None:
                    expected = lesion
            assert np.array_equal(labels.cue(row)[column], expected)
            assert np.array_equal(packed[column // 8] >> (7 - column % 8) & 1, expected)


def test_unknown_cue_and_finding_are_refused(prepared: PreparedSet) -> None:
    with pytest.raises(UserError, match="cue"):
        finding_labels(prepared, FINDINGS, cue="boxes")
    with pytest.raises(UserError, match="macular_hole"):
        finding_labels(prepared, ["macular_hole"])
