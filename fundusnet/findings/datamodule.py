"""Batches of photographs with findings and cues (S1.2, S1.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fundusnet.config.ranges import Count, NonNegativeInt
from fundusnet.data.augment import Augment
from fundusnet.data.datamodule import FundusDataModule, MaskedDataset
from fundusnet.data.labels import FindingLabels, finding_labels
from fundusnet.data.loading import Item
from fundusnet.data.prepared import PreparedSet
from fundusnet.errors import UserError


class FindingsDataModule(FundusDataModule):
    """A prepared set as training, validation and test batches of findings.

    A batch holds, besides ``image`` and ``index``: ``label`` float (B, F), NaN = undecided; ``cue`` float (B, F, h, w)
    of 0 and 1, NaN = unknown. Images that are undecided for every finding are left out.

    Args:
        folder: Folder of the prepared set.
        findings: The F findings, in the order of the label columns.
        feature_size: h = w of the network's maps, the size that cues are brought to.
        cue: "regions" (the paper's) or "pixels" (lesion masks).
        present: Number of annotators who must mark a finding before it counts as present (S1.2).
        batch_size, num_workers, augment, views, fractions, folds, fold, split_by, seed, relabel: As in
            ``fundusnet.data.datamodule.FundusDataModule``.

    Attributes:
        prepared, rows: As in ``fundusnet.data.datamodule.FundusDataModule``.
        labels: The labels of the prepared set, after ``setup``.
    """

    labels: FindingLabels

    def __init__(
        self,
        folder: str | Path,
        findings: Sequence[str],
        feature_size: int = 16,
        cue: Literal["regions", "pixels"] = "regions",
        present: Count = 2,
        batch_size: Count = 32,
        num_workers: NonNegativeInt | None = 0,
        augment: Augment | None = None,
        views: Count | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
        folds: Count | None = None,
        fold: NonNegativeInt = 0,
        split_by: Literal["patient", "image"] = "patient",
        seed: int = 0,
        relabel: Callable[[PreparedSet], PreparedSet] | None = None,
    ) -> None:
        super().__init__(
            folder, batch_size, num_workers, augment, views, fractions, folds, fold, split_by, seed, relabel
        )
        self.findings = list(findings)
        self.feature_size = feature_size
        self.cue = cue
        self.present = present

    def read_labels(self) -> NDArray[np.float32]:
        self.labels = finding_labels(
            self.prepared, self.findings, present=self.present, cue=self.cue, all_known=not self.relabel
        )
        return self.labels.label

    def check_split(self, split: str, rows: NDArray[np.int64]) -> None:
        """Refuse a split without a positive or without a negative image of a finding."""
        label = self.labels.label[rows]
        for column, finding in enumerate(self.findings):
            for value, word in ((1, "positive"), (0, "negative")):
                if not (label[:, column] == value).any():
                    count = int((self.labels.label[:, column] == value).sum())
                    raise UserError(
                        f"split '{split}' has no {word} image of '{finding}' among {len(label)} in {self.folder}; the "
                        f"whole set has {count}, and each split needs one of a patient of its own: prepare more "
                        "images, change data.fractions, or leave the finding out"
                    )

    def count_classes(self, rows: NDArray[np.int64]) -> dict[str, int]:
        """Images with each finding, without it, and where it is undecided."""
        counts: dict[str, int] = {}
        for column, finding in enumerate(self.findings):
            label = self.labels.label[rows, column]
            counts |= {finding: int((label == 1).sum()), f"no {finding}": int((label == 0).sum())}
            if len(self.findings) > 1 and np.isnan(self.labels.label[:, column]).any():  # of one they are left out
                counts[f"{finding} undecided"] = int(np.isnan(label).sum())
        return counts

    def make_dataset(self, rows: NDArray[np.int64], augment: Augment | None) -> FindingsDataset:
        return FindingsDataset(self.prepared, self.labels, rows, self.feature_size, augment, self.seed)


class FindingsDataset(MaskedDataset):
    """Photographs with their labels and cues."""

    def __init__(
        self,
        prepared: PreparedSet,
        labels: FindingLabels,
        rows: NDArray[np.int64],
        feature_size: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(prepared, rows, augment, seed)
        self.labels = labels
        self.feature_size = feature_size

    def read_masks(self, row: int) -> NDArray[np.uint8]:
        return self.labels.packed_cue(row)

    def make_item(self, row: int, masks: NDArray[np.uint8]) -> Item:
        label = self.labels.label[row]
        cue = np.unpackbits(pool(masks, self.feature_size), axis=0, count=len(label)).astype(np.float32)
        cue[~self.labels.cue_known[row]] = np.nan
        return {"label": label, "cue": cue}


def pool(planes: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Planes of bits (P, H, W) → (P, size, size): a cell holds every bit that any pixel under it holds (S1.2).

    Where ``size`` does not divide a side, a pixel on the seam lies under both cells.
    """
    _, height, width = planes.shape
    tall = np.stack([np.bitwise_or.reduce(planes[:, rows], axis=1) for rows in _cells(height, size)], axis=1)
    return np.stack([np.bitwise_or.reduce(tall[:, :, columns], axis=2) for columns in _cells(width, size)], axis=2)


def _cells(length: int, size: int) -> list[slice]:
    return [slice(cell * length // size, -(-(cell + 1) * length // size)) for cell in range(size)]
