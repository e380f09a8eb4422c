"""The masks that stage 2 is trained with: made once for each image, by a model that did not see it (S2.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fundusnet.data.manifest import SPLITS
from fundusnet.errors import UserError
from fundusnet.grading.datamodule import GradingDataModule
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
    """Write the mask of every graded image to ``file``, and the model it comes from to a CSV file of the same name.

    ``file`` is a float16 array ``(N, h, w)``, a row for each of the prepared set, at the size of the activation maps.
    They are upsampled when an image is loaded, which loses nothing: scaling comes before the bilinear upsampling, and
    averaging commutes with it. Rows without a grade stay zero. Masks depend on pixels and predicted grades, never on
    labels.

    Args:
        file: Array to write, with the suffix ``.npy``.
        datamodule: Set up, with its folds and without masks.
        stage1: Fitted on all training images; makes the masks of validation and test images, and with a single fold
            those of the training images.
        of_folds: For each fold the model fitted on the others; loaded one after the other.
        mask: ``kind``, ``scale`` and ``floor`` as in ``fundusnet.grading.two_stage.first_stage``. With ``other``
            each image gets the mask of another one of its split.
        device: Where the models compute.

    Raises:
        ValueError: A fold has no model.
        UserError: With ``other``, a split holds a single image.
    """
    rows = datamodule.rows
    graded = np.concatenate([rows[split] for split in SPLITS])
    made = _Masks(len(datamodule.prepared))
    in_no_fold = graded[datamodule.fold_of[graded] < 0]
    made.add(in_no_fold, *_make_masks(stage1, datamodule, in_no_fold, mask, device))
    for fold, model in enumerate(of_folds):
        unseen = graded[datamodule.fold_of[graded] == fold]
        made.add(unseen, *_make_masks(model, datamodule, unseen, mask, device))
    if not made.done[graded].all():
        raise ValueError("a model is needed for every fold")
    masks = made.masks
    if mask["kind"] == "other":
        masks = _exchange(masks, [rows[split] for split in SPLITS], datamodule.seed)

    images = datamodule.prepared.manifest.images
    split_of = {int(row): split for split in SPLITS for row in rows[split]}
    pd.DataFrame(
        {
            "image_id": images["image_id"].iloc[graded].to_numpy(),
            "split": [split_of[int(row)] for row in graded],
            "fold": pd.array([fold if fold >= 0 else None for fold in datamodule.fold_of[graded]], dtype="Int64"),
            "grade": datamodule.grade[graded],
            "stage1_predicted": made.grade[graded],
        }
    ).to_csv(file.with_suffix(".csv"), index=False)
    # Last and atomically: if this file exists, the masks are complete.
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.save(stream, masks, allow_pickle=False)
    partial.replace(file)


class _Masks:
    """Masks and predicted grades by row of the prepared set; the first masks that are added set the size."""

    def __init__(self, images: int) -> None:
        self.grade = np.full(images, -1, dtype=np.int64)
        self.done = np.zeros(images, dtype=bool)
        self.masks = np.zeros((images, 0, 0), dtype=np.float16)

    def add(self, rows: NDArray[np.int64], masks: NDArray[np.float16], grade: NDArray[np.int64]) -> None:
        if self.masks.size == 0:
            self.masks = np.zeros((len(self.grade), *masks.shape[1:]), dtype=np.float16)
        self.masks[rows], self.grade[rows], self.done[rows] = masks, grade, True


@torch.inference_mode()
def _make_masks(
    model: RankingStage,
    datamodule: GradingDataModule,
    rows: NDArray[np.int64],
    mask: Mapping[str, Any],
    device: torch.device,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Masks ``(n, h, w)`` and predicted grades ``(n,)`` of these rows, from images without augmentation."""
    network = model.to(device).eval().network
    # Another image's mask is that of its predicted grade; they are exchanged at the end.
    options = {**mask, "kind": "predicted"} if mask["kind"] == "other" else dict(mask)
    masks, grades = [], []
    loader = datamodule.in_order(rows, images=True)
    for batch in track(loader, "masks", total=len(loader)):
        picture = scaled(batch["image"].to(device)).contiguous(memory_format=model.memory_format)
        answer = first_stage(network, picture, **options)
        masks.append(answer.mask[:, 0].cpu().numpy().astype(np.float16))
        grades.append(answer.grade.cpu().numpy())
    return np.concatenate(masks), np.concatenate(grades)


def _exchange(masks: NDArray[np.float16], splits: list[NDArray[np.int64]], seed: int) -> NDArray[np.float16]:
    """Give each image the mask of the next one of its split in a random cyclic order, so that none keeps its own."""
    exchanged = masks.copy()
    for rows in splits:
        if len(rows) == 1:
            raise UserError("mask.kind=other needs two images in each split; prepare more images")
        ring = np.random.default_rng((seed, len(rows))).permutation(rows)
        exchanged[ring] = masks[np.roll(ring, 1)]
    return exchanged
