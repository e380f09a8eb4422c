"""Facts of the batches: what is in them, in which order, and that a resumed run gets the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny import FINDINGS, SIZE, tiny_prepared
from torch.nn.functional import adaptive_max_pool2d

from fundusnet.data.augment import Augment, Warp
from fundusnet.data.loading import EpochSampler
from fundusnet.errors import UserError
from fundusnet.findings.datamodule import FindingsDataModule, FindingsDataset, pool


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prepared(tmp_path_factory.mktemp("tiny")).folder


def make(folder: Path, **options: Any) -> FindingsDataModule:
    options = {"feature_size": 4, "batch_size": 4, "cue": "pixels", "fractions": (0.6, 0.2, 0.2)} | options
    module = FindingsDataModule(folder, list(FINDINGS), **options)
    module.setup()
    return module


@given(
    planes=arrays.arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(5, 40), st.integers(5, 40))),
    size=st.integers(1, 5),
)
@settings(max_examples=100, deadline=None)
def test_pool_is_torchs_adaptive_pooling_of_every_bit(planes: np.ndarray, size: int) -> None:
    pooled = pool(planes, size)
    assert pooled.shape == (len(planes), size, size) and pooled.dtype == np.uint8
    for bit in range(8 if len(planes) else 0):
        expected = adaptive_max_pool2d(torch.from_numpy(planes >> bit & 1).float()[None], size)[0]
        assert np.array_equal(pooled >> bit & 1, expected)


def test_one_pixel_lights_one_cell() -> None:
    planes = np.zeros((1, 8, 8), dtype=np.uint8)
    planes[0, 3, 4] = 0b0010_0001
    assert np.argwhere(pool(planes, 4)).tolist() == [[0, 1, 2]]
    assert pool(planes, 4).max() == 0b0010_0001


def test_a_batch_is_a_view_of_pixels_in_their_own_order(folder: Path) -> None:
    module = make(folder)
    (batch, *_) = module.test_dataloader()
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert tuple(batch["image"].shape) == (4, 3, SIZE, SIZE)
    assert tuple(batch["cue"].shape) == (4, len(FINDINGS), 4, 4)
    for image, label, row in zip(batch["image"], batch["label"], batch["index"], strict=True):
        assert np.array_equal(image.permute(1, 2, 0), module.prepared.pixels[row])
        assert np.array_equal(label, module.labels.label[row])


def test_cues_are_the_pooled_lesions_and_zeros_where_absent(folder: Path) -> None:
    module = make(folder)
    seen = set()
    for batch in module.test_dataloader():
        for cue, label, row in zip(batch["cue"], batch["label"], batch["index"], strict=True):
            image_id = module.prepared.manifest.images["image_id"].iloc[int(row)]
            for column, finding in enumerate(FINDINGS):
                lesion = module.prepared.lesion_mask(image_id, finding)
                assert lesion is not None
                assert bool(lesion.any()) == bool(label[column])
                assert np.array_equal(cue[column], pool(lesion[None].view(np.uint8), 4)[0])
                seen.add(bool(label[column]))
    assert seen == {True, False}


@pytest.mark.parametrize("cue", ["regions", "pixels"])
def test_a_cell_of_a_cue_is_one_where_any_pixel_under_it_is_after_the_warp(folder: Path, cue: str) -> None:
    module = make(folder, cue=cue, augment=Augment({"warp": Warp(vflip=True, rotate=90, shear=20)}))
    dataset = module.train_dataloader().dataset
    for position, row in enumerate(module.rows["train"]):
        item = dataset[position, 3]
        masks = np.stack([module.labels.cue(row)[column] for column in range(len(FINDINGS))])
        rng = np.random.default_rng((module.seed, 3, row))
        assert module.augment is not None
        picture, moved = module.augment(module.prepared.pixels[row], masks, rng)
        assert np.array_equal(item["image"], picture["image"])
        expected = adaptive_max_pool2d(torch.from_numpy(moved).float()[None], 4)[0].numpy()
        expected[np.isnan(module.labels.label[row])] = np.nan
        assert np.array_equal(item["cue"], expected, equal_nan=True)
        assert item["cue"].dtype == np.float32


def test_a_present_finding_without_regions_has_an_unknown_cue(folder: Path) -> None:
    module = make(folder)
    # Image 0 shows both findings; 23 was examined for nothing.
    known = module.labels.cue_known.copy()
    known[0, 1] = False
    dataset = FindingsDataset(module.prepared, replace(module.labels, cue_known=known), np.array([0, 23]), 4)
    assert np.isnan(dataset[0]["cue"]).all(axis=(1, 2)).tolist() == [False, True]
    assert dataset[0]["cue"][0].any()
    assert np.isnan(dataset[1]["cue"]).all() and np.isnan(dataset[1]["label"]).all()


def test_splits_share_no_image_and_leave_out_unexamined_ones(folder: Path) -> None:
    module = make(folder)
    together = np.concatenate(list(module.rows.values()))
    assert sorted(together) == list(range(23))  # the 24th is examined for nothing
    patients = module.prepared.manifest.images["patient_id"].to_numpy()
    homes = [set(patients[rows]) for rows in module.rows.values()]
    assert not homes[0] & homes[1] | homes[0] & homes[2] | homes[1] & homes[2]


def test_order_and_augmentation_are_functions_of_seed_and_epoch(folder: Path) -> None:
    def epoch_of(number: int, **options: Any) -> list[tuple[list[int], torch.Tensor]]:
        loader = make(folder, augment=Augment({"warp": Warp()}), **options).train_dataloader()
        loader.sampler.set_epoch(number)  # type: ignore[union-attr]  # always an EpochSampler
        return [(batch["index"].tolist(), batch["image"]) for batch in loader]

    def same(left: list[Any], right: list[Any]) -> bool:
        return all(a == b and torch.equal(x, y) for (a, x), (b, y) in zip(left, right, strict=True))

    first = epoch_of(3)
    assert sorted(row for rows, _ in first for row in rows) == sorted(make(folder).rows["train"])
    assert same(first, epoch_of(3))
    assert same(first, epoch_of(3, num_workers=2))
    assert [rows for rows, _ in first] != [rows for rows, _ in epoch_of(4)]
    assert [rows for rows, _ in first] != [rows for rows, _ in epoch_of(3, seed=1)]


def test_workers_that_outlive_an_epoch_augment_anew(folder: Path) -> None:
    loader = make(folder, augment=Augment({"warp": Warp()}), num_workers=1).train_dataloader()
    images = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]  # always an EpochSampler
        batches = [zip(batch["index"].tolist(), batch["image"], strict=True) for batch in loader]
        images.append({row: image for pairs in batches for row, image in pairs})
    assert images[0].keys() == images[1].keys()
    assert not any(torch.equal(images[0][row], images[1][row]) for row in images[0])


@pytest.mark.parametrize(("size", "world"), [(10, 2), (11, 2), (3, 4), (7, 1)])
def test_processes_share_an_epoch_without_leaving_an_image_out(size: int, world: int) -> None:
    shares = [list(EpochSampler(range(size), world, rank, seed=1)) for rank in range(world)]  # type: ignore[arg-type]
    assert len({len(share) for share in shares}) == 1
    assert {position for share in shares for position, _ in share} == set(range(size))
    assert sum(map(len, shares)) - size < world


def test_no_batch_of_one_is_trained_on(folder: Path) -> None:
    size = len(make(folder).rows["train"])
    for batch_size in (2, 3, 4, size - 1, size, 1):
        sizes = [len(batch["index"]) for batch in make(folder, batch_size=batch_size).train_dataloader()]
        assert batch_size == 1 or 1 not in sizes
        assert sum(sizes) == size - (size % batch_size == 1 and batch_size > 1)


class Recorder(LightningModule):
    """Notes what it is given; a single weight, so that there is a step to count."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.given: list[tuple[int, tuple[int, ...], int]] = []

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        self.given.append((self.current_epoch, tuple(batch["index"].tolist()), int(batch["image"].sum())))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("steps", "workers", "on"),
    [*((steps, workers, "cpu") for steps in (2, 4, 6) for workers in (0, 2)), (6, 2, "device")],
)
def test_a_resumed_run_is_given_what_the_whole_run_was(
    folder: Path, tmp_path: Path, steps: int, workers: int, on: Any
) -> None:
    """Stopped within an epoch (2, 6) or between two (4 steps an epoch)."""

    def fit(max_steps: int, resume: Path | None = None) -> list[Any]:
        module = Recorder()
        data = make(folder, augment=Augment({"warp": Warp()}, on), num_workers=workers, batch_size=4)
        keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        Trainer(
            accelerator="cpu",
            max_steps=max_steps,
            max_epochs=-1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[keep],
        ).fit(module, data, ckpt_path=resume, weights_only=True)
        return module.given

    assert len(make(folder).train_dataloader()) == 4
    whole = fit(10)
    assert [epoch for epoch, *_ in whole] == [0] * 4 + [1] * 4 + [2] * 2
    assert fit(10, tmp_path / f"step={steps}.ckpt") == whole[steps:]


