"""Made-up predictions of an overconfident network, and finished runs with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fundusnet.evaluation.binary_tasks import fit_on_validation
from fundusnet.evaluation.results import write_results
from fundusnet.findings.statistics import FINDINGS, by_finding, finding_tasks, findings_metrics


def predictions(seed: int, images: int = 120, finding: str = "drusen") -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    label = (generator.random(images) < 0.4).astype(float)
    p = 1 / (1 + np.exp(-2 * (1.5 * label - 1 + generator.normal(size=images))))
    label[:3] = np.nan
    return pd.DataFrame(
        {
            "image_id": [f"{i:03}" for i in range(images)],
            "patient_id": [f"p{i // 2}" for i in range(images)],
            "finding": finding,
            "label": label,
            "probability": p,
            "predicted": (p > 0.5).astype(int),
            "air": np.nan,
            "cue_fraction": np.nan,
        }
    )


def run(folder: Path, seed: int, name: str = "guided") -> Path:
    """A finished run whose validation and test images are differ only in their seed."""
    folder.mkdir(parents=True)
    table = predictions(seed)
    chosen = fit_on_validation(finding_tasks(predictions(seed + 100)))
    table.to_csv(folder / "predictions.csv", index=False)
    results = findings_metrics(table, n=50)
    write_results(folder, FINDINGS, by_finding(table), results, attributes=pd.DataFrame(), chosen=chosen, n=50)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"name": name, "seed": seed, "task": "findings", "model": {"name": name}})
    )
    return folder
