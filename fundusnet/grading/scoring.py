"""Scoring a trained grading model: predictions, metrics with intervals, masks (S2.6)."""

from __future__ import annotations

import json
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

from fundusnet.evaluation.faithfulness_report import write_faithfulness
from fundusnet.evaluation.subgroups import attributes_asked, grading_subgroups
from fundusnet.evaluation.use import grading_tasks, use_metrics, write_curves
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.explained import tested_maps
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.statistics import grading_metrics
from fundusnet.system.progress import track

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """Predictions on one split, a row an image, and the masks it was seen through, before upsampling."""

    predictions: pd.DataFrame
    masks: NDArray[np.float16] | None  # (n, h, w); None where there is no first stage


def write_results(
    folder: Path,
    module: RankingStage,
    datamodule: GradingDataModule,
    split: str,
    options: DictConfig,
    device: torch.device,
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """Score ``split`` and write ``predictions.csv``, ``metrics.json``, ``curves.json``, ``masks.npz`` to ``folder``.

    ``predictions.csv``: ``image_id, patient_id, grade, predicted, stage1_predicted, p_gt_0 … p_gt_{K-2}``, where
    ``p_gt_k`` is the probability of "grade > k", which every head gives. Grades are 0 … K-1; ``stage1_predicted`` is
    empty where there is no first stage, and there are no masks then. A ranking, CORAL and CORN predict how many of
    these exceed 0.5, a K-way softmax its most probable grade. ``calibrated_gt_k`` is ``p_gt_k`` at the temperature in
    ``chosen``, which is what validation says as ``fundusnet.evaluation.use.choose`` returns it. ``options`` are
    those of ``conf/evaluation``.
    """
    datamodule.setup("test")
    attributes = attributes_asked(options, datamodule.prepared)
    resamples = int(options.bootstrap)
    scored = score(module, datamodule, split, device)
    questions = grading_tasks(scored.predictions, chosen)
    calibrated = {f"calibrated_{question.name}": question.calibrated for question in questions}
    scored.predictions.assign(**calibrated).to_csv(folder / "predictions.csv", index=False)
    if scored.masks is not None:
        image_ids = scored.predictions["image_id"].to_numpy(dtype=str)
        np.savez_compressed(folder / "masks.npz", image_id=image_ids, mask=scored.masks)
    result: dict[str, Any] = grading_metrics(scored.predictions, datamodule.classes, split=split, n=resamples)
    for question, entries in use_metrics(questions, n=resamples).items():
        result["metrics"].update({f"{name}_{question}": entry for name, entry in entries.items()})
    write_curves(folder, questions, n=resamples)
    if len(attributes.columns):
        result["subgroups"] = grading_subgroups(scored.predictions, attributes, datamodule.classes, n=resamples)
    if options.get("faithfulness"):
        tested = tested_maps(module, datamodule, split)
        if not tested:
            log.warning("evaluation.faithfulness: this stage has a hidden layer and no maps; nothing to test")
        result["faithfulness"] = write_faithfulness(folder, tested, n=resamples) if tested else {}
    result["validation"] = dict(chosen or {})
    (folder / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


@torch.inference_mode()
def score(module: RankingStage, datamodule: GradingDataModule, split: str, device: torch.device) -> Scored:
    """Predictions of ``module`` on ``split``, computed on ``device``, each picture once and without augmentation."""
    module = module.to(device).eval()
    datamodule.setup("test")
    images = datamodule.prepared.manifest.images
    tables, masks = [], []
    loader = datamodule.in_order(datamodule.rows[split])
    for batch in track(loader, f"score {split}", total=len(loader)):
        here = {name: tensor.to(device) for name, tensor in batch.items()}
        answer = {name: tensor.cpu() for name, tensor in module.predict_step(here, 0).items()}
        rows = images.iloc[batch["index"].tolist()]
        table = pd.DataFrame(
            {
                "image_id": rows["image_id"].to_numpy(),
                "patient_id": rows["patient_id"].to_numpy(),
                "grade": batch["grade"].numpy(),
                "predicted": answer["grade"].numpy(),
                "stage1_predicted": pd.array(
                    answer["stage1_grade"].tolist() if "stage1_grade" in answer else [None] * len(rows), dtype="Int64"
                ),
            }
        )
        for k, p in enumerate(answer["p"].T):
            table[f"p_gt_{k}"] = p.numpy()
        tables.append(table)
        if "mask" in answer:
            masks.append(answer["mask"][:, 0].numpy().astype(np.float16))
    return Scored(pd.concat(tables, ignore_index=True), np.concatenate(masks) if masks else None)
