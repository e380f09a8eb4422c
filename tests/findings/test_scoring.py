"""Scoring a split: in which regions each map lies, and which regions are marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import FINDINGS, tiny_prepared
from tiny_networks import findings_checkpoint

from fundusnet.data.regions import REGIONS, region_map, regions_touched
from fundusnet.findings.by_region import LEVEL
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.module import GuidedModule
from fundusnet.findings.region_statistics import MARKED, MEANS, NAMED, SHARES
from fundusnet.findings.scoring import score
from fundusnet.findings.statistics import with_predicted
from fundusnet.runs.checkpoints import load_module


@pytest.mark.parametrize("cue", ["regions", "pixels"])
def test_shares_and_marks_are_those_of_the_prepared_frame(tmp_path: Path, cue: str) -> None:
    torch.set_num_threads(1)
    prepared = tiny_prepared(tmp_path)
    module = load_module(findings_checkpoint(tmp_path / "best.ckpt", FINDINGS), GuidedModule)
    images = prepared.manifest.images.set_index("image_id")
    data = FindingsDataModule(prepared.folder, FINDINGS, feature_size=8, cue=cue, fractions=(0.3, 0.2, 0.5))
    data.setup("test")
    unknown = data.rows["test"][0]
    data.labels.points[unknown] = None  # as if its disc or fovea were unknown
    scored = score(module, data, "test", torch.device("cpu"))
    assert len(scored.image_ids) >= 8
    rows = scored.predictions.set_index(["image_id", "finding"])
    for number, image_id in enumerate(scored.image_ids):
        row = images.loc[image_id]
        disc, fovea = (row["disc_x"], row["disc_y"]), (row["fovea_x"], row["fovea_y"])
        regions = region_map((64, 64), disc, fovea)
        for column, finding in enumerate(FINDINGS):
            cells = scored.maps[number, column].astype(float)
            level = np.median(cells) + LEVEL * (cells.max() - np.median(cells))
            above = np.kron(np.maximum(cells - level, 0), np.ones((8, 8)))
            expected = [above[regions == region].sum() / above.sum() for region in REGIONS]
            means = [np.kron(cells, np.ones((8, 8)))[regions == region].mean() for region in REGIONS]
            found = rows.loc[(image_id, finding)]
            if image_id == prepared.manifest.images["image_id"].iloc[unknown]:
                expected = means = [np.nan] * len(REGIONS)
            np.testing.assert_allclose(found[list(MEANS)].to_numpy(float), means, atol=0.01)
            np.testing.assert_allclose(found[list(SHARES)].to_numpy(float), expected, atol=0.03)
            lesion = prepared.lesion_mask(image_id, finding)
            touched = regions_touched(lesion, disc, fovea) if lesion is not None else frozenset()
            assert set(filter(None, found[MARKED].split(";"))) == touched


def test_regions_are_named_where_a_finding_is_predicted() -> None:
    table = pd.DataFrame({"finding": "drusen", "probability": [0.6, 0.4], NAMED: ["macula;temporal", "macula"]})
    assert with_predicted(table, {"drusen": 0.5})[NAMED].tolist() == ["macula;temporal", ""]
