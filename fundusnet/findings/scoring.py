"""Score a trained network on a split: predictions, maps, metrics with intervals (S1.6)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from fundusnet.data.labels import finding_labels
from fundusnet.data.prepared import PreparedSet
from fundusnet.data.regions import REGIONS
from fundusnet.errors import UserError
from fundusnet.evaluation import results
from fundusnet.evaluation.calibration import at_temperature
from fundusnet.evaluation.subgroups import attributes_asked
from fundusnet.findings.by_region import ByRegion, find_regions, in_cells
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.faithfulness import map_faithfulness
from fundusnet.findings.metrics import activation_in_regions, cue_fraction, pointing_hit
from fundusnet.findings.module import GuidedModule
from fundusnet.findings.region_statistics import MARKED, region_cells
from fundusnet.findings.statistics import FINDINGS, by_finding, findings_metrics, with_predicted
from fundusnet.system.progress import track

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """Predictions on one split.

    Attributes:
        predictions: One row per image and finding.
        image_ids: Of the N images.
        maps: Their activation maps, ``(N, F, h, w)``.
    """

    predictions: pd.DataFrame
    image_ids: list[str]
    maps: NDArray[np.float16]


def write_results(
    folder: Path,
    module: GuidedModule,
    datamodule: FindingsDataModule,
    split: str,
    points: dict[str, float],
    options: DictConfig,
    device: torch.device,
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score ``split`` and write ``predictions.csv``, ``maps.npz``, ``curves.json`` and ``metrics.json`` to ``folder``.

    Args:
        folder: Where to write.
        module: The trained network.
        datamodule: Its data.
        split: train, val, test or all.
        points: The operating point of each finding.
        options: Those of ``conf/evaluation``.
        device: Where the network computes.
        chosen: What ``fundusnet.evaluation.binary_tasks.fit_on_validation`` returned.

    Returns:
        The content of ``metrics.json``.
    """
    datamodule.setup("test")
    attributes = attributes_asked(options, datamodule.prepared)
    scored, resamples = (
        drop_unknown_findings(score(module, datamodule, split, device), datamodule.folder),
        int(options.bootstrap),
    )
    predictions = with_calibrated(with_predicted(scored.predictions, points), chosen or {})
    predictions.to_csv(folder / "predictions.csv", index=False)
    np.savez_compressed(folder / "maps.npz", image_id=np.array(scored.image_ids), map=scored.maps)
    tables = by_finding(predictions)
    return results.write_results(
        folder,
        FINDINGS,
        tables,
        {**findings_metrics(predictions, split=split, n=resamples), "operating_points": points},
        attributes=attributes,
        faithfulness=map_faithfulness(module, datamodule, split, list(tables)) if options.get("faithfulness") else None,
        chosen=chosen,
        n=resamples,
    )


def drop_unknown_findings(scored: Scored, folder: Path) -> Scored:
    """Leave out, with a warning, the findings of which another set has no label."""
    findings = scored.predictions["finding"].unique()
    known = scored.predictions.groupby("finding", sort=False)["label"].apply(lambda label: label.notna().any())
    missing = [finding for finding in findings if not known[finding]]
    if not missing:
        return scored
    if len(missing) == len(findings):
        names = ", ".join(missing)
        raise UserError(
            f"no image of this split of {folder} has a label for {names}; map its labels with labels={{...}}"
        )
    log.warning("%s has no label for %s: left out (map its labels with labels={...})", folder, ", ".join(missing))
    kept = [column for column, finding in enumerate(findings) if known[finding]]
    predictions = scored.predictions[~scored.predictions["finding"].isin(missing)].reset_index(drop=True)
    return Scored(predictions, scored.image_ids, scored.maps[:, kept])


def with_calibrated(predictions: pd.DataFrame, chosen: Mapping[str, Any]) -> pd.DataFrame:
    """Return a copy with ``calibrated`` beside ``probability``: NaN where validation gave no temperature."""
    calibrated = pd.Series(np.nan, index=predictions.index)
    for finding, rows in predictions.groupby("finding"):
        temperature = (chosen.get(str(finding)) or {}).get("temperature")
        calibrated[rows.index] = at_temperature(rows["probability"], temperature)
    return predictions.assign(calibrated=calibrated)


@torch.inference_mode()
def score(module: GuidedModule, datamodule: FindingsDataModule, split: str, device: torch.device) -> Scored:
    """Predict ``split`` on ``device``, each image once and without augmentation."""
    module = module.to(device).eval()
    datamodule.setup("test")
    prepared, rows = datamodule.prepared, []
    marked = _marked_regions(datamodule)
    ids: list[str] = []
    maps: list[NDArray[np.float16]] = []
    loader = datamodule.in_order(datamodule.rows[split], images=module.flips)
    for batch in track(loader, f"score {split}", total=len(loader)):
        answer = module.predict_step({name: tensor.to(device) for name, tensor in batch.items()}, 0)
        activation, probability = answer["map"].cpu(), answer["probability"].cpu()
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
        where = _by_region(datamodule, index, activation)
        images = prepared.manifest.images.iloc[index]
        for i, (image_id, patient) in enumerate(zip(images["image_id"], images["patient_id"], strict=True)):
            ids.append(image_id)
            for f, finding in enumerate(module.findings):
                values = {name: float(column[i, f]) for name, column in table.items()}
                cells = {**region_cells(where[i][f]), MARKED: ";".join(marked[index[i]][f])}
                rows.append({"image_id": image_id, "patient_id": patient, "finding": finding, **values, **cells})
        maps.append(activation.numpy().astype(np.float16))
    return Scored(pd.DataFrame(rows), ids, np.concatenate(maps))


def _lesion_cells(prepared: PreparedSet, index: list[int], findings: list[str], h: int, w: int) -> torch.Tensor:
    """Return the lesion share of each cell, ``(B, F, h, w)``; NaN where no lesion is outlined."""
    cells = torch.full((len(index), len(findings), h, w), torch.nan)
    for i, row in enumerate(index):
        image_id = str(prepared.manifest.images["image_id"].iloc[row])
        for f, finding in enumerate(findings):
            mask = prepared.lesion_mask(image_id, finding)
            if mask is not None and mask.any():
                whole = torch.from_numpy(mask).float()[None, None]
                cells[i, f] = torch.nn.functional.adaptive_avg_pool2d(whole, (h, w))[0, 0]
    return cells


def _by_region(
    datamodule: FindingsDataModule, index: list[int], activation: torch.Tensor
) -> list[list[ByRegion | None]]:
    """Return for each image and finding where the map lies; None where disc or fovea are unknown."""
    maps, size = activation.numpy(), datamodule.prepared.size
    found: list[list[ByRegion | None]] = []
    for of_image, row in zip(maps, index, strict=True):
        points = datamodule.labels.points[row]
        if points is None:
            found.append([None] * len(of_image))
        else:
            disc, fovea = (in_cells(point, size, of_image.shape[-1]) for point in points)
            found.append([find_regions(each, disc, fovea) for each in of_image])
    return found


def _marked_regions(datamodule: FindingsDataModule) -> list[list[tuple[str, ...]]]:
    """Return for each photograph and finding the regions that are marked, or that its lesions touch; none if unknown.

    The cue may be the lesions themselves; regions are compared all the same.
    """
    labels = datamodule.labels
    if datamodule.cue != "regions":
        labels = finding_labels(datamodule.prepared, datamodule.findings, datamodule.present, all_known=False)
    return [
        [tuple(name for name in REGIONS.values() if name in (each or ())) for each in row] for row in labels.regions
    ]
