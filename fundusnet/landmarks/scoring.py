"""Score a trained localiser on a split: points, errors, metrics with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig

from fundusnet.data.crop import brightest_channel
from fundusnet.data.decode import Pixels
from fundusnet.data.regions import region_map
from fundusnet.evaluation import results
from fundusnet.evaluation.subgroups import attributes_asked
from fundusnet.landmarks.datamodule import LandmarkDataModule
from fundusnet.landmarks.module import LandmarkModule
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.landmarks.statistics import LANDMARK_SYSTEM, RADIUS, by_landmark, landmark_metrics
from fundusnet.system.progress import track

_DARK = 10  # grey level up to which a pixel counts as outside the field of view


def write_results(
    folder: Path,
    module: LandmarkModule,
    datamodule: LandmarkDataModule,
    split: str,
    thresholds: Mapping[str, float],
    options: DictConfig,
    device: torch.device,
) -> dict[str, Any]:
    """Score ``split`` and write ``predictions.csv`` and ``metrics.json`` to ``folder``.

    Args:
        folder: Where to write.
        module: The trained localiser.
        datamodule: Its data.
        split: train, val, test or all.
        thresholds: The confidence from which on each point counts as located.
        options: Those of ``conf/evaluation``.
        device: Where the network computes.

    Returns:
        The content of ``metrics.json``.
    """
    datamodule.setup("test")
    attributes, resamples = attributes_asked(options, datamodule.prepared), int(options.bootstrap)
    predictions = score(module, datamodule, split, device)
    predictions["located"] = (predictions["confidence"] >= predictions["landmark"].map(dict(thresholds))).astype(int)
    predictions.to_csv(folder / "predictions.csv", index=False)
    return results.write_results(
        folder,
        LANDMARK_SYSTEM,
        by_landmark(predictions),
        {**landmark_metrics(predictions, split=split, n=resamples), "thresholds": dict(thresholds)},
        attributes=attributes,
        n=resamples,
    )


@torch.inference_mode()
def score(module: LandmarkModule, datamodule: LandmarkDataModule, split: str, device: torch.device) -> pd.DataFrame:
    """Predict ``split`` on ``device``, each image once and without augmentation: one row per image and known point."""
    module = module.to(device).eval()
    datamodule.setup("test")
    prepared, rows = datamodule.prepared, []
    loader = datamodule.in_order(datamodule.rows[split], images=module.close_up is not None)
    for batch in track(loader, f"score {split}", total=len(loader)):
        answer = module.predict_step({name: tensor.to(device) for name, tensor in batch.items()}, 0)
        found, confidence, given = answer["points"].cpu(), answer["confidence"].cpu(), batch["points"]
        pixels = (found - given).norm(dim=-1)
        error = pixels / (RADIUS * (given[:, 0] - given[:, 1]).norm(dim=-1, keepdim=True))
        index = batch["index"].tolist()
        agreement = [
            _same_regions(np.asarray(prepared.pixels[row]), given[i].tolist(), found[i].tolist())
            for i, row in enumerate(index)
        ]
        images = prepared.manifest.images.iloc[index]
        for i, (image_id, patient) in enumerate(zip(images["image_id"], images["patient_id"], strict=True)):
            for k, name in enumerate(LANDMARKS):
                if not bool(given[i, k].isfinite().all()):
                    continue
                (x, y), (found_x, found_y) = given[i, k].tolist(), found[i, k].tolist()
                rows.append(
                    {
                        "image_id": image_id,
                        "patient_id": patient,
                        "landmark": name,
                        "x": x,
                        "y": y,
                        "found_x": found_x,
                        "found_y": found_y,
                        "confidence": float(confidence[i, k]),
                        "error": float(error[i, k]),
                        "error_pixels": float(pixels[i, k]) / float(prepared.scale[index[i]]),
                        "region_agreement": agreement[i],
                    }
                )
    return pd.DataFrame(rows)


def _same_regions(pixels: Pixels, given: list[list[float]], found: list[list[float]]) -> float:
    """Return the share of lit pixels with the same region by given and by found points; NaN if one is unknown."""
    if not np.isfinite(given).all():
        return float("nan")
    maps = [region_map(pixels.shape[:2], (disc[0], disc[1]), (fovea[0], fovea[1])) for disc, fovea in (given, found)]
    lit = brightest_channel(pixels) > _DARK
    return float((maps[0] == maps[1])[lit].mean()) if lit.any() else float("nan")


def confidence_thresholds(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the confidence from which on disc and fovea are used, chosen on validation.

    The lowest above the confidence of every point that is more than a radius off, and at least a half, where it is
    likelier that the point is there than anything else.
    """
    wrong = predictions[predictions["error"] > 1].groupby("landmark")["confidence"].max()
    return {name: float(np.clip(wrong.get(name, 0.0) + 1e-6, 0.5, 0.99)) for name in LANDMARKS}
