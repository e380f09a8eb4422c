"""Score a trained grading network on a split: predictions, masks, metrics with intervals (S2.6)."""

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

from fundusnet.evaluation import results
from fundusnet.evaluation.subgroups import attributes_asked
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.faithfulness import mask_faithfulness
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.statistics import GRADE, GRADING, grading_metrics, grading_tasks
from fundusnet.system.progress import track

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """Predictions on one split.

    Attributes:
        predictions: One row per image.
        masks: The masks of the N images before upsampling, ``(N, h, w)``; None without a first stage.
    """

    predictions: pd.DataFrame
    masks: NDArray[np.float16] | None


def write_results(
    folder: Path,
    module: RankingStage,
    datamodule: GradingDataModule,
    split: str,
    options: DictConfig,
    device: torch.device,
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score ``split`` and write ``predictions.csv``, ``masks.npz``, ``curves.json`` and ``metrics.json`` to ``folder``.

    ``predictions.csv`` has ``image_id, patient_id, grade, predicted, stage1_predicted, p_gt_0 … p_gt_{K-2}`` and
    ``calibrated_gt_0 …``. Grades are 0 … K-1; without a first stage ``stage1_predicted`` is empty and there are no
    masks. ``p_gt_k`` is the probability of "grade > k", which every head gives; the predicted grade follows from these
    by the rule of the network (``fundusnet.grading.ranking.grade_of``).

    Args:
        folder: Where to write.
        module: The trained network.
        datamodule: Its data.
        split: train, val, test or all.
        options: Those of ``conf/evaluation``.
        device: Where the network computes.
        chosen: What ``fundusnet.evaluation.binary_tasks.fit_on_validation`` returned.

    Returns:
        The content of ``metrics.json``.
    """
    datamodule.setup("test")
    attributes = attributes_asked(options, datamodule.prepared)
    resamples = int(options.bootstrap)
    scored = score(module, datamodule, split, device)
    calibrated = {f"calibrated_{task.name}": task.calibrated for task in grading_tasks(scored.predictions, chosen)}
    scored.predictions.assign(**calibrated).to_csv(folder / "predictions.csv", index=False)
    if scored.masks is not None:
        image_ids = scored.predictions["image_id"].to_numpy(dtype=str)
        np.savez_compressed(folder / "masks.npz", image_id=image_ids, mask=scored.masks)
    faithfulness = mask_faithfulness(module, datamodule, split) if options.get("faithfulness") else None
    if faithfulness == {}:
        log.warning("evaluation.faithfulness: this stage has a hidden layer and therefore no maps to test")
    return results.write_results(
        folder,
        GRADING,
        {GRADE: scored.predictions},
        grading_metrics(scored.predictions, datamodule.classes, split=split, n=resamples),
        attributes=attributes,
        faithfulness=faithfulness,
        chosen=chosen,
        n=resamples,
    )


@torch.inference_mode()
def score(module: RankingStage, datamodule: GradingDataModule, split: str, device: torch.device) -> Scored:
    """Predict ``split`` on ``device``, each image once and without augmentation."""
    module = module.to(device).eval()
    datamodule.setup("test")
    images = datamodule.prepared.manifest.images
    tables, masks = [], []
    loader = datamodule.in_order(datamodule.rows[split], images=module.flips)
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
