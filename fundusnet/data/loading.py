"""Training batches in an order that a resumed run finds again, whatever is in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from fundusnet.errors import UserError
from fundusnet.system.orphans import die_with_parent

Item = dict[str, Any]
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
        batch_size, num_workers: per process.
        seed: of the order.
        trainer: knows how many processes share an epoch, and where a resumed one goes on; None = one process.

    Raises:
        UserError: there are more processes than items.
    """
    rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    settings: dict[str, Any] = {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "collate_fn": collate,
        "worker_init_fn": die_with_parent,
        "pin_memory": torch.cuda.is_available(),
        # Without a generator of its own a loader draws from the global one: dropout would differ after a resume.
        "generator": torch.Generator().manual_seed(seed),
    }
    if not train:
        if world > 1:
            return DataLoader(dataset, batch_sampler=ShareInOrder(dataset, batch_size, rank, world), **settings)
        return DataLoader(dataset, batch_size=batch_size, **settings)
    sampler = EpochSampler(dataset, num_replicas=world, rank=rank, seed=seed)
    # Batch normalisation has nothing to normalise over in a batch of one.
    single = len(sampler) > batch_size > 1 and len(sampler) % batch_size == 1
    loader = ResumableLoader(dataset, sampler=sampler, batch_size=batch_size, drop_last=single, **settings)
    loader.trainer = trainer
    return loader


def collate(items: Sequence[Item]) -> Batch:
    """Items to a batch; pixels are put side by side once, in HWC order, and never transposed in memory."""
    batch = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
    return batch | {"image": batch["image"].permute(0, 3, 1, 2)}


class EpochSampler(DistributedSampler[Item]):
    """A new order every epoch, a function of (seed, epoch) alone; yields (position, epoch).

    The epoch travels with the position because workers that outlive an epoch hold a copy of the dataset that nobody
    can tell about it. A DistributedSampler, so that Lightning leaves it in place.
    """

    skip = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]  # torch: items are asked for by position
        size = len(self.dataset)  # type: ignore[arg-type]  # torch: Dataset has no __len__
        order = np.random.default_rng((self.seed, self.epoch)).permutation(size)
        mine = np.resize(order, self.total_size)[self.rank :: self.num_replicas]
        epoch = self.epoch
        yield from ((int(position), epoch) for position in mine[self.skip :])


class ShareInOrder(Sampler[list[int]]):
    """Batches of one process's share of the items: each item in one process only, as many batches in every process.

    DistributedSampler would hand out some items twice, which counts them twice in whatever is measured.
    """

    def __init__(self, dataset: Dataset[Item], batch_size: int, rank: int, world: int) -> None:
        size = len(dataset)  # type: ignore[arg-type]  # torch: Dataset has no __len__
        if size < world:
            raise UserError(f"{world} processes cannot share {size} photographs; use fewer devices")
        # A batch is one larger than asked for rather than empty in the processes whose share is one smaller.
        count = min(math.ceil(math.ceil(size / world) / batch_size), size // world)
        self.batches = [batch.tolist() for batch in np.array_split(np.arange(size)[rank::world], count)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class ResumableLoader(DataLoader[Item]):
    """Training batches that go on where the trainer's steps say, within an epoch too.

    Lightning alone would go on counting from the batch reached but hand out the epoch's first batches again; and it
    starts workers before it tells the sampler which epoch it is.
    """

    trainer: Trainer | None = None

    def position(self) -> tuple[int, int]:
        """Epoch and batch that come next."""
        if self.trainer is None:
            return self.sampler.epoch if isinstance(self.sampler, EpochSampler) else 0, 0
        accumulated = self.trainer.accumulate_grad_batches
        epoch, step = divmod(self.trainer.global_step, math.ceil(len(self) / accumulated))
        return epoch, step * accumulated

    def state_dict(self) -> dict[str, int]:
        """For the record: what is loaded is told from the trainer's steps, as workers may have fetched further."""
        return dict(zip(("epoch", "batch"), self.position(), strict=True))

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Nothing to do; Lightning takes a loader without this method for one that cannot resume."""

    def __iter__(self) -> Any:
        if isinstance(self.sampler, EpochSampler):
            epoch, batch = self.position()
            self.sampler.set_epoch(epoch)
            self.sampler.skip = batch * (self.batch_size or 1)
        return super().__iter__()
