"""Batches of photographs with findings and cues (S1.2, S1.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from fundusnet.data.augment import Augment
from fundusnet.data.labels import FindingLabels, finding_labels
from fundusnet.data.loading import Batch, Item, make_loader
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.splits import make_splits
from fundusnet.errors import UserError

SPLITS = ("train", "val", "test")


class FindingsDataModule(LightningDataModule):
    """A prepared set as train, validation and test batches.

    A batch is a dict: ``image`` uint8 (B, 3, S, S), a permuted view of pixels in HWC order, which is what torch calls
    channels_last; ``label`` float (B, F), NaN = undecided; ``cue`` float (B, F, h, w) of 0 and 1, NaN = unknown;
    ``index`` (B,), the row of the prepared set.

    Parameters
    ----------
    folder: folder of the prepared set.
    findings: the F findings, in the order of the label columns.
    feature_size: h = w of the network's maps, the size that cues are brought to.
    cue: "regions" (the paper's) or "pixels" (lesion masks).
    present: number of annotators from which on a finding counts as present (S1.2).
    batch_size, num_workers: per process.
    augment: arguments of :class:`~fundusnet.data.augment.Augment` for training images; None = none.
    fractions: shares of train, validation and test where no official split is given.
    split_by: "patient" or "image".
    seed: of splits, training order and augmentation.
    relabel: puts a set of another place, which is scored and not trained on, into the words of a run; None = the run's
        own. It may lack a finding, its splits need not hold every class, and all its images are a split too: ``all``.

    Attributes (after ``setup``)
    ----------------------------
    prepared, labels: the set and its labels. rows: split → rows of the prepared set; images that are undecided for
    every finding are in none.
    """

    prepared: PreparedSet
    labels: FindingLabels
    rows: dict[str, NDArray[np.int64]]

    def __init__(
        self,
        folder: str | Path,
        findings: Sequence[str],
        feature_size: int = 16,
        cue: Literal["regions", "pixels"] = "regions",
        present: int = 2,
        batch_size: int = 32,
        num_workers: int = 0,
        augment: Mapping[str, Any] | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
        split_by: Literal["patient", "image"] = "patient",
        seed: int = 0,
        relabel: Callable[[PreparedSet], PreparedSet] | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.findings = list(findings)
        self.feature_size = feature_size
        self.cue = cue
        self.present = present
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augment = None if augment is None else Augment(**augment)
        self.fractions = fractions
        self.split_by = split_by
        self.seed = seed
        self.relabel = relabel

    def setup(self, stage: str | None = None) -> None:
        """Open the set, label and split it; a second call does nothing.

        Raises
        ------
        UserError: a split is empty, or holds no positive or no negative image of a finding.
        """
        if hasattr(self, "rows"):
            return
        self.prepared = open_prepared(self.folder)
        if self.relabel:
            self.prepared = self.relabel(self.prepared)
        self.labels = finding_labels(
            self.prepared, self.findings, present=self.present, cue=self.cue, all_known=not self.relabel
        )
        decided = np.flatnonzero(~np.isnan(self.labels.label).all(axis=1))
        split = make_splits(
            self.prepared.manifest.images.iloc[decided].reset_index(drop=True),
            self.labels.label[decided],
            self.prepared.duplicate_group[decided],
            fractions=self.fractions,
            seed=self.seed,
            by=self.split_by,
        )
        rows = {name: decided[np.asarray(split) == name] for name in SPLITS}
        if self.relabel:
            rows["all"] = decided
        else:
            self._check(rows)
        self.rows = rows

    def train_dataloader(self) -> DataLoader[Item]:
        return self.loader("train", train=True)

    def val_dataloader(self) -> DataLoader[Item]:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Item]:
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader[Item]:
        """The test images."""
        return self.loader("test")

    def loader(self, split: str, train: bool = False) -> DataLoader[Item]:
        """Batches of a split: every image once and in order, or, for training, shuffled and augmented."""
        dataset = FindingsDataset(
            self.prepared,
            self.labels,
            self.rows[split],
            self.feature_size,
            self.augment if train else None,
            self.seed,
        )
        return make_loader(
            dataset, collate, self.batch_size, self.num_workers, self.seed, train=train, trainer=self.trainer
        )

    def _check(self, rows: Mapping[str, NDArray[np.int64]]) -> None:
        remedy = "prepare more images, change data.fractions or seed"
        for split, share in zip(SPLITS, self.fractions, strict=True):
            if len(rows[split]) == 0:
                if share == 0:
                    continue
                raise UserError(f"split '{split}' of {self.folder} has no image with a decided finding; {remedy}")
            label = self.labels.label[rows[split]]
            for column, finding in enumerate(self.findings):
                for value, word in ((1, "positive"), (0, "negative")):
                    if not (label[:, column] == value).any():
                        raise UserError(
                            f"split '{split}' has no {word} image of '{finding}' among {len(label)} in {self.folder};"
                            f" {remedy}, or leave the finding out"
                        )


class FindingsDataset(Dataset[Item]):
    """One photograph with its labels and cues an item, all as arrays, the image in HWC order.

    An item is asked for by position in ``rows``, or by (position, epoch): its augmentation is a function of the seed,
    the epoch and the row alone, so neither workers nor a resumed run change it.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        labels: FindingLabels,
        rows: NDArray[np.int64],
        feature_size: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.prepared = prepared
        self.labels = labels
        self.rows = rows
        self.feature_size = feature_size
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        position, epoch = key if isinstance(key, tuple) else (key, 0)
        row = int(self.rows[position])
        image, label = self.prepared.pixels[row], self.labels.label[row]
        planes = self.labels.packed_cue(row)
        if self.augment is not None:
            image, planes = self.augment(image, planes, np.random.default_rng((self.seed, epoch, row)))
        cue = np.unpackbits(pool(planes, self.feature_size), axis=0, count=len(label)).astype(np.float32)
        cue[~self.labels.cue_known[row]] = np.nan
        return {"image": image, "label": label, "cue": cue, "index": row}


def pool(planes: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Planes of bits (P, H, W) → (P, size, size): a cell holds every bit that any pixel under it holds (S1.2).

    Where ``size`` does not divide a side, a pixel on the seam lies under both cells.
    """
    _, height, width = planes.shape
    tall = np.stack([np.bitwise_or.reduce(planes[:, rows], axis=1) for rows in _cells(height, size)], axis=1)
    return np.stack([np.bitwise_or.reduce(tall[:, :, columns], axis=2) for columns in _cells(width, size)], axis=2)


def _cells(length: int, size: int) -> list[slice]:
    return [slice(cell * length // size, -(-(cell + 1) * length // size)) for cell in range(size)]


def collate(items: Sequence[Item]) -> Batch:
    """Items to a batch; pixels are put side by side once, in HWC order, and never transposed in memory."""
    return {
        "image": torch.from_numpy(np.stack([item["image"] for item in items])).permute(0, 3, 1, 2),
        "label": torch.from_numpy(np.stack([item["label"] for item in items]).astype(np.float32)),
        "cue": torch.from_numpy(np.stack([item["cue"] for item in items])),
        "index": torch.tensor([item["index"] for item in items]),
    }
