"""A training from the first epoch to the last, against decoding, cropping and resizing in every epoch.

Photographs of 4288×2858 pixels at 512, the guided network, batches of four. The rival is what template projects do: a
dataset that reads the original in every epoch, and Lightning at its defaults (fp32, torch's layout). Ours prepares the
photographs once, which counts, and trains in the precision that ``trainer.precision=auto`` chooses. Labels,
augmentation and loss are the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.measuring import Figure, once, show
from benchmarks.pipeline import dataset
from benchmarks.prepare import make_photographs
from benchmarks.training_step import guided, lightning_defaults, our_trainer, precision_of
from fundusnet import compose
from fundusnet.data.crop import crop_square, find_field
from fundusnet.data.decode import read_photograph
from fundusnet.data.loading import Item, collate
from fundusnet.data.manifest import Manifest, images_table
from fundusnet.data.prepare import prepare
from fundusnet.findings.datamodule import FindingsDataset

SIZE, PHOTOGRAPHS, EPOCHS, BATCH = 512, 8, 5, 4


class Decoded(Dataset[Item]):
    """The items of a prepared set, whose pixels come from the original photographs."""

    def __init__(self, items: FindingsDataset, files: list[Path]) -> None:
        self.items, self.files = items, files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Item:
        photograph = read_photograph(self.files[position])
        pixels, _ = crop_square(photograph, find_field(photograph.pixels), SIZE)
        masks = self.items.read_masks(position)
        picture, masks = self.items.augment(pixels, masks, self.items.generator(position, 1))
        return {**picture, "index": position, **self.items.make_item(position, masks)}


def measure() -> Iterator[Figure]:
    """Processor time of both, started with the same files."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cfg = compose(["data.root=x", "finding=hard_exudate"])
    with tempfile.TemporaryDirectory() as name:
        photographs = Path(name) / "photographs"
        photographs.mkdir()
        files = sorted(make_photographs(photographs, PHOTOGRAPHS).glob("*.jpg"))
        rows: list[dict[str, object]] = [{"image_id": file.stem, "path": file.name} for file in files]

        start = time.process_time()
        prepared = prepare(Manifest(photographs, images_table(rows)), Path(name) / "set", size=SIZE)
        items = dataset(prepared.pixels, 1)
        image = torch.from_numpy(prepared.pixels[:2].copy()).permute(0, 3, 1, 2)
        module = guided(cfg, channels_last=True)
        trainer = our_trainer(cfg, Path(name), precision_of(module, image), EPOCHS)
        loader = DataLoader(items, BATCH, collate_fn=collate)
        trainer.fit(module, loader, DataLoader(items, 1, sampler=[0], collate_fn=collate))
        ours = time.process_time() - start

        start = time.process_time()
        decoded = DataLoader(Decoded(items, files), BATCH, collate_fn=collate)
        lightning_defaults(Path(name), EPOCHS).fit(guided(cfg, channels_last=False), decoded)
        theirs = time.process_time() - start
    yield once(f"{EPOCHS} epochs, {PHOTOGRAPHS} photographs of 4288×2858 at {SIZE}, with preparation",
               "decoding, cropping and resizing in every epoch, Lightning's defaults", theirs / ours, goal=5.0,
               detail=f"{ours:.1f} against {theirs:.1f} s",
               miss="the network's own time is in both; the photographs alone are in the next line")  # fmt: skip
    yield _input(files_of=PHOTOGRAPHS)


def _input(files_of: int) -> Figure:
    """The same without the network: what an epoch spends on its photographs."""
    with tempfile.TemporaryDirectory() as name:
        photographs = Path(name) / "photographs"
        photographs.mkdir()
        files = sorted(make_photographs(photographs, files_of).glob("*.jpg"))
        rows: list[dict[str, object]] = [{"image_id": file.stem, "path": file.name} for file in files]
        start = time.process_time()
        items = dataset(prepare(Manifest(photographs, images_table(rows)), Path(name) / "set", size=SIZE).pixels, 1)
        once_prepared = time.process_time() - start
        spent = {}
        for kind, each in (("ours", items), ("theirs", Decoded(items, files))):
            start = time.process_time()
            for batch in DataLoader(each, BATCH, collate_fn=collate):
                del batch
            spent[kind] = time.process_time() - start
    ours, theirs = once_prepared + EPOCHS * spent["ours"], EPOCHS * spent["theirs"]
    return once("the same without the network", "the same", theirs / ours,
                detail=f"{ours:.2f} against {theirs:.2f} s")  # fmt: skip


if __name__ == "__main__":
    show(measure())
