"""What the scoring of a split leaves in a folder: ``metrics.json``, ``curves.json`` and what belongs to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fundusnet.evaluation.binary_tasks import CURVES, task_curves, task_metrics
from fundusnet.evaluation.faithfulness import Faithfulness
from fundusnet.evaluation.faithfulness_report import write_faithfulness
from fundusnet.evaluation.runs import System, metric_key
from fundusnet.evaluation.subgroups import subgroup_rows
from fundusnet.system.files import write_json, write_text
from fundusnet.system.progress import track


def write_results(
    folder: Path,
    system: System,
    tables: Mapping[str, pd.DataFrame],
    results: dict[str, Any],
    *,
    attributes: pd.DataFrame,
    faithfulness: Mapping[str, tuple[pd.DataFrame, Faithfulness]] | None = None,
    chosen: Mapping[str, Any] | None = None,
    n: int = 2000,
) -> dict[str, Any]:
    """Complete the results of a split and write ``curves.json`` and, last, ``metrics.json`` to ``folder``.

    Args:
        folder: Where the predictions are.
        system: The system that made them.
        tables: The predictions of each target.
        results: The content of ``metrics.json`` so far; completed in place and returned.
        attributes: Columns that define subgroups, indexed by image.
        faithfulness: For each target the tested images and the outcome; None where it was not asked for.
        chosen: What ``fit_on_validation`` returned.
        n: Number of resamples.
    """
    curves = {}
    tasks = [task for rows in tables.values() for task in system.binary_tasks(rows, chosen or {})]
    for task in track(tasks, "calibration", total=len(tasks)):
        for name, entry in task_metrics(task, n=n).items():
            results["metrics"][metric_key(task.target, task.metric_name(name), list(tables))] = entry
        curves[task.name] = task_curves(task, n=n)
    write_text(folder / CURVES, json.dumps(curves, separators=(",", ":")) + "\n")
    if len(attributes.columns):
        results["subgroups"] = {
            target: subgroup_rows(rows, attributes, lambda some: system.subgroup_statistics(some, results), n=n)
            for target, rows in tables.items()
        }
    if faithfulness is not None:
        results["faithfulness"] = write_faithfulness(folder, faithfulness, n=n) if faithfulness else {}
    results["validation"] = dict(chosen or {})
    write_json(folder / "metrics.json", results)
    return results
