"""Cross-validation: the runs that each test one fold, joined to one run over all tested images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from fundusnet.evaluation.binary_tasks import task_metrics
from fundusnet.evaluation.runs import Run, metric_key
from fundusnet.system.progress import track

# Keys in which the folds of one cross-validation differ.
OWN_KEYS = ("run_dir", "resume", "logger", "name")


def join_folds(runs: Sequence[Run], *, n: int = 2000) -> list[Run]:
    """Replace the runs that test different folds of one cross-validation by one over all tested images.

    Its metrics and intervals are those of the pooled predictions, in which every image was predicted by a network that
    had not seen it. Probabilities are as the networks gave them: each fold has a temperature of its own.
    """
    studies: dict[str, dict[int, Run]] = {}
    for place, run in enumerate(runs):
        data = run.config.get("data") or {}
        key = _study(run) if data.get("folds") and "evaluated" not in run.config else f"run {place}"
        studies.setdefault(key, {}).setdefault(data.get("fold", 0), run)
    return [_joined(list(folds.values()), n) for folds in studies.values()]


def _study(run: Run) -> str:
    rest = {key: value for key, value in run.config.items() if key not in OWN_KEYS}
    return json.dumps({**rest, "data": {**rest["data"], "fold": None}}, sort_keys=True, default=str)


def _joined(folds: Sequence[Run], n: int) -> Run:
    first = folds[0]
    if len(folds) == 1:
        return first
    predictions = {target: pd.concat([run.predictions[target] for run in folds]) for target in first.targets}
    config = {**first.config, "data": {**first.config["data"], "fold": None}}
    total = config["data"]["folds"]
    split = "test" if len(folds) == total else f"test, {len(folds)} of {total} folds"
    rows = pd.concat(predictions.values()).reset_index(drop=True)
    results = first.system.results(rows, first.results, split, n)
    whole = replace(
        first,
        folder=first.folder.parent / "folds",  # has none of the files of a single fold
        label=f"{config.get('name') or first.folder.parent.name}, {len(folds)} folds",
        config=config,
        results={**first.results, "validation": {}, **results},
        predictions=predictions,
        history=pd.DataFrame(),
        parts=tuple(folds),
    )
    for target in predictions:
        for task in track(whole.binary_tasks(target).values(), "pool folds"):
            for name, entry in task_metrics(task, n=n).items():
                results["metrics"][metric_key(target, task.metric_name(name), list(predictions))] = entry
    return whole
