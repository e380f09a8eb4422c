"""Photographs that an earlier run learnt from and a later one, which starts from it, is tested on."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from fundusnet.config.conf import select
from fundusnet.data.datamodule import FundusDataModule
from fundusnet.runs.folder import read_config

log = logging.getLogger(__name__)
SPLITS = "splits.csv"  # which photograph was in which split of a fit


def warn_of_leak(place: Path, data: FundusDataModule) -> None:
    """Warn if a run that gives its weights was trained, or its epoch chosen, on test photographs of this one.

    Runs of other prepared sets are not compared: 001.jpg is in many.

    Args:
        place: The folder of the earlier run, or its checkpoint; nothing is said where its splits are unknown.
        data: Of the later run, after ``setup``.
    """
    run = place if place.is_dir() else place.parent.parent
    if not (run / "config.yaml").is_file():
        return
    folder = select(read_config(run), "data.folder")
    if not folder or Path(folder).resolve() != Path(data.folder).resolve():
        return
    tables = [pd.read_csv(file, dtype=str) for file in run.rglob(SPLITS)]
    seen = {name for table in tables for name in table["image_id"][table["split"] != "test"]}
    tested = set(data.prepared.manifest.images["image_id"].iloc[data.rows["test"]])
    if shared := len(seen & tested):
        log.warning(
            "%d of %d test photographs were among those that trained %s, or chose its epoch: the test will be too "
            "good; start from a run with the same split",
            *(shared, len(tested), place),
        )
