"""What a report says about its runs: data, seed, size, epochs, thresholds, date, command, versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.runs import Run

Counter = Callable[[Run], Callable[[Sequence[str]], Mapping[str, int]]]
UNKNOWN = "–"


def about_rows(groups: Sequence[Group], counts_of: Counter) -> list[dict[str, Any]]:
    """Return what is known of each method's runs: for each fact its title and a cell for each group.

    Args:
        groups: The methods.
        counts_of: Maps a run to a function from ids of images of its data to how many of them are in each class, none
            where the prepared set is gone.
    """
    first = [group.runs[0] for group in groups]
    described = [dict(_facts(run, group, counts_of)) for run, group in zip(first, groups, strict=True)]
    titles = list(dict.fromkeys(title for one in described for title in one))
    rows = [{"title": title, "cells": [one.get(title, UNKNOWN) for one in described]} for title in titles]
    return [row for row in rows if any(cell != UNKNOWN for cell in row["cells"])]


def split_counts(run: Run, counts_of: Counter) -> dict[str, dict[str, int]]:
    """Return for train, val and test the number of images, and of each class where it is known."""
    of_class = counts_of(run)
    return {split: {"images": len(ids), **of_class(ids)} for split, ids in _split_ids(run).items()}


def started(run: Run) -> str:
    """Return when a run was started, as far as it or its files say."""
    status = read_status(run)
    if when := status.get("started"):
        return str(when)
    file = run.folder / "metrics.json"
    return f"{datetime.fromtimestamp(file.stat().st_mtime):%Y-%m-%d %H:%M}" if file.is_file() else UNKNOWN


def epochs(run: Run) -> str:
    """Return how many epochs were trained and which was kept, for each stage."""
    found = []
    for file in sorted(run.folder.rglob("fit.json")):
        fit = json.loads(file.read_text(encoding="utf-8"))
        stage = file.parent.name if file.parent != run.folder else ""
        kept = fit.get("best_epoch")
        best = f" (weights of number {kept + 1})" if isinstance(kept, int) else ""
        found.append(f"{stage + ': ' if stage else ''}{fit['epochs']}{best}")
    return ", ".join(found) or UNKNOWN


def read_status(run: Run) -> dict[str, Any]:
    """Return ``status.json``; empty where there is none."""
    file = run.folder / "status.json"
    if not file.is_file():
        return {}
    status: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return status


def _facts(run: Run, group: Group, counts_of: Counter) -> Iterator[tuple[str, str]]:
    data, trainer = run.config.get("data") or {}, run.config.get("trainer") or {}
    part = run.parts[0] if run.parts else run  # of a cross-validation: its first fold
    if run.parts:
        yield "Folds", f"{len(run.parts)}, joined; what follows is of the first"
    yield "Data", str(data.get("source") or UNKNOWN)
    for split, counts in split_counts(part, counts_of).items():
        classes = ", ".join(f"{count} {name}" for name, count in counts.items() if name != "images")
        yield f"{split.capitalize()} images", f"{counts['images']}{': ' + classes if classes else ''}"
    yield "Size", f"{data['size']} × {data['size']} pixels" if data.get("size") else UNKNOWN
    seeds = sorted({str(each.config.get("seed")) for each in group.runs})
    yield "Seed" if len(seeds) == 1 else "Seeds", ", ".join(seeds)
    yield "Epochs", epochs(part)
    yield "At most", f"{trainer['max_epochs']} epochs" if trainer.get("max_epochs") else UNKNOWN
    points = run.results.get("operating_points") or {}
    for name, point in points.items():
        yield f"Threshold{', ' + name.replace('_', ' ') if len(points) > 1 else ''}", f"{point:.4f}"
    yield "Started", started(part)
    status = read_status(part)
    versions = ", ".join(f"{name} {version}" for name, version in (status.get("versions") or {}).items())
    yield "Versions", versions or UNKNOWN
    yield "Commit", str(status["git"])[:12] if status.get("git") else UNKNOWN
    yield "Command", str(status.get("command") or UNKNOWN)
    folder = part.folder.parent if run.parts else run.folder
    yield "Folder", str(folder) + (f" and {len(group.runs) - 1} more" if len(group.runs) > 1 else "")


def _split_ids(run: Run) -> dict[str, list[str]]:
    """The images of each split: from ``splits.csv``, which holds train and val; test is what was scored."""
    found: dict[str, list[str]] = {}
    file = next(iter(sorted(run.folder.rglob("splits.csv"), key=lambda path: len(path.parts))), None)
    if file is not None and "evaluated" not in run.config:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        found = {name: table.loc[table["split"] == name, "image_id"].tolist() for name in ("train", "val")}
    scored = str(run.results.get("split", "test"))
    found[scored if scored in ("val", "test", "train", "all") else "test"] = sorted(run.image_ids)
    return {name: ids for name, ids in found.items() if ids}
