"""Batches of graded photographs, with the masks of a first stage where there are any (S2.2-S2.5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from fundusnet.data.augment import Augment
from fundusnet.data.loading import Batch, Item, make_loader
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.splits import components, make_splits
from fundusnet.errors import UserError
from fundusnet.grading.folds import assign_folds

SPLITS = ("train", "val", "test")
log = logging.getLogger(__name__)


class GradingDataModule(LightningDataModule):
    """A prepared set as train, validation and test batches of graded images.

    A batch is a dict: ``image`` uint8 (B, 3, S, S), a permuted view of pixels in HWC order; ``grade`` (B,) in
    0 … K-1; ``index`` (B,), the row of the prepared set; with ``masks`` also ``mask`` float (B, 1, S, S) in [0, 1].

    Args:
        folder: folder of the prepared set.
        batch_size, num_workers: per process.
        augment: arguments of ``fundusnet.data.augment.Augment`` for training images; None = none.
        fractions: shares of train, validation and test where no official split is given; S2.4's are 0.68, 0.12, 0.2.
        split_by: "patient" or "image".
        seed: of splits, folds, training order and augmentation.
        folds: number of folds of the training images; 1 = none.
        fold: this fold takes no part in training: its images are for the model that did not see them; None = train on
            all.
        masks: file with the mask of each row of the prepared set, ``(N, h, w)`` at any size; None = no masks.
        relabel: puts a set of another place, which is scored and not trained on, into the words of a run; None = the
            run's own. It may lack a grade, its splits need not hold every class, and all its images are a split too:
            ``all``.

    Attributes:
        prepared: the set. grade: ``(N,)``, -1 = unknown. classes: names of the K grades. rows: split → rows of the
            prepared set; images without a grade are in none. fold_of: ``(N,)``, -1 for all but training images.
    """

    prepared: PreparedSet
    grade: NDArray[np.int64]
    classes: tuple[str, ...]
    rows: dict[str, NDArray[np.int64]]
    fold_of: NDArray[np.int64]

    def __init__(
        self,
        folder: str | Path,
        batch_size: int = 32,
        num_workers: int = 0,
        augment: Mapping[str, Any] | None = None,
        fractions: tuple[float, float, float] = (0.68, 0.12, 0.2),
        split_by: Literal["patient", "image"] = "patient",
        seed: int = 0,
        folds: int = 1,
        fold: int | None = None,
        masks: str | Path | None = None,
        relabel: Callable[[PreparedSet], PreparedSet] | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augment = None if augment is None else Augment(**augment)
        self.fractions = fractions
        self.split_by = split_by
        self.seed = seed
        self.folds = folds
        self.fold = fold
        self.masks = None if masks is None else Path(masks)
        self.relabel = relabel

    def setup(self, stage: str | None = None) -> None:
        """Open the set and split it; a second call does nothing.

        Raises:
            UserError: there are fewer than two grades, a grade has no image in a split, or folds are not possible.
        """
        if hasattr(self, "rows"):
            return
        self.prepared = open_prepared(self.folder)
        if self.relabel:
            self.prepared = self.relabel(self.prepared)
        images = self.prepared.manifest.images
        known = images["grade"].notna().to_numpy()
        self.grade = images["grade"].fillna(-1).to_numpy().astype(np.int64)
        self.classes = self.prepared.manifest.classes if self.relabel else self._named_grades()
        graded = np.flatnonzero(known)
        if len(graded) < len(images):
            log.info("%d of %d images have no grade and are left out", len(images) - len(graded), len(images))
        split = make_splits(
            images.iloc[graded].reset_index(drop=True),
            self.grade[graded].astype(np.float64),
            self.prepared.duplicate_group[graded],
            fractions=self.fractions,
            seed=self.seed,
            by=self.split_by,
        )
        rows = {name: graded[split == name] for name in SPLITS}
        if self.relabel:
            rows["all"] = graded
        else:
            self._check(rows)
        self.fold_of = np.full(len(images), -1, dtype=np.int64)
        if self.folds > 1:
            patients = images["patient_id"].tolist() if self.split_by == "patient" else [""] * len(images)
            together = components(patients, self.prepared.duplicate_group)[rows["train"]]
            self.fold_of[rows["train"]] = assign_folds(
                self.grade[rows["train"]], together, self.folds, self.classes, self.seed
            )
        if self.fold is not None:
            rows["train"] = rows["train"][self.fold_of[rows["train"]] != self.fold]
        self.rows = rows

    @property
    def counts(self) -> list[int]:
        """Images of each grade that are trained on."""
        counted: list[int] = np.bincount(self.grade[self.rows["train"]], minlength=len(self.classes)).tolist()
        return counted

    def train_dataloader(self) -> DataLoader[Item]:
        dataset = GradingDataset(self.prepared, self.grade, self.rows["train"], self.masks, self.augment, self.seed)
        return make_loader(
            dataset, collate, self.batch_size, self.num_workers, self.seed, train=True, trainer=self.trainer
        )

    def val_dataloader(self) -> DataLoader[Item]:
        return self.in_order(self.rows["val"])

    def test_dataloader(self) -> DataLoader[Item]:
        return self.in_order(self.rows["test"])

    def predict_dataloader(self) -> DataLoader[Item]:
        """The test images."""
        return self.test_dataloader()

    def in_order(self, rows: NDArray[np.int64]) -> DataLoader[Item]:
        """Batches of these rows of the prepared set, each once, in order and as they are."""
        dataset = GradingDataset(self.prepared, self.grade, rows, self.masks)
        return make_loader(dataset, collate, self.batch_size, self.num_workers, self.seed, trainer=self.trainer)

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

    def _check(self, rows: Mapping[str, NDArray[np.int64]]) -> None:
        for split, share in zip(SPLITS, self.fractions, strict=True):
            if len(rows[split]) == 0 and share == 0:
                continue
            found = set(self.grade[rows[split]].tolist())
            for grade, name in enumerate(self.classes):
                if grade not in found:
                    raise UserError(
                        f"split '{split}' has no image of grade {grade} ({name}) among {len(rows[split])} in "
                        f"{self.folder}; prepare more images, change data.fractions or seed"
                    )


class GradingDataset(Dataset[Item]):
    """One photograph with its grade, and its mask where there is one, an item.

    An item is asked for by position in ``rows``, or by (position, epoch): its augmentation is a function of the seed,
    the epoch and the row alone. The mask goes through the warp of its image.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        grade: NDArray[np.int64],
        rows: NDArray[np.int64],
        masks: Path | None = None,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.prepared = prepared
        self.grade = grade
        self.rows = rows
        self.masks = None if masks is None else np.load(masks, mmap_mode="r", allow_pickle=False)
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        position, epoch = key if isinstance(key, tuple) else (key, 0)
        row = int(self.rows[position])
        image = self.prepared.pixels[row]
        size = image.shape[:2]
        mask = np.zeros((0, *size), dtype=np.float32) if self.masks is None else upsampled(self.masks[row], size)[None]
        if self.augment is not None:
            image, mask = self.augment(image, mask, np.random.default_rng((self.seed, epoch, row)))
        item = {"image": image, "grade": self.grade[row], "index": row}
        return item if self.masks is None else item | {"mask": mask}


def upsampled(mask: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """``(h, w)`` → ``(H, W)``, bilinearly and by the rule of torch's ``interpolate`` without aligned corners."""
    return np.asarray(cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def collate(items: Sequence[Item]) -> Batch:
    """Items to a batch; pixels are put side by side once, in HWC order, and never transposed in memory."""
    batch = {
        "image": torch.from_numpy(np.stack([item["image"] for item in items])).permute(0, 3, 1, 2),
        "grade": torch.tensor([int(item["grade"]) for item in items]),
        "index": torch.tensor([item["index"] for item in items]),
    }
    if "mask" in items[0]:
        batch["mask"] = torch.from_numpy(np.stack([item["mask"] for item in items]))
    return batch
