"""Scoring a trained network: predictions, metrics with intervals, maps (S1.6)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fundusnet.data.datamodule import FindingsDataModule
from fundusnet.data.prepared import PreparedSet
from fundusnet.evaluation.findings import findings_metrics, with_predicted
from fundusnet.findings.metrics import activation_in_regions, cue_fraction, pointing_hit
from fundusnet.findings.module import GuidedModule
from fundusnet.progress import track


@dataclass(frozen=True)
class Scored:
    """Predictions on one split: a row an image and finding, and the maps they rest on."""

    predictions: pd.DataFrame
    image_ids: list[str]
    maps: NDArray[np.float16]  # (N, F, h, w)


def write_results(
    folder: Path,
    module: GuidedModule,
    datamodule: FindingsDataModule,
    split: str,
    points: dict[str, float],
    resamples: int,
) -> dict[str, object]:
    """Score ``split`` and write ``predictions.csv``, ``maps.npz`` and ``metrics.json`` to ``folder``."""
    scored = score(module, datamodule, split)
    predictions = with_predicted(scored.predictions, points)
    predictions.to_csv(folder / "predictions.csv", index=False)
    np.savez_compressed(folder / "maps.npz", image_id=np.array(scored.image_ids), map=scored.maps)
    result = findings_metrics(predictions, split=split, n=resamples)
    result["operating_points"] = points
    (folder / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


@torch.inference_mode()
def score(module: GuidedModule, datamodule: FindingsDataModule, split: str) -> Scored:
    """Predictions of ``module`` on ``split``, on one device, each picture once and without augmentation."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = module.to(device).eval()
    datamodule.setup("test")
    prepared, rows = datamodule.prepared, []
    ids: list[str] = []
    maps: list[NDArray[np.float16]] = []
    loader = datamodule.val_dataloader() if split == "val" else datamodule.test_dataloader()
    for batch in track(loader, f"score {split}", total=len(loader)):
        activation, probability = (t.float().cpu() for t in module(batch["image"].to(device)))
        cue, index = batch["cue"], batch["index"].tolist()
        lesion = _lesion_cells(prepared, index, module.findings, activation.shape[-2], activation.shape[-1])
        table = {
            "label": batch["label"],
            "probability": probability,
            "air": activation_in_regions(activation, cue),
            "cue_fraction": cue_fraction(cue),
            "pointing_hit": pointing_hit(activation, lesion.gt(0).float().where(~lesion.isnan(), torch.nan)),
            "lesion_energy": activation_in_regions(activation, lesion),
        }
        images = prepared.manifest.images.iloc[index]
        for i, (image_id, patient) in enumerate(zip(images["image_id"], images["patient_id"], strict=True)):
            ids.append(image_id)
            for f, finding in enumerate(module.findings):
                values = {name: float(column[i, f]) for name, column in table.items()}
                rows.append({"image_id": image_id, "patient_id": patient, "finding": finding, **values})
        maps.append(activation.numpy().astype(np.float16))
    return Scored(pd.DataFrame(rows), ids, np.concatenate(maps))


def _lesion_cells(prepared: PreparedSet, index: list[int], findings: list[str], h: int, w: int) -> torch.Tensor:
    """``(B, F, h, w)``: the share of each cell that is lesion; NaN where no outline is known or nothing is outlined."""
    cells = torch.full((len(index), len(findings), h, w), torch.nan)
    for i, row in enumerate(index):
        image_id = str(prepared.manifest.images["image_id"].iloc[row])
        for f, finding in enumerate(findings):
            mask = prepared.lesion_mask(image_id, finding)
            if mask is not None and mask.any():
                whole = torch.from_numpy(mask).float()[None, None]
                cells[i, f] = torch.nn.functional.adaptive_avg_pool2d(whole, (h, w))[0, 0]
    return cells
