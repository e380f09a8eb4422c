"""Folders of finished runs with made-up predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fundusnet.findings.statistics import findings_metrics

IMAGES = 30


def run_folder(
    root: Path, *, finding: str = "drusen", seed: int = 0, weight: float = 0.0, skill: float = 1.0, **other: Any
) -> Path:
    generator = np.random.default_rng(seed)
    label = np.arange(IMAGES) % 2
    noise = generator.normal(size=IMAGES)
    probability = 1 / (1 + np.exp(-(skill * (label - 0.5) * 3 + noise)))
    predictions = pd.DataFrame(
        {
            # Other seeds, other test images; the patients overlap.
            "image_id": [f"eye{(i + 7 * seed) % 50:02}" for i in range(IMAGES)],
            "patient_id": [f"p{(i + 7 * seed) % 50 // 2}" for i in range(IMAGES)],
            "finding": finding,
            "label": label.astype(float),
            "probability": probability,
            "predicted": (probability >= 0.5).astype(int),
            "air": np.where(label == 1, np.clip(0.4 * skill + 0.02 * noise, 0, 1), np.nan),
            "cue_fraction": np.where(label == 1, 0.25, 0.0),
        }
    )
    folder = root / f"{finding}-{seed}-{weight}-{'-'.join(map(str, other.values()))}"
    folder.mkdir(parents=True)
    predictions.to_csv(folder / "predictions.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps(findings_metrics(predictions, n=20)))
    config = {
        "name": f"{finding} λ={weight:g}",
        "seed": seed,
        "run_dir": str(folder),
        "finding": {"names": [finding], "dilations": [1, 2] if finding == "drusen" else [1, 2, 4, 8]},
        "model": {"loss": {"weight": weight, "form": "bce"}, "network": {"dilations": [len(finding)], "width": 8}},
        "data": {"source": "synthetic", "folder": None, **other},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder
