"""The masks that stage 2 is trained through: made once for each image, and by a model that did not see it (S2.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fundusnet.errors import UserError
from fundusnet.grading.datamodule import SPLITS, GradingDataModule
from fundusnet.grading.stage import RankingStage, scaled
from fundusnet.grading.two_stage import first_stage
from fundusnet.system.progress import track


def write_masks(
    file: Path,
    datamodule: GradingDataModule,
    stage1: RankingStage,
    of_folds: Iterable[RankingStage],
    mask: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Write the mask of every graded image to ``file``, and who made it to ``masks.csv`` beside it.

    ``file`` is a float16 array ``(N, h, w)``, a row for each of the prepared set, at the size of the activation maps:
    scaling comes before the bilinear upsampling, and averaging commutes with it, so nothing is lost by upsampling when
    an image is asked for. Rows without a grade stay zero. The masks come from pixels and predicted grades: labels have
    no way into them.

    Args:
        datamodule: set up, with its folds and without masks.
        stage1: fitted on all training images; makes the masks of validation and test images, and of the training images
            where there is one fold.
        of_folds: for each fold the model fitted on the others; loaded one after the other.
        mask: ``kind``, ``scale`` and ``floor`` as in ``fundusnet.grading.two_stage.first_stage``. With ``other``
            each image gets the mask of another one of its split.
        device: Where the models compute.
    """
    rows = datamodule.rows
    everyone = np.concatenate([rows[split] for split in SPLITS])
    made = _Masks(len(datamodule.prepared))
    own = everyone[datamodule.fold_of[everyone] < 0]
    made.add(own, *_look(stage1, datamodule, own, mask, device))
    for fold, model in enumerate(of_folds):
        unseen = everyone[datamodule.fold_of[everyone] == fold]
        made.add(unseen, *_look(model, datamodule, unseen, mask, device))
    if not made.done[everyone].all():
        raise ValueError("a model is needed for every fold")
    masks = made.masks
    if mask["kind"] == "other":
        masks = _exchanged(masks, [rows[split] for split in SPLITS], datamodule.seed)

    images = datamodule.prepared.manifest.images
    split_of = {int(row): split for split in SPLITS for row in rows[split]}
    pd.DataFrame(
        {
            "image_id": images["image_id"].iloc[everyone].to_numpy(),
            "split": [split_of[int(row)] for row in everyone],
            "fold": pd.array([fold if fold >= 0 else None for fold in datamodule.fold_of[everyone]], dtype="Int64"),
            "grade": datamodule.grade[everyone],
            "stage1_predicted": made.grade[everyone],
        }
    ).to_csv(file.with_suffix(".csv"), index=False)
    # Last and in one move: where this file is, the masks are complete.
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.save(stream, masks, allow_pickle=False)
    partial.replace(file)


class _Masks:
    """Masks and predicted grades by row of the prepared set; the size is that of the first that come."""

    def __init__(self, images: int) -> None:
        self.grade = np.full(images, -1, dtype=np.int64)
        self.done = np.zeros(images, dtype=bool)
        self.masks = np.zeros((images, 0, 0), dtype=np.float16)

    def add(self, rows: NDArray[np.int64], masks: NDArray[np.float16], grade: NDArray[np.int64]) -> None:
        if self.masks.size == 0:
            self.masks = np.zeros((len(self.grade), *masks.shape[1:]), dtype=np.float16)
        self.masks[rows], self.grade[rows], self.done[rows] = masks, grade, True


@torch.inference_mode()
def _look(
    model: RankingStage,
    datamodule: GradingDataModule,
    rows: NDArray[np.int64],
    mask: Mapping[str, Any],
    device: torch.device,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Masks ``(n, h, w)`` and predicted grades ``(n,)`` of these rows, from the images as they are."""
    network = model.to(device).eval().network
    # Another image's mask is the mask of its predicted grade, exchanged when all are there.
    options = {**mask, "kind": "predicted"} if mask["kind"] == "other" else dict(mask)
    masks, grades = [], []
    loader = datamodule.in_order(rows)
    for batch in track(loader, "masks", total=len(loader)):
        picture = scaled(batch["image"].to(device)).contiguous(memory_format=model.memory_format)
        answer = first_stage(network, picture, **options)
        masks.append(answer.mask[:, 0].cpu().numpy().astype(np.float16))
        grades.append(answer.grade.cpu().numpy())
    return np.concatenate(masks), np.concatenate(grades)


def _exchanged(masks: NDArray[np.float16], splits: list[NDArray[np.int64]], seed: int) -> NDArray[np.float16]:
    """Each image the mask of another of its split: around a ring in random order, so that nobody keeps its own."""
    exchanged = masks.copy()
    for rows in splits:
        if len(rows) == 1:
            raise UserError("mask.kind=other needs two images in each split; prepare more images")
        ring = np.random.default_rng((seed, len(rows))).permutation(rows)
        exchanged[ring] = masks[np.roll(ring, 1)]
    return exchanged
