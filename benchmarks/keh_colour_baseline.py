"""A linear baseline on six colour statistics, on the split, seed and images of a finished grading run.

    python benchmarks/keh_colour_baseline.py RUN [RUN ...] --output outputs/colour

Fits a logistic regression to the mean and standard deviation of red, green and blue over each image, on the training
and validation images of the run (nothing is chosen on validation here), and scores it on the same test images. Each
result is a folder that ``fundusnet report`` can show beside the runs: ``config.yaml``, ``predictions.csv``,
``metrics.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fundusnet.grading.statistics import grading_metrics
from fundusnet.grading.task import make_datamodule
from fundusnet.runs.folder import read_config


def colour_statistics(pixels: np.ndarray) -> np.ndarray:
    """``(N, S, S, 3)`` uint8 → ``(N, 6)``: mean and standard deviation of each channel."""
    return np.stack([np.r_[image.mean(axis=(0, 1)), image.std(axis=(0, 1))] for image in pixels])


def baseline(run: Path, folder: Path, resamples: int) -> dict[str, Any]:
    """Fit and score the linear model on the split of ``run``; returns the content of its ``metrics.json``."""
    cfg = read_config(run)
    datamodule = make_datamodule(cfg)
    datamodule.setup("fit")
    prepared, rows, grade = datamodule.prepared, datamodule.rows, datamodule.grade
    fitted = np.concatenate([rows["train"], rows["val"]])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(colour_statistics(prepared.pixels[fitted]), grade[fitted])
    probability = model.predict_proba(colour_statistics(prepared.pixels[rows["test"]]))

    images = prepared.manifest.images.iloc[rows["test"]]
    table = pd.DataFrame(
        {
            "image_id": images["image_id"].to_numpy(),
            "patient_id": images["patient_id"].to_numpy(),
            "grade": grade[rows["test"]],
            "predicted": probability.argmax(axis=1),
            "stage1_predicted": "",
            **{f"p_gt_{k}": probability[:, k + 1 :].sum(axis=1) for k in range(probability.shape[1] - 1)},
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "predictions.csv", index=False)
    scored = table.assign(stage1_predicted=np.nan)
    result: dict[str, Any] = grading_metrics(scored, datamodule.classes, n=resamples)
    (folder / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    config = {
        "task": "grading",
        "name": "linear model on six colour statistics",
        "seed": cfg.seed,
        "data": OmegaConf.to_container(cfg.data),
        "model": {"head": "colour"},
    }
    OmegaConf.save(config, folder / "config.yaml")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished grading runs whose splits to use")
    parser.add_argument("--output", type=Path, default=Path("outputs/colour"), help="gets a folder for each seed")
    parser.add_argument("--bootstrap", type=int, default=2000)
    options = parser.parse_args()
    for run in options.runs:
        seed = read_config(run).seed
        folder = options.output / f"seed{seed}"
        metrics = baseline(run, folder, options.bootstrap)["metrics"]
        values = {name: entry["value"] for name, entry in metrics.items()}
        shown = "  ".join(f"{name} {value:.3f}" for name, value in values.items() if value is not None)
        print(f"{folder}: {shown}")


if __name__ == "__main__":
    main()
