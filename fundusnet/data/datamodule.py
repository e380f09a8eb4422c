"""What the batches of every task share: a prepared set, its splits, its loaders and its augmentation (S1.5, S2.4)."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from fundusnet.config.ranges import Count, NonNegativeInt
from fundusnet.data.augment import Augment
from fundusnet.data.loading import Item, make_loader
from fundusnet.data.manifest import SPLITS
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.relabel import relabelling
from fundusnet.data.splits import make_folds, make_splits
from fundusnet.errors import UserError


class FundusDataModule(LightningDataModule):
    """A prepared set as training, validation and test batches.

    A task says what its labels are (``read_labels``), which splits it cannot use (``check_split``) and what an item
    holds (``make_dataset``). A batch is a dict with at least ``image`` uint8 (B, 3, S, S), a permuted view of pixels in
    HWC order, which torch calls channels_last, and ``index`` (B,), the row of the prepared set.

    Args:
        folder: Folder of the prepared set.
        batch_size: Images of a batch, per process.
        num_workers: Processes that load images, per process; 0 = none.
        augment: Augmentation of training images; None = none.
        fractions: Shares of train, validation and test where the source has no official split.
        folds: Number of folds of cross-validation, in which official splits are ignored; None = a single split.
        fold: The fold that is the test split, 0 … ``folds`` - 1; validation has its share of ``fractions``.
        split_by: Keep the images of a patient in one split ("patient"), or not ("image").
        seed: Seed of splits, training order and augmentation.
        relabel: Maps a set from elsewhere, which is scored and not trained on, to the labels of a run; None = the
            run's own set. Such a set may lack a label, its splits need not hold every class, and all its images are
            one more split, ``all``.

    Attributes:
        prepared: The set, after ``setup``.
        rows: Split → rows of the prepared set, after ``setup``; images without any label are in none.
    """

    prepared: PreparedSet
    rows: dict[str, NDArray[np.int64]]

    def __init__(
        self,
        folder: str | Path,
        batch_size: Count,
        num_workers: NonNegativeInt,
        augment: Augment | None,
        fractions: tuple[float, float, float],
        folds: Count | None,
        fold: NonNegativeInt,
        split_by: Literal["patient", "image"],
        seed: int,
        relabel: Callable[[PreparedSet], PreparedSet] | None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augment = augment
        self.fractions = fractions
        self.folds = folds
        self.fold = fold
        self.split_by = split_by
        self.seed = seed
        self.relabel = relabel

    @classmethod
    def from_config(cls, cfg: DictConfig, **extra: Any) -> Self:
        """The data of a configuration whose set is prepared already.

        Args:
            cfg: ``data``, whose keys are arguments of the constructor or shaped the set; ``seed``, and ``evaluated``
                for a set that a run is only scored on.
            **extra: Arguments that the configuration does not hold; ``augment`` at least.
        """
        data: Any = OmegaConf.to_container(cfg.data, resolve=True)
        known = inspect.signature(cls).parameters
        options = {key: value for key, value in data.items() if key in known}
        return cls(**{**options, "seed": cfg.seed, "relabel": relabelling(cfg), **extra})

    @abstractmethod
    def read_labels(self) -> NDArray[np.floating]:
        """Labels of ``prepared``, ``(N,)`` or ``(N, C)``; NaN = unknown. Called once, before the set is split."""

    @abstractmethod
    def check_split(self, split: str, rows: NDArray[np.int64]) -> None:
        """Raise UserError if the rows of ``split`` (at least one) cannot be learnt from or scored."""

    @abstractmethod
    def make_dataset(self, rows: NDArray[np.int64], augment: Augment | None) -> FundusDataset:
        """The items of these rows of the prepared set."""

    def setup(self, stage: str | None = None) -> None:
        """Open the set, label and split it; a second call does nothing.

        Raises:
            UserError: A split with a share above 0 is empty, or the task cannot use the labels or a split.
        """
        if hasattr(self, "rows"):
            return
        self.prepared = open_prepared(self.folder)
        if self.relabel:
            self.prepared = self.relabel(self.prepared)
        self.rows = self.split_rows(self.read_labels())

    def split_rows(self, labels: NDArray[np.floating]) -> dict[str, NDArray[np.int64]]:
        """Split → rows of the images with a label."""
        labelled = np.flatnonzero(~np.isnan(labels.reshape(len(labels), -1)).all(axis=1))
        images = self.prepared.manifest.images.iloc[labelled].reset_index(drop=True)
        groups = self.prepared.duplicate_group[labelled]
        common: dict[str, Any] = {"seed": self.seed, "by": self.split_by}
        if self.folds and not self.relabel:
            share = self.fractions[1] / sum(self.fractions)
            split = make_folds(images, labels[labelled], groups, folds=self.folds, fold=self.fold, val=share, **common)
        else:
            split = make_splits(images, labels[labelled], groups, fractions=self.fractions, **common)
        rows = {name: labelled[split == name] for name in SPLITS}
        if self.relabel:
            return rows | {"all": labelled}
        for name, share in zip(SPLITS, self.fractions, strict=True):
            if len(rows[name]):
                self.check_split(name, rows[name])
            elif share > 0:
                raise UserError(
                    f"split '{name}' of {self.folder} has no image with a label; prepare more images, change "
                    "data.fractions or seed"
                )
        return rows

    def train_dataloader(self) -> DataLoader[Item]:
        """The training images, shuffled and augmented."""
        return self._make_loader(self.make_dataset(self.rows["train"], self.augment), train=True)

    def val_dataloader(self) -> DataLoader[Item]:
        """The validation images, in order."""
        return self.in_order(self.rows["val"])

    def test_dataloader(self) -> DataLoader[Item]:
        """The test images, in order."""
        return self.in_order(self.rows["test"])

    def predict_dataloader(self) -> DataLoader[Item]:
        """The test images, in order."""
        return self.test_dataloader()

    def in_order(self, rows: NDArray[np.int64]) -> DataLoader[Item]:
        """Batches of these rows of the prepared set, each once, in order and not augmented."""
        return self._make_loader(self.make_dataset(rows, None))

    def _make_loader(self, dataset: FundusDataset, train: bool = False) -> DataLoader[Item]:
        return make_loader(dataset, self.batch_size, self.num_workers, self.seed, train=train, trainer=self.trainer)


class FundusDataset(Dataset[Item]):
    """The images of some rows of a prepared set, with what a task knows of each, as arrays; images in HWC order.

    An item is asked for by position in ``rows``, or by (position, epoch): its augmentation is a function of the seed,
    the epoch and the row alone, so neither workers nor a resumed run change it.
    """

    def __init__(
        self, prepared: PreparedSet, rows: NDArray[np.int64], augment: Augment | None = None, seed: int = 0
    ) -> None:
        self.prepared = prepared
        self.rows = rows
        self.augment = augment
        self.seed = seed

    @abstractmethod
    def read_masks(self, row: int) -> NDArray[Any]:
        """``(M, S, S)``: what is warped with the image of ``row``, as ``Augment`` takes it; M may be 0."""

    @abstractmethod
    def make_item(self, row: int, masks: NDArray[Any]) -> Item:
        """What an item holds besides ``image`` and ``index``, given its masks after augmentation."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        position, epoch = key if isinstance(key, tuple) else (key, 0)
        row = int(self.rows[position])
        image, masks = self.prepared.pixels[row], self.read_masks(row)
        if self.augment is not None:
            image, masks = self.augment(image, masks, np.random.default_rng((self.seed, epoch, row)))
        return {"image": image, "index": row, **self.make_item(row, masks)}
