"""Batches of graded photographs, with the masks of a first stage where there are any (S2.2-S2.5)."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.config.ranges import Count, NonNegativeInt
from fundusnet.data.augment import Augment
from fundusnet.data.datamodule import FundusDataModule, MaskedDataset
from fundusnet.data.loading import Item
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError
from fundusnet.grading.folds import assign_folds

log = logging.getLogger(__name__)


class GradingDataModule(FundusDataModule):
    """A prepared set as training, validation and test batches of graded images.

    A batch holds, besides ``image`` and ``index``: ``grade`` (B,) in 0 … K-1; with ``masks`` also ``mask`` float
    (B, 1, S, S) in [0, 1]. Images without a grade are left out.

    Args:
        folder: Folder of the prepared set.
        batch_size, num_workers, augment, views, folds, fold, split_by, seed, relabel: As in
            ``fundusnet.data.datamodule.FundusDataModule``.
        fractions: As in ``fundusnet.data.datamodule.FundusDataModule``; S2.4's are 0.68, 0.12, 0.2.
        mask_folds: Number of folds of the training images for masks (S2.5); 1 = none.
        left_out: Fold that is left out of training, so that the model has not seen its images; None = train on all.
        masks: File with the mask of each row of the prepared set, ``(N, h, w)`` at any size; None = no masks.

    Attributes:
        prepared, rows: As in ``fundusnet.data.datamodule.FundusDataModule``.
        grade: ``(N,)``, -1 = unknown.
        classes: Names of the K grades.
        fold_of: ``(N,)``, -1 for all but training images.
    """

    grade: NDArray[np.int64]
    classes: tuple[str, ...]
    fold_of: NDArray[np.int64]

    def __init__(
        self,
        folder: str | Path,
        batch_size: Count = 32,
        num_workers: NonNegativeInt | None = 0,
        augment: Augment | None = None,
        views: Count | None = None,
        fractions: tuple[float, float, float] = (0.68, 0.12, 0.2),
        folds: Count | None = None,
        fold: NonNegativeInt = 0,
        split_by: Literal["patient", "image"] = "patient",
        seed: int = 0,
        mask_folds: int = 1,
        left_out: int | None = None,
        masks: str | Path | None = None,
        relabel: Callable[[PreparedSet], PreparedSet] | None = None,
    ) -> None:
        super().__init__(
            folder, batch_size, num_workers, augment, views, fractions, folds, fold, split_by, seed, relabel
        )
        self.mask_folds = mask_folds
        self.left_out = left_out
        self.masks = None if masks is None else Path(masks)

    def read_labels(self) -> NDArray[np.float64]:
        grades = self.prepared.manifest.images["grade"]
        self.grade = grades.fillna(-1).to_numpy().astype(np.int64)
        self.classes = self.prepared.manifest.classes if self.relabel else self._named_grades()
        if unknown := int(grades.isna().sum()):
            log.info("%d of %d images have no grade and are left out", unknown, len(grades))
        return np.where(self.grade < 0, np.nan, self.grade)

    def check_split(self, split: str, rows: NDArray[np.int64]) -> None:
        """Refuse a split without an image of a grade."""
        found = set(self.grade[rows].tolist())
        for grade, name in enumerate(self.classes):
            if grade not in found:
                raise UserError(
                    f"split '{split}' has no image of grade {grade} ({name}) among {len(rows)} in {self.folder}; "
                    "prepare more images, change data.fractions or seed"
                )

    def split_rows(self, labels: NDArray[np.floating]) -> dict[str, NDArray[np.int64]]:
        """Split → rows of the images with a grade; deals the training images into folds and leaves one out."""
        rows = super().split_rows(labels)
        self.fold_of = np.full(len(labels), -1, dtype=np.int64)
        if self.mask_folds > 1:
            together = self.together()
            self.fold_of[rows["train"]] = assign_folds(
                self.grade[rows["train"]], together[rows["train"]], self.mask_folds, self.classes, self.seed
            )
        if self.left_out is not None:
            rows["train"] = rows["train"][self.fold_of[rows["train"]] != self.left_out]
        return rows

    def for_fit(self, left_out: int | None = None, masks: Path | None = None) -> GradingDataModule:
        """The same set and splits, for a fit without the training images of a fold, or with ``masks``."""
        self.setup()
        other = copy.copy(self)
        other.left_out, other.masks, other.trainer, other.features = left_out, masks, None, None
        train = self.rows["train"]
        other.rows = {**self.rows, "train": train if left_out is None else train[self.fold_of[train] != left_out]}
        return other

    def count_classes(self, rows: NDArray[np.int64]) -> dict[str, int]:
        """Images of each grade."""
        counts = np.bincount(self.grade[rows], minlength=len(self.classes)).tolist()
        return {f"grade {name}": count for name, count in zip(self.classes, counts, strict=True)}

    def make_dataset(self, rows: NDArray[np.int64], augment: Augment | None) -> GradingDataset:
        return GradingDataset(self.prepared, self.grade, rows, self.masks, augment, self.seed)

    @property
    def feature_home(self) -> tuple[Path, str]:
        """Beside the masks, where there are some: another run has others."""
        if self.masks is None:
            return super().feature_home
        return self.masks.parent, hashlib.sha256(self.masks.read_bytes()).hexdigest()

    @property
    def counts(self) -> list[int]:
        """Images of each grade that are trained on."""
        return list(self.count_classes(self.rows["train"]).values())

    def _named_grades(self) -> tuple[str, ...]:
        """Names of the K grades, the numbers where the source names none; every one of them has to occur."""
        found = np.unique(self.grade[self.grade >= 0])
        if len(found) < 2:
            what = f"only grade {found[0]}" if len(found) else "no grade at all"
            raise UserError(
                f"{self.folder} holds {what}, and grading needs two or more; fill the column grade of its source, "
                "or choose a graded one (data=keh, data=idrid data.options.task=grading, data=synthetic)"
            )
        classes = tuple(self.prepared.manifest.classes) or tuple(str(k) for k in range(int(found[-1]) + 1))
        for grade, name in enumerate(classes):
            if grade not in found:
                called = f" ({name})" if name != str(grade) else ""
                raise UserError(
                    f"grade {grade}{called} has no image in {self.folder}; grades are counted 0, 1, 2 … without a gap: "
                    "renumber them, or prepare images of it"
                )
        return classes


class GradingDataset(MaskedDataset):
    """Photographs with their grade, and their mask where there is one; a mask goes through the warp of its image."""

    PICTURED = MaskedDataset.PICTURED | {"mask"}

    def __init__(
        self,
        prepared: PreparedSet,
        grade: NDArray[np.int64],
        rows: NDArray[np.int64],
        masks: Path | None = None,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(prepared, rows, augment, seed)
        self.grade = grade
        self.masks = None if masks is None else np.load(masks, mmap_mode="r", allow_pickle=False)

    def read_masks(self, row: int) -> NDArray[np.float32]:
        size = (self.prepared.size, self.prepared.size)
        return np.zeros((0, *size), np.float32) if self.masks is None else upsampled(self.masks[row], size)[None]

    def make_item(self, row: int, masks: NDArray[np.float32]) -> Item:
        item = {"grade": self.grade[row]}
        return item if self.masks is None else item | {"mask": masks}


def upsampled(mask: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """``(h, w)`` → ``(H, W)``, bilinearly and by the rule of torch's ``interpolate`` without aligned corners."""
    return np.asarray(cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
