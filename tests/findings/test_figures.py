"""Panels show only what is known; loss curves draw whatever was logged."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
from PIL import Image

from fundusnet.evaluation.figures import encode, panel
from fundusnet.findings.figures import losses, panel_tiles


def test_a_panel_shows_only_what_is_known() -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    cue = np.zeros((64, 64), bool)
    cue[10:30, 10:30] = True
    maps = {"with": np.eye(8), "without": np.zeros((8, 8))}
    assert list(panel_tiles(image, maps)) == ["photograph", "with", "without"]
    tiles = panel_tiles(image, maps, cue=cue, lesion=cue, landmarks=((15, 32), (45, 32)))
    assert list(tiles) == ["photograph", "cue", "with", "without"]
    assert (tiles["photograph"] != image).any()
    assert (image == 90).all()  # drawn on a copy
    assert tiles["cue"][20, 20].mean() > tiles["cue"][50, 50].mean()
    assert Image.open(BytesIO(encode(panel(tiles, "eye"), "jpeg"))).format == "JPEG"


def test_a_history_of_one_epoch_or_none_still_draws() -> None:
    history = pd.DataFrame({"epoch": [0], "train/loss": [1.0], "val/loss": [1.2], "val/guidance": [-0.5]})
    assert [axes.get_title() for axes in losses(history).axes] == ["loss", "guidance"]
    assert encode(losses(pd.DataFrame({"epoch": []})))
