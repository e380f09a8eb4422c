"""Faithfulness in a run folder and on its page: a table per image, metrics with intervals, a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fundusnet.evaluation import figures, intervals, page, tables
from fundusnet.evaluation.calibration import plain
from fundusnet.evaluation.faithfulness import STEPS, TESTS, Faithfulness
from fundusnet.evaluation.predictions import patient_clusters
from fundusnet.evaluation.runs import Run

METRICS = {
    "deletion": "Area under deletion, by the map",
    "deletion_random": "Area under deletion, in random order",
    "deletion_gain": "Deletion gain: random order minus map",
    "insertion": "Area under insertion, by the map",
    "insertion_random": "Area under insertion, in random order",
    "insertion_gain": "Insertion gain: map minus random order",
    "correlation_head": "Rank correlation with the original map, head shuffled",
    "ssim_head": "SSIM with the original map, head shuffled",
    "correlation_all": "Rank correlation with the original map, all layers shuffled",
    "ssim_all": "SSIM with the original map, all layers shuffled",
}


def write_faithfulness(
    folder: Path, measured: Mapping[str, tuple[pd.DataFrame, Faithfulness]], *, n: int
) -> dict[str, dict[str, Any]]:
    """Write ``faithfulness.csv`` and a figure for each target to ``folder``.

    Args:
        folder: Where to write.
        measured: For each target its images, with ``image_id`` and ``patient_id``, and the outcome of their tests.
        n: Number of resamples.

    Returns:
        What ``summary`` returns for each target, for ``metrics.json``.
    """
    per_image, found = [], {}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for target, (images, tests) in measured.items():
        values = per_image_values(tests)
        levels = {
            f"{name}_{share:.2f}": column
            for name, table in (("correlation", tests.correlation), ("ssim", tests.similarity))
            for share, column in zip(tests.levels, table.T, strict=True)
        }
        areas = {name: values[name] for name in TESTS}
        per_image.append(images[["image_id", "patient_id"]].assign(finding=target, **areas, **levels))
        found[target] = summary(images, tests, n=n)
        drawn = figure(found[target]["curves"], found[target]["n_images"])
        (folder / "figures" / f"faithfulness_{target}.png").write_bytes(figures.encode(drawn))
    pd.concat(per_image).to_csv(folder / "faithfulness.csv", index=False, float_format="%.5f")
    return found


def per_image_values(tests: Faithfulness) -> dict[str, np.ndarray]:
    """Return every metric of each image; an area is the mean of its curve, in [0, 1]."""
    areas = np.asarray(np.trapezoid(tests.curves, dx=1 / STEPS, axis=2))
    values = dict(zip(TESTS, areas.T, strict=True))
    values["deletion_gain"] = values["deletion_random"] - values["deletion"]
    values["insertion_gain"] = values["insertion"] - values["insertion_random"]
    for where, level in (("head", 0), ("all", -1)):
        values[f"correlation_{where}"] = tests.correlation[:, level]
        values[f"ssim_{where}"] = tests.similarity[:, level]
    return values


def summary(images: pd.DataFrame, tests: Faithfulness, *, n: int) -> dict[str, Any]:
    """Return ``n_images``, ``n_patients``, and ``metrics`` and ``curves`` with patient-clustered intervals."""
    patients = patient_clusters(images)
    everyone = np.ones(len(images), dtype=bool)
    metrics = {
        name: intervals.bootstrap(
            intervals.mean(values, everyone, "images whose map is not constant"), patients, n=n
        ).as_metric()
        for name, values in per_image_values(tests).items()
    }
    flat = tests.curves.reshape(len(images), -1)
    each = [*flat.T, *tests.correlation.T, *tests.similarity.T]
    values = np.stack(each, axis=1)
    bands = intervals.bootstrap_means(values, np.isfinite(values), patients, n=n)
    cuts = np.cumsum([STEPS + 1] * len(TESTS) + [len(tests.levels)])
    names = (*TESTS, "correlation", "ssim")
    return {
        "n_images": len(images),
        "n_patients": len(np.unique(patients)),
        "metrics": {name: metrics[name] for name in METRICS},
        "curves": {
            "cells": plain(np.linspace(0, 1, STEPS + 1)),
            "layers": plain(tests.levels),
            **{
                name: dict(zip(("mean", "low", "high"), (plain(part) for part in parts), strict=True))
                for name, *parts in zip(names, *(np.split(band, cuts) for band in bands), strict=True)
            },
        },
    }


def figure(curves: Mapping[str, Any], images: int) -> Figure:
    """Draw deletion and insertion, by the map and in random order, and the maps' similarity as layers are shuffled."""
    drawn = Figure(figsize=(9.6, 3.1), dpi=150)
    panels = drawn.subplots(1, 3)
    for axes, test in zip(panels[:2], ("deletion", "insertion"), strict=True):
        for name, label, color in ((test, "by the map", figures.COLORS[0]), (f"{test}_random", "random order", "grey")):
            _band(axes, curves["cells"], curves[name], label, color)
        done = "blurred" if test == "deletion" else "restored"
        axes.set(title=test.capitalize(), xlabel=f"share of cells {done}", ylabel="probability", ylim=(-0.02, 1.02))
    for name, label, color in (
        ("correlation", "rank correlation", figures.COLORS[1]),
        ("ssim", "SSIM", figures.COLORS[2]),
    ):
        _band(panels[2], [0, *curves["layers"]], {k: [1, *v] for k, v in curves[name].items()}, label, color)
    panels[2].axhline(0, color="grey", linewidth=0.8, linestyle=":")
    panels[2].set(
        title="Weights shuffled", xlabel="share of layers, from the head", ylabel="similarity to the original map"
    )
    for axes in panels:
        axes.legend(frameon=False, fontsize=8)
    drawn.suptitle(f"n = {images} photographs", fontsize=9)
    return figures.tidy(drawn)


def faithfulness_sections(runs: Mapping[str, Run], target: str) -> list[dict[str, Any]]:
    """Return what the template shows of a target: a figure and a table for each labelled run whose maps were tested."""
    shown = []
    for label, run in runs.items():
        found = (run.results.get("faithfulness") or {}).get(target)
        if found:
            shown.append(
                {
                    "label": label,
                    "images": found["n_images"],
                    "patients": found["n_patients"],
                    "picture": page.picture(figure(found["curves"], found["n_images"])),
                    "rows": [
                        {"title": title, "cell": tables.cell(found["metrics"][name])} for name, title in METRICS.items()
                    ],
                }
            )
    return shown


def _band(axes: Any, x: Any, curve: Mapping[str, Any], label: str, color: str) -> None:
    mean, low, high = (np.array(curve[name], dtype=float) for name in ("mean", "low", "high"))
    axes.plot(x, mean, color=color, linewidth=1.5, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
