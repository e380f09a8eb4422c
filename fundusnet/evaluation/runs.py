"""Finished runs, read from their folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fundusnet.errors import UserError
from fundusnet.evaluation.binary_tasks import BinaryTask
from fundusnet.evaluation.intervals import Statistic


@dataclass(frozen=True)
class System:
    """What the evaluation needs to know of one of the two systems.

    A *target* is what a system predicts of an image and scores by itself: each finding, or the grade.

    Attributes:
        read: Reads ``predictions.csv``: a table for each target, one row per image.
        statistics: Maps the rows of a target and the run's ``metrics.json`` to its metrics by name.
        subgroup_statistics: Likewise, those of them that subgroups have.
        binary_tasks: Maps the rows of a target and the choices made on validation to its yes-or-no tasks.
        question: Maps the name of such a task and the names of the classes to what charts call it.
        results: Maps all predictions, the run's ``metrics.json``, the split and the number of resamples to the content
            of another ``metrics.json``, without the metrics of the yes-or-no tasks.
        title: Maps a metric's name to its title in tables.
        truth: Column of the true class, 0 …, NaN where undecided; ``predicted`` is the predicted one.
        class_names: Maps the run's ``metrics.json`` to the names of the classes.
        method: Maps the name of a run and its targets to what the method is called beside others.
        is_baseline: Whether differences are against the method of this name where nobody says otherwise.
        own_keys: Config keys (dotted) of a single run, which do not make it another method.
        target_keys: Config keys that follow from the target; between targets they do not make another method either.
    """

    read: Callable[[Path], dict[str, pd.DataFrame]]
    statistics: Callable[[pd.DataFrame, Mapping[str, Any]], dict[str, Statistic]]
    subgroup_statistics: Callable[[pd.DataFrame, Mapping[str, Any]], dict[str, Statistic]]
    binary_tasks: Callable[[pd.DataFrame, Mapping[str, Any]], list[BinaryTask]]
    results: Callable[[pd.DataFrame, Mapping[str, Any], str, int], dict[str, Any]]
    title: Callable[[str], str]
    truth: str
    class_names: Callable[[Mapping[str, Any]], list[str]]
    question: Callable[[str, Sequence[str]], str] = lambda task, classes: task.replace("_", " ")
    method: Callable[[str, Sequence[str]], str] = lambda name, targets: name
    is_baseline: Callable[[str], bool] = lambda name: False
    own_keys: tuple[str, ...] = ()
    target_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """The contents of a finished run folder.

    Attributes:
        folder: The folder.
        label: The run's name in tables.
        config: ``config.yaml``.
        results: ``metrics.json``.
        predictions: The rows of each target, indexed by image.
        history: ``history.csv``; empty where nothing was trained.
        system: How its predictions are scored.
        parts: The runs of a cross-validation that this one joins; empty for a run of its own.
    """

    folder: Path
    label: str
    config: dict[str, Any]
    results: dict[str, Any]
    predictions: dict[str, pd.DataFrame]
    history: pd.DataFrame
    system: System
    parts: tuple[Run, ...] = ()

    @property
    def targets(self) -> list[str]:
        """The targets it was scored on, in its own order."""
        return list(self.predictions)

    @property
    def image_ids(self) -> frozenset[str]:
        """The images it was scored on."""
        return frozenset(image_id for rows in self.predictions.values() for image_id in rows.index)

    def metric(self, target: str, name: str) -> dict[str, Any] | None:
        """Return an entry of ``metrics.json``, or None where this run has no such metric."""
        if target not in self.predictions:
            return None
        entry: dict[str, Any] | None = self.results["metrics"].get(metric_key(target, name, self.targets))
        return entry

    def statistics(self, rows: pd.DataFrame) -> dict[str, Statistic]:
        """Return every metric by name, from rows of one target."""
        return self.system.statistics(rows, self.results)

    def binary_tasks(self, target: str) -> dict[str, BinaryTask]:
        """Return the yes-or-no tasks of a target by name."""
        tasks = self.system.binary_tasks(self.predictions[target], self.results.get("validation") or {})
        return {task.name: task for task in tasks}

    def question(self, task: str) -> str:
        """What charts call a yes-or-no task."""
        return self.system.question(task, self.system.class_names(self.results))

    def stored_maps(self, file: str, array: str) -> dict[str, np.ndarray]:
        """Return an array of an ``.npz`` file by image id, as float32; empty where the run kept none."""
        if self.parts:
            return {image_id: one for part in self.parts for image_id, one in part.stored_maps(file, array).items()}
        if not (self.folder / file).is_file():
            return {}
        with np.load(self.folder / file, allow_pickle=False) as stored:
            return dict(zip(stored["image_id"].tolist(), stored[array].astype(np.float32), strict=True))


def metric_key(target: str, name: str, targets: Sequence[str]) -> str:
    """Return the key of a metric in ``metrics.json``: with several targets its target stands before it."""
    return f"{target}/{name}" if len(targets) > 1 else name


def read_runs(folders: Sequence[Path], system: System) -> list[Run]:
    """Read finished run folders of one system; runs of equal label get their folder's name added.

    Raises:
        UserError: Names the file that is missing or damaged.
    """
    if not folders:
        raise UserError("no run to report: give runs=FOLDER, or a list of them")
    runs = [_read_run(folder, system) for folder in folders]
    for name in (lambda run: run.folder.name, lambda run: str(run.folder)):
        labels = [run.label for run in runs]
        twins = {label for label in labels if labels.count(label) > 1}
        own = [run.config.get("name") or run.folder.resolve().name for run in runs]
        runs = [
            replace(run, label=f"{first} ({name(run)})") if run.label in twins else run
            for run, first in zip(runs, own, strict=True)
        ]
    return runs


def _read_run(folder: Path, system: System) -> Run:
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
        predictions={
            # Sorting refuses one name for the index and a column.
            target: rows.set_index("image_id", drop=False).rename_axis(None)
            for target, rows in system.read(folder / "predictions.csv").items()
        },
        # An evaluation of another set trains nothing and has no history.
        history=pd.read_csv(history_file) if history_file.is_file() else pd.DataFrame(),
        system=system,
    )
