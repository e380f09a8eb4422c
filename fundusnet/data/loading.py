"""Data loaders whose training order a resumed run reproduces."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from fundusnet.errors import UserError
from fundusnet.system.workers import begin_worker, group_signals_blocked

Item = dict[str, Any]
SHARED_MEMORY = "/dev/shm"
ENOUGH = 4e9  # bytes, beyond which nothing is measured
Batch = dict[str, torch.Tensor]


def make_loader(
    dataset: Dataset[Item],
    batch_size: int,
    num_workers: int,
    seed: int,
    *,
    train: bool = False,
    trainer: Trainer | None = None,
) -> DataLoader[Item]:
    """Batches of ``dataset``: every item once and in order, or, for training, in a new order every epoch.

    Args:
        batch_size: Items of a batch, per process.
        num_workers: Processes that load items, per process; 0 = none.
        seed: Seed of the order.
        trainer: Gives the number of processes, and the position to resume from; None = one process.

    Raises:
        UserError: There are more processes than items.
    """
    check_shared_memory(dataset, batch_size, num_workers)
    rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    settings: dict[str, Any] = {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        # Without its own generator a loader draws from the global one: dropout would differ after a resume.
        "generator": torch.Generator().manual_seed(seed),
    }
    if not train:
        if world > 1:
            return Loader(dataset, batch_sampler=ShareInOrder(dataset, batch_size, rank, world), **settings)
        return Loader(dataset, batch_size=batch_size, **settings)
    sampler = EpochSampler(dataset, num_replicas=world, rank=rank, seed=seed)
    # Batch normalisation needs more than one item.
    single = len(sampler) > batch_size > 1 and len(sampler) % batch_size == 1
    loader = ResumableLoader(dataset, sampler=sampler, batch_size=batch_size, drop_last=single, **settings)
    loader.trainer = trainer
    return loader


def check_shared_memory(dataset: Dataset[Item], batch_size: int, num_workers: int) -> None:
    """Refuse workers whose batches do not fit into the shared memory through which they come.

    Raises:
        UserError: As in a container with Docker's default of 64 MB.
    """
    place = Path(SHARED_MEMORY)
    if not num_workers or not place.is_dir() or not len(dataset):  # type: ignore[arg-type]
        return
    room = shutil.disk_usage(place).total
    if room >= ENOUGH:
        return
    item = dataset[0]
    needed = num_workers * 2 * batch_size * sum(np.asarray(value).nbytes for value in item.values())  # 2: prefetched
    if needed > room:
        raise UserError(
            f"{place} holds {room / 1e6:.0f} MB, and the batches of {num_workers} workers need {needed / 1e6:.0f} MB; "
            f"start the container with --shm-size={math.ceil(2 * needed / 1e9)}g, or set data.num_workers=0"
        )


def end_workers(loader: object) -> None:
    """End the processes that load for ``loader``; otherwise they live until garbage collection or the end of Python."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None  # type: ignore[attr-defined]


def collate(items: Sequence[Item]) -> Batch:
    """Stack items to a batch; the image is a permuted view, so pixels stay in HWC order in memory."""
    batch = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
    return batch | {"image": batch["image"].permute(0, 3, 1, 2)} if "image" in batch else batch


class EpochSampler(DistributedSampler[Item]):
    """A new order every epoch, which depends on (seed, epoch) only; yields (position, epoch).

    The epoch is passed with the position because persistent workers hold a copy of the dataset that cannot be told of a
    new epoch. A DistributedSampler, so that Lightning does not replace it.
    """

    skip = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]  # torch: items are asked for by position
        size = len(self.dataset)  # type: ignore[arg-type]  # torch: Dataset has no __len__
        order = np.random.default_rng((self.seed, self.epoch)).permutation(size)
        mine = np.resize(order, self.total_size)[self.rank :: self.num_replicas]
        epoch = self.epoch
        yield from ((int(position), epoch) for position in mine[self.skip :])


class ShareInOrder(Sampler[list[int]]):
    """Batches of one process's share of the items: each item in one process only, the same number of batches in each.

    DistributedSampler repeats some items, which would count twice in metrics.
    """

    def __init__(self, dataset: Dataset[Item], batch_size: int, rank: int, world: int) -> None:
        size = len(dataset)  # type: ignore[arg-type]  # torch: Dataset has no __len__
        if size < world:
            raise UserError(f"{world} processes cannot share {size} photographs; use fewer devices")
        # Where shares differ by one, a batch may be one larger than ``batch_size``, so that none is empty.
        count = min(math.ceil(math.ceil(size / world) / batch_size), size // world)
        self.batches = [batch.tolist() for batch in np.array_split(np.arange(size)[rank::world], count)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Loader(DataLoader[Item]):
    """A loader whose workers a signal to the process group does not end before their parent."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"collate_fn": collate, "worker_init_fn": begin_worker, **settings})

    def __iter__(self) -> Any:
        with group_signals_blocked():
            return super().__iter__()


class ResumableLoader(Loader):
    """Training batches that resume where a checkpoint was written, also within an epoch.

    Lightning alone resumes its count of batches but repeats the first batches of the epoch, and starts workers before
    it sets the sampler's epoch.
    """

    trainer: Trainer | None = None
    _resumed_at: tuple[int, int] | None = None

    def state_dict(self) -> dict[str, int]:
        """Epoch and batch to load next by the trainer's count, as workers may have fetched more."""
        if self.trainer is None:
            return {"epoch": self._epoch(), "batch": 0}
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        batches = self.trainer.fit_loop.epoch_loop.batch_progress
        if batches.is_last_batch:  # the epoch may be counted as processed already, or not
            return {"epoch": epochs.started, "batch": 0}
        return {"epoch": self._epoch(), "batch": batches.current.ready}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Begin the next pass there."""
        self._resumed_at = (state["epoch"], state["batch"])

    def __iter__(self) -> Any:
        if isinstance(self.sampler, EpochSampler):
            epoch, batch = self._resumed_at or (self._epoch(), 0)
            self._resumed_at = None
            self.sampler.set_epoch(epoch)
            self.sampler.skip = batch * (self.batch_size or 1)
        return super().__iter__()

    def _epoch(self) -> int:
        if self.trainer is not None:
            # Not current_epoch, which a checkpoint from the end of an epoch sets only after loading has begun.
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            return int(progress.processed)
        return self.sampler.epoch if isinstance(self.sampler, EpochSampler) else 0
