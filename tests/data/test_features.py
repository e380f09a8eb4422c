"""Features of a frozen backbone: computed once, equal to the images', shared by runs, never those of another one."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_prepared
from torch import nn

from fundusnet.config.compose import compose
from fundusnet.data.augment import build_augment
from fundusnet.data.features import stored_features
from fundusnet.findings.datamodule import FindingsDataModule
from fundusnet.findings.network import GuidedTimm

CPU = torch.device("cpu")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny_prepared(tmp_path)
    return tmp_path


def network(**options: Any) -> GuidedTimm:
    torch.manual_seed(0)
    return GuidedTimm("test_resnet", strides=[8, 16], map_stride=8, freeze="all", **options).eval()


def datamodule(place: Path, views: int | None = 2, augment: bool = True, **options: Any) -> FindingsDataModule:
    transforms = build_augment(compose(["data=csv", "data.root=x"]).data.augment) if augment else None
    found = FindingsDataModule(
        place / "prepared",
        ["drusen"],
        feature_size=8,
        cue="pixels",
        augment=transforms,
        views=views,
        batch_size=4,
        **options,
    )
    found.setup()
    return found


class Counting(nn.Module):
    """A network that counts the images it was given itself, and those that copies of it were given."""

    def __init__(self, network: GuidedTimm) -> None:
        super().__init__()
        self.network, self.extracted, self.images = network, network.extracted, 0
        self.copied: list[int] = []
        self.note = self.copied.append  # which a copy shares

    def extract(self, image: torch.Tensor) -> Any:
        self.images += len(image)
        self.note(len(image))
        return self.network.extract(image)

    @property
    def by_copies(self) -> int:
        return sum(self.copied) - self.images


def test_stored_features_are_those_of_the_augmented_images(place: Path) -> None:
    net, plain, stored = network(), datamodule(place), datamodule(place)
    stored.store_features(net, CPU)
    loaders = [(plain.val_dataloader(), stored.val_dataloader()), (plain.train_dataloader(), stored.train_dataloader())]
    for images, features in loaders:
        for one, other in zip(images, features, strict=True):
            assert "image" not in other
            assert torch.equal(one["index"], other["index"])
            torch.testing.assert_close(one["cue"], other["cue"], equal_nan=True)
            expected, found = net.extract(one["image"].float() / 255), stored_features(other)
            assert found is not None and len(found) == len(expected) == 2
            for a, b in zip(expected, found, strict=True):
                torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)


def test_views_augmented_on_the_device_have_the_same_features_to_rounding_in_a_store_of_their_own(place: Path) -> None:
    net, stores = network(), []
    for on in ("cpu", "device"):
        data = datamodule(place)
        data.augment = build_augment(compose(["data=csv", "data.root=x"]).data.augment, on)  # type: ignore[arg-type]
        data.store_features(net, CPU)
        stores.append(list(data.train_dataloader()))
    for one, other in zip(*stores, strict=True):
        assert one.keys() == other.keys() and "drawn" not in one
        torch.testing.assert_close(one["features0"], other["features0"], rtol=0.05, atol=0.05)
    assert len(list((place / "prepared" / "features").iterdir())) == 2


def test_views_repeat_and_differ(place: Path) -> None:
    dataset = datamodule(place, views=2)
    dataset.store_features(network(), CPU)
    items = dataset.train_dataloader().dataset
    first, second, third = (items[0, epoch]["features0"] for epoch in (0, 1, 2))
    assert np.array_equal(first, third) and not np.array_equal(first, second)
    images = datamodule(place, views=2).train_dataloader().dataset
    assert np.array_equal(images[0, 0]["image"], images[0, 2]["image"])
    endless = datamodule(place, views=None).train_dataloader().dataset
    assert not np.array_equal(endless[0, 0]["image"], endless[0, 2]["image"])


def test_each_image_and_view_is_computed_once_for_all_runs_on_a_set(place: Path) -> None:
    extract, data = Counting(network()), datamodule(place)
    rows = {split: len(rows) for split, rows in data.rows.items()}
    data.store_features(extract, CPU)
    once = 2 * rows["train"] + rows["val"] + rows["test"]
    compared = 2  # a batch, to see that the copy can be used
    assert extract.by_copies == once + compared, "a faster copy computes"
    assert extract.images == compared + 1, "the one that names the store"
    again = Counting(network())
    datamodule(place).store_features(again, CPU)
    assert again.images == 1
    # Where sums are rounded otherwise, the store is the same.
    other_machine = Counting(network())
    other_machine.network.extract = lambda image: [
        1.001 * each for each in GuidedTimm.extract(other_machine.network, image)
    ]  # type: ignore[method-assign]
    datamodule(place).store_features(other_machine, CPU)
    assert other_machine.images == 1
    # Another fold has other training images: only these are new.
    other = datamodule(place, folds=2, fold=1)
    third = Counting(network())
    other.store_features(third, CPU)
    assert 0 < third.by_copies < once


@pytest.mark.parametrize("change", ["weights", "seed", "augment", "layers"])
def test_what_features_depend_on_has_a_store_of_its_own(change: str, place: Path) -> None:
    datamodule(place).store_features(network(), CPU)
    net, data = network(), datamodule(place, seed=1 if change == "seed" else 0)
    if change == "weights":
        with torch.no_grad():
            next(net.backbone.parameters()).add_(0.1)
    if change == "augment":
        data.augment = build_augment(compose(["data=csv", "data.root=x", "data.augment.warp.rotate=90"]).data.augment)
    if change == "layers":
        net = GuidedTimm("test_resnet", strides=[16], freeze="all").eval()
    counted = Counting(net)
    data.store_features(counted, CPU)
    assert counted.images > 1
    assert len(list((place / "prepared" / "features").iterdir())) == 2


def test_without_augmentation_there_is_one_view(place: Path) -> None:
    extract, data = Counting(network()), datamodule(place, views=None, augment=False)
    data.store_features(extract, CPU)
    assert extract.by_copies == 2 + sum(len(rows) for rows in data.rows.values())
    assert stored_features(next(iter(data.train_dataloader()))) is not None


def test_endless_augmentation_is_not_stored(place: Path) -> None:
    data = datamodule(place, views=None)
    data.store_features(network(), CPU)
    assert "image" in next(iter(data.train_dataloader())) and not (place / "prepared" / "features").exists()


def test_images_on_request_and_where_features_are_missing(place: Path) -> None:
    data = datamodule(place)
    data.store_features(network(), CPU)
    assert "image" in next(iter(data.in_order(data.rows["val"], images=True)))
    assert "image" in next(iter(data.in_order(data.rows["train"])))  # stored augmented only


@pytest.mark.parametrize("kept", [True, False])
def test_room_is_needed_only_for_what_is_missing(kept: bool, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, one, other = network(), datamodule(place, folds=2, fold=0), datamodule(place, folds=2, fold=1)
    one.store_features(net, CPU)
    assert one.features is not None
    keys = [(int(row), view) for row in other.rows["train"] for view in (1, 2)]
    keys += [(int(row), 0) for split in ("val", "test") for row in other.rows[split]]
    missing = one.features.missing(keys)
    assert 0 < len(missing) < len(keys)
    values = sum(each.numel() for each in net.extract(torch.rand(1, 3, 64, 64)))
    free = 1.05 * 2 * values * len(missing) + (1 if kept else -1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    other.store_features(net, CPU)
    assert (other.features is not None) == kept


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_without_room_training_goes_on_with_images(
    trouble: str, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = datamodule(place)
    if trouble == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    else:
        (place / "prepared" / "features").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        data.store_features(network(), CPU)
    assert "cannot be kept" in caplog.text and "every epoch computes them" in caplog.text
    assert "image" in next(iter(data.train_dataloader()))
