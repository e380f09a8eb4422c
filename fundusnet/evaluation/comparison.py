"""Finished runs as their folders tell of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fundusnet.errors import UserError
from fundusnet.findings.statistics import read_predictions


@dataclass(frozen=True)
class Run:
    """What a finished run folder says of itself."""

    folder: Path
    label: str
    config: dict[str, Any]
    results: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame

    @property
    def findings(self) -> list[str]:
        """The findings it was scored on, in its own order."""
        return list(dict.fromkeys(self.predictions["finding"]))

    def metric(self, finding: str, name: str) -> dict[str, Any] | None:
        """Return an entry of ``metrics.json``, or None where this run has no such metric."""
        metrics = self.results["metrics"]
        key = f"{finding}/{name}" if len(self.findings) > 1 else name
        entry: dict[str, Any] | None = metrics.get(key) if finding in self.findings else None
        return entry

    def rows(self, finding: str) -> pd.DataFrame:
        """Return the predictions of one finding, indexed by image."""
        rows = self.predictions[self.predictions["finding"] == finding]
        return rows.set_index("image_id", drop=False).rename_axis(None)  # sorting refuses one name for both


def read_runs(folders: Sequence[Path], read: Callable[[Path], pd.DataFrame] = read_predictions) -> list[Run]:
    """Read finished run folders; equal labels get their folder's name beside them.

    ``read`` reads ``predictions.csv``; its column ``finding`` says what each row is about.

    ``UserError`` names the file that is missing or damaged.
    """
    if not folders:
        raise UserError("no run to report: give runs=FOLDER, or a list of them")
    runs = [_read_run(folder, read) for folder in folders]
    for name in (lambda run: run.folder.name, lambda run: str(run.folder)):
        labels = [run.label for run in runs]
        twins = {label for label in labels if labels.count(label) > 1}
        own = [run.config.get("name") or run.folder.resolve().name for run in runs]
        runs = [
            replace(run, label=f"{first} ({name(run)})") if run.label in twins else run
            for run, first in zip(runs, own, strict=True)
        ]
    return runs


def same_images(runs: Sequence[Run]) -> bool:
    """Whether all runs were scored on exactly the same images."""
    sets = [frozenset(run.predictions["image_id"]) for run in runs]
    return len(set(sets)) == 1


def maps_of(run: Run, finding: str) -> dict[str, np.ndarray]:
    """Return the run's activation maps ``(h, w)`` of one finding by image id; none where it kept none."""
    path = run.folder / "maps.npz"
    if not path.is_file() or finding not in run.findings:
        return {}
    column = run.findings.index(finding)
    with np.load(path, allow_pickle=False) as stored:
        maps = stored["map"][:, column].astype(np.float32)
        return {str(image_id): activation for image_id, activation in zip(stored["image_id"], maps, strict=True)}


def _read_run(folder: Path, read: Callable[[Path], pd.DataFrame]) -> Run:
    config_file, results_file, history_file = (folder / name for name in ("config.yaml", "metrics.json", "history.csv"))
    for file in (config_file, results_file):
        if not file.is_file():
            raise UserError(f"{file} is missing: give a finished run folder (train or evaluate first)")
    try:
        config = yaml.safe_load(config_file.read_text(encoding="utf-8")) or {}
        results = json.loads(results_file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise UserError(f"{folder} is damaged ({str(error).splitlines()[0]}): evaluate the run again") from error
    if "metrics" not in results:
        raise UserError(f"{results_file} has no metrics: evaluate the run again")
    return Run(
        folder=folder,
        label=str(config.get("name") or folder.resolve().name),
        config=config,
        results=results,
        predictions=read(folder / "predictions.csv"),
        # An evaluation of another set trains nothing and has no history.
        history=pd.read_csv(history_file) if history_file.is_file() else pd.DataFrame(),
    )
