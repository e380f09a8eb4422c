"""The same numbers apart for the left and the right eye, for each site, sex or camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.evaluation import intervals, tables
from fundusnet.evaluation.comparison import Run
from fundusnet.evaluation.intervals import RELIABLE_PATIENTS, Statistic
from fundusnet.findings.statistics import finding_statistics, patient_clusters
from fundusnet.grading.statistics import run_statistics
from fundusnet.system.progress import track

MOST_VALUES = 12
OF_FINDINGS = ("auroc", "sensitivity", "specificity")
UNKNOWN = "unknown"
TITLES = {"auroc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity", "accuracy": "Accuracy"}


def attributes_of(images: pd.DataFrame, columns: Sequence[str], file: str | Path | None = None) -> pd.DataFrame:
    """The columns asked for as text, indexed by image; ``unknown`` where a cell is empty.

    Args:
        images: of a manifest.
        columns: of ``images`` or of ``file``.
        file: CSV with ``image_id`` or ``patient_id`` and columns of one's own; None = none.

    Raises:
        UserError: a column is in neither, has more than ``MOST_VALUES`` values, or the file cannot be joined.
    """
    known = images.assign(**{str(name): images[name].map(_text) for name in images})
    if file is not None:
        known = _joined(known, Path(file))
    for name in columns:
        if name not in known:
            close = get_close_matches(name, [str(column) for column in known], n=1, cutoff=0.5)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise UserError(
                f"evaluation.subgroups: no column {name} among {', '.join(map(str, known))}{meant} "
                "(evaluation.attributes=FILE brings columns of your own)"
            )
        values = known[name].unique()
        if len(values) > MOST_VALUES:
            raise UserError(
                f"evaluation.subgroups: {name} has {len(values)} values, too many for groups (at most {MOST_VALUES}); "
                "put classes such as 'below 60' into a column of evaluation.attributes=FILE"
            )
    table = known.set_index("image_id", drop=False)[list(columns)]
    return table.where(table != "", UNKNOWN)


def attributes_asked(options: Mapping[str, Any], prepared: PreparedSet) -> pd.DataFrame:
    """The columns that ``conf/evaluation`` names, of the images of a prepared set; without any where it names none."""
    return attributes_of(prepared.manifest.images, options.get("subgroups") or [], options.get("attributes"))


def finding_subgroups(predictions: pd.DataFrame, attributes: pd.DataFrame, *, n: int = 2000) -> dict[str, Any]:
    """AUROC, sensitivity and specificity of each finding in each group: finding → rows of ``subgroup_rows``."""
    found = {}
    for finding, rows in predictions.groupby("finding", sort=False):

        def statistics_of(some: pd.DataFrame) -> dict[str, Statistic]:
            every = finding_statistics(some)
            return {name: every[name] for name in OF_FINDINGS}

        found[str(finding)] = subgroup_rows(rows, attributes, statistics_of, n=n)
    return found


def grading_subgroups(
    predictions: pd.DataFrame, attributes: pd.DataFrame, classes: Sequence[str], *, n: int = 2000
) -> dict[str, Any]:
    """Accuracy and the recall of each grade in each group: ``grade`` → rows of ``subgroup_rows``."""

    def statistics_of(some: pd.DataFrame) -> dict[str, Statistic]:
        every = run_statistics(some, classes)
        return {name: every[name] for name in ("accuracy", *(f"recall_{name}" for name in classes))}

    return {"grade": subgroup_rows(predictions, attributes, statistics_of, n=n)}


def subgroup_rows(rows: pd.DataFrame, attributes: pd.DataFrame, statistics_of: Any, *, n: int) -> list[dict[str, Any]]:
    """An entry a group: ``column``, ``value``, ``n_images``, ``n_patients`` and ``metrics`` as in ``metrics.json``.

    ``small`` marks a group of fewer than ten patients, whose numbers say little. Each group is resampled for itself.
    """
    groups = [(column, value) for column in attributes for value in sorted(attributes[column].unique())]
    found = []
    for column, value in track(groups, "subgroups", total=len(groups)):
        members = attributes.index[attributes[column] == value]
        some = rows[rows["image_id"].isin(members)]
        if some.empty:
            continue
        who = patient_clusters(some)
        patients = len(np.unique(who))
        entry = {
            "column": str(column),
            "value": str(value),
            "n_images": len(some),
            "n_patients": patients,
            "metrics": {
                name: intervals.bootstrap(one, who, n=n).as_metric() for name, one in statistics_of(some).items()
            },
        }
        found.append(entry | {"small": True} if patients < RELIABLE_PATIENTS else entry)
    return found


def subgroup_tables(runs: Mapping[str, Run], key: str) -> list[dict[str, Any]]:
    """What the template shows: a table for each labelled run that has subgroups; ``key`` is the finding, or grade."""
    shown = []
    for label, run in runs.items():
        groups = (run.results.get("subgroups") or {}).get(key)
        if not groups:
            continue
        names = list(groups[0]["metrics"])
        shown.append(
            {
                "label": label,
                "titles": [TITLES.get(name) or f"Recall of {name.removeprefix('recall_')}" for name in names],
                "rows": [
                    {
                        "name": f"{group['column']}: {group['value'].replace('_', ' ')}",
                        "images": group["n_images"],
                        "patients": group["n_patients"],
                        "small": group.get("small", False),
                        "cells": [tables.cell(group["metrics"][name]) for name in names],
                    }
                    for group in groups
                ],
            }
        )
    return shown


def _joined(images: pd.DataFrame, file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise UserError(f"evaluation.attributes={file} does not exist; give a CSV file with image_id or patient_id")
    own = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    key = next((name for name in ("image_id", "patient_id") if name in own), None)
    if key is None:
        raise UserError(f"{file} has neither image_id nor patient_id; one of them says whose each row is")
    if twice := own[key][own[key].duplicated()].tolist():
        raise UserError(f"{file}: {key} {twice[0]} stands twice; give one row for each")
    if not set(own[key]) & set(images[key]):
        raise UserError(f"{file}: none of its {key} is in the set; it begins with {own[key].iloc[0]}")
    new = own[[key, *(name for name in own if name not in images)]]
    return images.merge(new, on=key, how="left").fillna("")


def _text(value: Any) -> str:
    """A cell as text: 2.0 is 2, an unknown number nothing."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)
