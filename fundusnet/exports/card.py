"""Writes the model card: data, figures, intended use and limits of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import OmegaConf

from fundusnet.errors import UserError
from fundusnet.evaluation.tables import cell, describe_images, markdown_cell
from fundusnet.prediction.trained_network import TrainedNetwork
from fundusnet.system.files import write_text


def write_card(network: TrainedNetwork, run: Path, file: Path) -> None:
    """Write the model card of a network.

    Args:
        network: The opened checkpoint.
        run: Folder of the run that trained it.
        file: Where to write, as Markdown.

    Raises:
        UserError: ``run`` is not a finished run.
    """
    for name in ("config.yaml", "metrics.json", "status.json"):
        if not (run / name).is_file():
            raise UserError(f"{run} has no {name} to write the card from; give a finished run, or formats=[onnx]")
    cfg: Any = OmegaConf.load(run / "config.yaml")
    results = json.loads((run / "metrics.json").read_text())
    status = json.loads((run / "status.json").read_text())
    fits = [json.loads(fit.read_text()) for fit in run.rglob("fit.json")]
    prepared = Path(str(cfg.data.folder)) / "prepared.yaml"
    # Markdown needs no escaping.
    environment = Environment(loader=PackageLoader("fundusnet.exports", "."), undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = environment.keep_trailing_newline = True
    card = environment.get_template("card.md.j2").render(
        cfg=cfg,
        names=network.names,
        size=network.spec.size,
        thresholds=network.thresholds,
        counts=yaml.safe_load(prepared.read_text())["counts"] if prepared.is_file() else None,
        splits=list(_splits(run, results["split"])),
        results=results,
        scored_on=describe_images(results),
        metrics={name: markdown_cell(cell(entry)) for name, entry in results["metrics"].items()},
        status=status,
        versions=", ".join(f"{name} {version}" for name, version in status["versions"].items()),
        fits=len(fits),
        epochs=sum(fit["epochs"] for fit in fits),
    )
    write_text(file, card)


def _splits(run: Path, scored: str) -> Iterator[dict[str, Any]]:
    for file in sorted(run.rglob("splits.csv"))[:1]:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        yield _count("training", table[table["split"] == "train"])
    for name, file in (("validation", run / "predictions_val.csv"), (scored, run / "predictions.csv")):
        if file.is_file():
            table = pd.read_csv(file, usecols=["image_id", "patient_id"], dtype=str, keep_default_na=False)
            yield _count(name, table)


def _count(name: str, table: pd.DataFrame) -> dict[str, Any]:
    # Unknown: each photograph counts as a patient.
    patients = table["patient_id"].where(table["patient_id"] != "", table["image_id"])
    return {"name": name, "images": table["image_id"].nunique(), "patients": patients.nunique()}
