"""What the batches of every task share: a prepared set, its splits, its loaders and its augmentation (S1.5, S2.4)."""

from __future__ import annotations

import inspect
import logging
import math
from abc import abstractmethod
from collections.abc import Callable
from itertools import islice
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from fundusnet.config.ranges import Count, NonNegativeInt
from fundusnet.data.augment import Augment
from fundusnet.data.features import FeatureStore, FrozenNetwork, open_store
from fundusnet.data.loading import Batch, Item, Loader, make_loader
from fundusnet.data.manifest import SPLITS
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.relabel import relabelling
from fundusnet.data.splits import components, make_folds, make_splits, without_leaks
from fundusnet.errors import UserError
from fundusnet.networks.fusing import fused
from fundusnet.system.locks import folder_lock
from fundusnet.system.progress import track
from fundusnet.system.workers import cores

log = logging.getLogger(__name__)


def whole_picture(batch: Batch) -> tuple[torch.Tensor, ...]:
    """The images of a batch as they are, float ``(B, 3, S, S)`` in [0, 1]."""
    return (batch["image"].float().div(255),)


class FundusDataModule(LightningDataModule):
    """A prepared set as training, validation and test batches.

    A task says what its labels are (``read_labels``), which splits it cannot use (``check_split``) and what an item
    holds (``make_dataset``). A batch is a dict with at least ``image`` uint8 (B, 3, S, S), a permuted view of pixels in
    HWC order, which torch calls channels_last, and ``index`` (B,), the row of the prepared set.

    Args:
        folder: Folder of the prepared set.
        batch_size: Images of a batch, per process.
        num_workers: Processes that load images, per process; 0 = none; None = one a core, at most 8.
        augment: Augmentation of training images; None = none.
        views: Augmented views of an image, which repeat after so many epochs, so that a frozen backbone sees each once;
            None = a new one every epoch.
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
        num_workers: NonNegativeInt | None,
        augment: Augment | None,
        views: Count | None,
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
        self.num_workers = min(cores(), 8) if num_workers is None else num_workers
        self.augment = augment
        self.views = views
        self.fractions = fractions
        self.folds = folds
        self.fold = fold
        self.split_by = split_by
        self.seed = seed
        self.relabel = relabel
        self.features: FeatureStore | None = None

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
    def count_classes(self, rows: NDArray[np.int64]) -> dict[str, int]:
        """How many of these rows of the prepared set there are of each class, by its name."""

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
        # Over all images: those without a label join others, too.
        split = without_leaks(split, self.together()[labelled])
        rows = {name: labelled[split == name] for name in SPLITS}
        if self.relabel:
            return rows | {"all": labelled}
        if left_out := int((split == "").sum()):
            log.info("%d images left out: others of their patients, or near-duplicates, are in val or test", left_out)
        for name, share in zip(SPLITS, self.fractions, strict=True):
            if len(rows[name]):
                self.check_split(name, rows[name])
            elif share > 0:
                raise UserError(
                    f"split '{name}' of {self.folder} has no image with a label; prepare more images, change "
                    "data.fractions or seed"
                )
        return rows

    def together(self) -> NDArray[np.int64]:
        """One number for images of the prepared set, labelled or not, that must not be in two splits."""
        patients = self.prepared.manifest.images["patient_id"].tolist()
        known = patients if self.split_by == "patient" else [""] * len(patients)
        return components(known, self.prepared.duplicate_group)

    def scored_split(self) -> str:
        """The split that a training is scored on: test, or, with a warning, validation if there is no test image."""
        if len(self.rows["test"]):
            return "test"
        log.warning(
            "there is no test split (data.fractions=%s): the metrics are those of validation, which chose epoch and "
            "threshold, and are too good",
            list(self.fractions),
        )
        return "val"

    def describe_splits(self) -> list[str]:
        """Photographs, patients and classes of each split as lines of a table, for people; after ``setup``."""
        patients = self.prepared.manifest.images["patient_id"].to_numpy()
        columns = [
            {
                "photographs": len(self.rows[split]),
                "patients": len(set(patients[self.rows[split]]) - {""}),
                **self.count_classes(self.rows[split]),
            }
            for split in SPLITS
        ]
        names = [name for name in columns[0] if name != "patients" or any(patients)]
        width = max(len(name) for name in names)
        lines = [f"  {name:<{width}}" + "".join(f"{column[name]:>8}" for column in columns) for name in names]
        return [f"  {'':<{width}}" + "".join(f"{split:>8}" for split in SPLITS), *lines]

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

    def in_order(self, rows: NDArray[np.int64], images: bool = False) -> DataLoader[Item]:
        """Batches of these rows of the prepared set, each once, in order and not augmented.

        Args:
            rows: Of the prepared set.
            images: Load images even where their features are stored.
        """
        return self._make_loader(self.make_dataset(rows, None), images=images)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """``batch`` on ``device``; its images are augmented there if they were not yet."""
        there: Batch = super().transfer_batch_to_device(
            {name: value for name, value in batch.items() if name != "drawn"}, device, dataloader_idx
        )
        if "drawn" not in batch:
            return there
        assert self.augment is not None and self.augment.batch is not None
        return {**there, "image": self.augment.batch(there["image"], batch["drawn"])}

    @property
    def feature_home(self) -> tuple[Path, str]:
        """The folder of stored features, and what they depend on besides images, views and the network."""
        return self.prepared.folder, ""

    def store_features(
        self,
        network: FrozenNetwork,
        device: torch.device,
        inputs_of: Callable[[Batch], tuple[torch.Tensor, ...]] = whole_picture,
    ) -> None:
        """Compute the features of all images and views once, and load them in place of the images from now on.

        Does nothing where every epoch has new views.

        Args:
            network: Whose backbone is frozen, in evaluation mode, on ``device``.
            device: Where it computes.
            inputs_of: What ``network.extract`` takes of a batch on ``device``.
        """
        if self.augment is not None and self.views is None:
            return
        views = 0 if self.augment is None else self.views or 0
        picture = torch.from_numpy(np.array(self.prepared.pixels[:1])).permute(0, 3, 1, 2).to(device).float() / 255
        folder, besides = self.feature_home
        augmented = (self.augment, self.seed) if views else None
        depends = (augmented, besides) if besides else augmented
        wanted = self._wanted(views)
        keys = [key for _, places in wanted for key in places.values()]
        store = open_store(folder, network, picture, len(self.prepared), views, depends, keys)
        if store is None:
            return
        faster = None
        with folder_lock(store.folder, patience=math.inf), torch.inference_mode():  # of several processes one computes
            for dataset, places in wanted:
                missing = set(store.missing(places.values()))
                positions = [position for position, key in places.items() if key in missing]
                if not positions:
                    continue
                loader = Loader(dataset, sampler=cast(Any, positions), batch_size=2, num_workers=self.num_workers)
                ahead = iter(places[position] for position in positions)
                for batch in track(loader, "compute features", total=len(loader)):
                    extract = methodcaller("extract", *inputs_of(self.transfer_batch_to_device(batch, device, 0)))
                    if faster is None:
                        faster = fused(network, extract)
                    store.write(list(islice(ahead, len(batch["index"]))), extract(faster))
        self.features = store

    def _wanted(self, views: int) -> list[tuple[FundusDataset, dict[tuple[int, int], tuple[int, int]]]]:
        """The images of each split, and where a store has their features: (position, epoch) → (row, view).

        Only training images are seen augmented, in ``views`` views.
        """
        found = []
        for split in SPLITS:
            augmented = bool(views) and split == "train"
            dataset = self.make_dataset(self.rows[split], self.augment if augmented else None)
            if augmented:
                dataset.views = self.views
            places = {
                (position, epoch): (int(row), dataset.view(epoch))
                for epoch in range(views if augmented else 1)
                for position, row in enumerate(dataset.rows)
            }
            found.append((dataset, places))
        return found

    def _make_loader(self, dataset: FundusDataset, train: bool = False, images: bool = False) -> DataLoader[Item]:
        dataset.views = self.views
        if self.features and not images:
            views = range(dataset.view(0), dataset.view(0) + (self.views or 1 if dataset.augment else 1))
            if not self.features.missing((int(row), view) for row in dataset.rows for view in views):
                dataset.features = self.features
        return make_loader(dataset, self.batch_size, self.num_workers, self.seed, train=train, trainer=self.trainer)


class FundusDataset(Dataset[Item]):
    """The images of some rows of a prepared set, with what a task knows of each, as arrays; images in HWC order.

    An item is asked for by position in ``rows``, or by (position, epoch): its augmentation is a function of the seed,
    the epoch and the row alone, so neither workers nor a resumed run change it.

    Attributes:
        views: As in ``FundusDataModule``.
        features: What to load in place of images; None = images.
    """

    #: entries of an item that only a backbone sees
    PICTURED = frozenset({"image", "drawn"})

    def __init__(
        self, prepared: PreparedSet, rows: NDArray[np.int64], augment: Augment | None = None, seed: int = 0
    ) -> None:
        self.prepared = prepared
        self.rows = rows
        self.augment = augment
        self.seed = seed
        self.views: int | None = None
        self.features: FeatureStore | None = None
        self._items: dict[tuple[int, int], Item] = {}

    @abstractmethod
    def load_item(self, row: int, view: int) -> Item:
        """The item of a row of the prepared set in one view of it."""

    def view(self, epoch: int) -> int:
        """The number of the view of an epoch: 0 is the image as it is."""
        if self.augment is None:
            return 0
        return 1 + (epoch % self.views if self.views else epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        position, epoch = key if isinstance(key, tuple) else (key, 0)
        row, view = int(self.rows[position]), self.view(epoch)
        if self.features is None:
            return self.load_item(row, view)
        if (row, view) not in self._items:  # labels and cues of a view are as good as its features when it returns
            loaded = self.load_item(row, view)
            self._items[row, view] = {name: value for name, value in loaded.items() if name not in self.PICTURED}
        return {**self._items[row, view], **self.features.read(row, view)}

    def generator(self, row: int, view: int) -> np.random.Generator:
        """The random numbers that augment ``row`` in ``view``."""
        return np.random.default_rng((self.seed, view - 1, row))


class MaskedDataset(FundusDataset):
    """Images with masks that are warped as they are."""

    @abstractmethod
    def read_masks(self, row: int) -> NDArray[Any]:
        """``(M, S, S)``: what is warped with the image of ``row``, as ``Augment`` takes it; M may be 0."""

    @abstractmethod
    def make_item(self, row: int, masks: NDArray[Any]) -> Item:
        """What an item holds besides ``image`` and ``index``, given its masks after augmentation."""

    def load_item(self, row: int, view: int) -> Item:
        picture, masks = {"image": self.prepared.pixels[row]}, self.read_masks(row)
        if self.augment is not None:
            picture, masks = self.augment(picture["image"], masks, self.generator(row, view))
        return {**picture, "index": row, **self.make_item(row, masks)}
