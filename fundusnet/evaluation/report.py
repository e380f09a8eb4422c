"""One HTML page for a run, or for several side by side; it needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from fundusnet.data.labels import finding_labels
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.errors import UserError
from fundusnet.evaluation import figures
from fundusnet.evaluation.comparison import Run, differences, maps_of, read_runs, same_images
from fundusnet.evaluation.findings import METRIC_NAMES, column, count_images
from fundusnet.evaluation.intervals import Interval

TITLES = {
    "auroc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "air_tp": "AIR, true positives",
    "air_fn": "AIR, false negatives",
    "cue_fraction": "Cue fraction",
    "lift_tp": "Lift, true positives",
    "pointing_game": "Pointing game",
    "lesion_energy": "Lesion energy",
}
OUTCOMES = {
    "True positives": (1, 1),
    "False positives": (0, 1),
    "False negatives": (1, 0),
    "True negatives": (0, 0),
}
PANELS = 3
TILE = 320  # pixels: side of a picture on the page


def write_report(runs: list[Path], output: Path) -> Path:
    """Write a self-contained page about ``runs`` (folders) to the file ``output`` and return it.

    The first run is the one others are compared with. Its predictions choose the pictures; where the prepared
    set of its ``config.yaml`` is gone, the page says so and has no pictures. ``UserError`` names a file that
    is missing.
    """
    read = read_runs(runs)
    paired = differences(read)
    findings = list(dict.fromkeys(finding for run in read for finding in run.findings))
    prepared, without_pictures = _prepared_set(read[0])
    environment = Environment(
        loader=PackageLoader("fundusnet.evaluation", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.trim_blocks = environment.lstrip_blocks = True
    page = environment.get_template("report.html.j2").render(
        title=" · ".join(run.label for run in read),
        summaries=[_summary(run) for run in read],
        labels=[run.label for run in read],
        same_images=same_images(read),
        sections=[
            {
                "finding": finding,
                "counts": [
                    {"label": run.label, **count_images(run.rows(finding))} for run in read if finding in run.findings
                ],
                "table": list(_table(read, finding, paired)),
                "roc": _roc(read, finding),
                "outcomes": list(_pictures(read, finding, prepared)) if prepared is not None else [],
            }
            for finding in findings
        ],
        losses=[
            {"label": run.label, "image": _data_uri(figures.encode(figures.losses(run.history)), "png")}
            for run in read
            if not run.history.empty
        ],
        without_pictures=without_pictures,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(output)
    return output


def _summary(run: Run) -> dict[str, object]:
    data = run.config.get("data") or {}
    source = str(data.get("source") or Path(str(data.get("folder") or "")).name or "unknown data")
    results = run.results
    return {
        "label": run.label,
        "data": source,
        "split": results.get("split", "test"),
        "n_images": results.get("n_images", run.predictions["image_id"].nunique()),
        "n_patients": results.get("n_patients"),
    }


def _table(
    runs: Sequence[Run], finding: str, paired: Mapping[tuple[str, str, str], Interval]
) -> Iterator[dict[str, object]]:
    for name in METRIC_NAMES:
        entries = [run.metric(finding, name) for run in runs]
        if all(entry is None for entry in entries):
            continue
        cells = []
        for run, entry in zip(runs, entries, strict=True):
            difference = paired.get((run.label, finding, name))
            cells.append(
                {
                    "score": _cell(entry or {"value": None, "ci95": [None, None], "reason": "not measured"}),
                    "difference": _cell(difference.as_metric(), signed=True) if difference else None,
                }
            )
        yield {"title": TITLES[name], "cells": cells}


def _cell(metric: Mapping[str, Any], *, signed: bool = False) -> dict[str, object]:
    style = "+.3f" if signed else ".3f"
    low, high = metric["ci95"]
    remarks = []
    if metric["value"] is None or low is None:
        remarks.append(str(metric.get("reason", "undefined")))
    if metric.get("unreliable"):
        remarks.append("unreliable: fewer than 10 patients of a class")
    if metric.get("redrawn"):
        remarks.append(f"{metric['redrawn']} resamples redrawn")
    return {
        "value": "–" if metric["value"] is None else format(metric["value"], style),
        "interval": "" if low is None else f"{low:{style}} to {high:{style}}",
        "remarks": remarks,
        # A difference whose interval leaves out zero is what the reader looks for.
        "clear": signed and low is not None and not metric.get("unreliable") and (low > 0 or high < 0),
    }


def _roc(runs: Sequence[Run], finding: str) -> str:
    curves, points = {}, {}
    for run in runs:
        if finding not in run.findings:
            continue
        rows = run.rows(finding)
        curves[run.label] = (column(rows, "label"), column(rows, "probability"))
        at = [(run.metric(finding, name) or {}).get("value") for name in ("sensitivity", "specificity")]
        if None not in at:
            points[run.label] = (float(at[0] or 0), float(at[1] or 0))
    return _data_uri(figures.encode(figures.roc(curves, points)), "png")


def _prepared_set(run: Run) -> tuple[PreparedSet | None, str]:
    folder = (run.config.get("data") or {}).get("folder")
    if not folder:
        return None, "its config.yaml names no prepared set (data.folder)"
    try:
        return open_prepared(Path(str(folder))), ""
    except UserError as error:
        return None, str(error)


def _pictures(runs: Sequence[Run], finding: str, prepared: PreparedSet) -> Iterator[dict[str, object]]:
    """Yield the four outcomes with the first run's clearest cases of each, every run's map beside them."""
    if finding not in runs[0].findings:
        return
    maps = {run.label: maps_of(run, finding) for run in runs}
    rows = runs[0].rows(finding)
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}
    data = runs[0].config.get("data") or {}
    labels = finding_labels(prepared, [finding], present=data.get("present", 2), cue=data.get("cue", "regions"))
    limit = int((runs[0].config.get("evaluation") or {}).get("panels", PANELS))
    for title, (label, predicted) in OUTCOMES.items():
        chosen = rows[(rows["label"] == label) & (rows["predicted"] == predicted)]
        chosen = chosen[chosen["image_id"].isin(row_of) & chosen["image_id"].isin(maps[runs[0].label])]
        shown = []
        for image_id, probability in _clearest(chosen, predicted == 1, limit):
            row = row_of[image_id]
            tiles = figures.panel_tiles(
                np.asarray(prepared.pixels[row]),
                {name: found[image_id] for name, found in maps.items() if image_id in found},
                cue=labels.cue(row)[0] if label and labels.cue_known[row, 0] else None,
                lesion=prepared.lesion_mask(image_id, finding) if label else None,
                landmarks=_landmarks(prepared.manifest.images.iloc[row]),
            )
            shown.append(
                {
                    "image_id": image_id,
                    "probability": f"{probability:.2f}",
                    "tiles": [{"name": name, "image": _jpeg(tile)} for name, tile in tiles.items()],
                }
            )
        yield {"title": title, "count": int(((rows["label"] == label) & (rows["predicted"] == predicted)).sum()),
               "images": shown}  # fmt: skip


def _clearest(rows: pd.DataFrame, positive: bool, limit: int) -> list[tuple[str, float]]:
    ordered = rows.sort_values(["probability", "image_id"], ascending=[not positive, True])[:limit]
    return list(zip(ordered["image_id"].astype(str), ordered["probability"].astype(float), strict=True))


def _landmarks(image: pd.Series[Any]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    points = [float(image[name]) for name in ("disc_x", "disc_y", "fovea_x", "fovea_y")]
    return ((points[0], points[1]), (points[2], points[3])) if np.isfinite(points).all() else None


def _jpeg(pixels: figures.Pixels) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((TILE, TILE))
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return _data_uri(stream.getvalue(), "jpeg")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
