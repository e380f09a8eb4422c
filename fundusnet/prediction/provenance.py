"""Where a network comes from and how good it was: what the page of its predictions says about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

FINDINGS = ("auroc", "sensitivity", "specificity")
GRADING = ("accuracy", "kappa_quadratic")


def run_of(checkpoint: Path) -> dict[str, Any] | None:
    """What is known of the run whose ``checkpoints`` folder holds a file; None for a file that lies elsewhere.

    Returns:
        ``folder``, ``name``, ``source``, ``seed``; of the images it was scored on ``split``, ``images``,
        ``patients``, ``without_patient`` and ``counts`` by class; and ``metrics``: name → its entry in
        ``metrics.json``.
    """
    folder = checkpoint.resolve().parent.parent
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        results = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        wanted = GRADING if results["task"] == "grading" else FINDINGS
        metrics = {name: entry for name, entry in results["metrics"].items() if name.rpartition("/")[2] in wanted}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return {
        "folder": str(folder),
        "name": config.get("name"),
        "source": (config.get("data") or {}).get("source"),
        "seed": config.get("seed"),
        "split": results.get("split"),
        "images": results.get("n_images"),
        "patients": results.get("n_patients"),
        "without_patient": results.get("n_without_patient"),
        "counts": results.get("counts"),
        "metrics": metrics,
    }