def split_by_hand(monkeypatch: pytest.MonkeyPatch, *splits: str) -> None:
    """The first images go to ``splits``, one each, the rest to test."""
    monkeypatch.setattr(
        "fundusnet.data.datamodule.make_splits",
        lambda images, *_, **__: np.array([*splits, *["test"] * (len(images) - len(splits))]),
    )


def test_a_split_without_a_positive_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Images 0 to 3 show every combination of the two findings, 4 and 5 both hold hemorrhages.
    split_by_hand(monkeypatch, *["train"] * 4, "val", "val")
    with pytest.raises(UserError, match=r"split 'val' has no negative image of 'hemorrhage' among 2 .*fractions"):
        make(folder)


def test_an_empty_split_is_refused_unless_its_share_is_zero(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split_by_hand(monkeypatch, *["train"] * 4)
    with pytest.raises(UserError, match=r"split 'val' of .* has no image"):
        make(folder)
    assert len(make(folder, fractions=(0.8, 0, 0.2)).rows["val"]) == 0


def test_without_a_test_share_all_images_are_trained_on_or_validated(folder: Path) -> None:
    module = make(folder, fractions=(0.85, 0.15, 0))
    assert len(module.rows["test"]) == 0 and list(module.test_dataloader()) == []
    assert sorted(np.concatenate([module.rows["train"], module.rows["val"]])) == list(range(23))
