"""The same metrics for each subgroup: left and right eyes, sites, sexes, cameras."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fundusnet.data.delimiters import read_cells
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.evaluation import intervals, tables
from fundusnet.evaluation.intervals import RELIABLE_PATIENTS, Statistic
from fundusnet.evaluation.predictions import patient_clusters
from fundusnet.evaluation.runs import Run
from fundusnet.system.progress import track

MOST_VALUES = 12
UNKNOWN = "unknown"
OWN = "\0own"  # marks a column of the user's that the set has, too


def attributes_of(images: pd.DataFrame, columns: Sequence[str], file: str | Path | None = None) -> pd.DataFrame:
    """Return columns as text, indexed by image; ``unknown`` where a cell is empty.

    Args:
        images: The images of a manifest.
        columns: Names of columns of ``images`` or of ``file``.
        file: CSV with ``image_id`` or ``patient_id`` and further columns; None = none.

    Raises:
        UserError: A column is in neither, has other values in both, or has more than ``MOST_VALUES`` values; or the
            file cannot be joined.
    """
    known = images.assign(**{str(name): images[name].map(_text) for name in images})
    if file is not None:
        known = _join(known, Path(file), columns)
    for name in columns:
        if name not in known:
            close = get_close_matches(name, [str(column) for column in known], n=1, cutoff=0.5)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise UserError(
                f"evaluation.subgroups: no column {name} among {', '.join(map(str, known))}{meant} "
                "(evaluation.attributes=FILE adds your own columns)"
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
    """Return the columns named in ``conf/evaluation`` for the images of a prepared set; none where it names none."""
    return attributes_of(prepared.manifest.images, options.get("subgroups") or [], options.get("attributes"))


def subgroup_rows(
    rows: pd.DataFrame,
    attributes: pd.DataFrame,
    statistics_of: Callable[[pd.DataFrame], Mapping[str, Statistic]],
    *,
    n: int = 2000,
) -> list[dict[str, Any]]:
    """Return the metrics of each subgroup, each resampled by itself.

    Args:
        rows: The predictions of one target.
        attributes: The columns that define subgroups, indexed by image.
        statistics_of: Maps rows to their metrics by name.
        n: Number of resamples.

    Returns:
        For each subgroup ``column``, ``value``, ``n_images``, ``n_patients`` and ``metrics`` as in ``metrics.json``;
        ``small`` marks fewer than ten patients, too few for reliable metrics.
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


def subgroup_tables(runs: Mapping[str, Run], target: str) -> list[dict[str, Any]]:
    """Return what the template shows of a target: a table for each labelled run that has subgroups."""
    shown = []
    for label, run in runs.items():
        groups = (run.results.get("subgroups") or {}).get(target)
        if not groups:
            continue
        names = list(groups[0]["metrics"])
        shown.append(
            {
                "label": label,
                "titles": [run.system.title(name) for name in names],
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


def _join(images: pd.DataFrame, file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The images with the columns of a file; those of ``columns`` that both have must agree where neither is empty."""
    if not file.is_file():
        raise UserError(f"evaluation.attributes={file} does not exist; give a CSV file with image_id or patient_id")
    header, *rows = [cells for _, cells in read_cells(file, any_encoding=True) if any(cells)] or [[]]
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise UserError(f"{file}: column '{twice[0]}' occurs twice; rename one of them")
    filled = [dict(zip_longest(header, cells[: len(header)], fillvalue="")) for cells in rows]
    own = pd.DataFrame(filled, columns=list(filter(None, header)))
    key = next((name for name in ("image_id", "patient_id") if name in own), None)
    if key is None:
        raise UserError(f"{file} has neither image_id nor patient_id; add one of them to identify each row")
    if twice := own[key][own[key].duplicated()].tolist():
        raise UserError(f"{file}: {key} {twice[0]} occurs twice; give one row for each")
    if not set(own[key]) & set(images[key]):
        raise UserError(f"{file}: none of its {key} is in the set; its first is {own[key].iloc[0]}")
    joined = images.merge(own, on=key, how="left", suffixes=("", OWN)).fillna("")
    for name in [name for name in columns if f"{name}{OWN}" in joined]:
        before, now = joined[name], joined[f"{name}{OWN}"]
        if (unlike := (before != now) & (before != "") & (now != "")).any():
            row = joined[unlike].iloc[0]
            raise UserError(
                f"{file}: {name} of {row['image_id']} is '{row[f'{name}{OWN}']}', and '{row[name]}' in the set; "
                "rename the column, or correct one of them"
            )
        joined[name] = before.where(before != "", now)
    return joined[[name for name in joined if not str(name).endswith(OWN)]]


def _text(value: Any) -> str:
    """A cell as text: 2.0 is 2, an unknown number nothing."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)
