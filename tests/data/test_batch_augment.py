"""Images that are augmented in batches are those that are augmented one by one, to rounding."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from graded import graded_set
from omegaconf import DictConfig
from tiny import tiny_prepared
from tiny_runs import tiny_overrides, tiny_place

import fundusnet
from fundusnet.config.compose import compose
from fundusnet.config.conf import conf_folder
from fundusnet.data.augment import A, Augment, Warp, build_augment
from fundusnet.errors import UserError
from fundusnet.fitting.tasks import task_of

CPU = torch.device("cpu")
GAIN = {"brightness_limit": 0.1, "contrast_limit": (-0.2, 0.2), "p": 1.0}
PIPELINES: dict[str, Callable[[], dict[str, Any]]] = {
    "warp": lambda: {"warp": Warp(vflip=True, rotate=90, scale=(0.6, 1.6), translate=0.2, shear=20)},
    "default": lambda: {"warp": Warp(), "gain": A.RandomBrightnessContrast(**GAIN)},
    "two warps": lambda: {"first": Warp(rotate=40, p=0.5), "second": Warp(scale=(1.2, 2), p=0.5)},
    "one of two": lambda: {"one": A.OneOf([Warp(scale=(1, 1)), Warp(scale=(2, 3))], p=0.7), "d4": A.D4(p=0.5)},
    "sequence": lambda: {"both": A.Sequential([Warp(), A.RandomGamma((60, 160), p=0.5)], p=0.6)},
    **{
        name: lambda name=name: {"symmetry": getattr(A, name)(p=0.8)}
        for name in ("D4", "SquareSymmetry", "HorizontalFlip", "VerticalFlip", "Transpose", "RandomRotate90")
    },
    "gamma": lambda: {"gamma": A.RandomGamma((40, 200), p=0.6)},
    "grey": lambda: {"grey": A.ToGray(p=0.5)},
    "brightness": lambda: {"jitter": A.ColorJitter((0.3, 1.8), (1, 1), (1, 1), (0, 0), p=0.8)},
    "contrast": lambda: {"jitter": A.ColorJitter((1, 1), (0.3, 1.8), (1, 1), (0, 0), p=0.8)},
    "saturation": lambda: {"jitter": A.ColorJitter((1, 1), (1, 1), (0, 3), (0, 0), p=0.8)},
    "hue": lambda: {"jitter": A.ColorJitter((1, 1), (1, 1), (1, 1), (-0.5, 0.5), p=0.8)},
    "jitter": lambda: {"jitter": A.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.05, 0.05), p=0.8)},
}
EXACT = ("D4", "SquareSymmetry", "HorizontalFlip", "VerticalFlip", "Transpose", "RandomRotate90", "gamma", "brightness")


def images(count: int = 12, side: int = 65) -> np.ndarray:
    """Noise, and every second image as smooth as a photograph, in saturated colours, with black around it."""
    rng = np.random.default_rng(3)
    found = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    inside = np.hypot(*(np.mgrid[:side, :side] - side / 2)) < side / 2.2
    for image in found[::2]:
        low = cv2.resize(image[:5, :5], (side, side), interpolation=cv2.INTER_CUBIC)
        image[:] = low * inside[..., None]
    return found


def batch_of(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def both(name: str) -> tuple[np.ndarray, np.ndarray]:
    """All images, augmented one by one and in a batch, with the same draws."""
    one_by_one, later = (Augment(PIPELINES[name](), on) for on in ("cpu", "device"))
    pictures, rng = images(), np.random.default_rng(5)
    expected, drawn = [], []
    for number, image in enumerate(pictures):
        masks = rng.random((3, *image.shape[:2])) < 0.3
        at = rng.uniform(5, 60, (2, 2)).astype(np.float32)
        ready, moved_masks = one_by_one(image, masks, np.random.default_rng(number))
        waiting, same_masks = later(image, masks, np.random.default_rng(number))
        assert np.array_equal(waiting["image"], image) and np.array_equal(moved_masks, same_masks)
        _, moved = one_by_one.with_points(image, at, np.random.default_rng(number))
        pointed, same = later.with_points(image, at, np.random.default_rng(number))
        assert np.array_equal(moved, same)
        assert np.array_equal(pointed["drawn"], waiting["drawn"], equal_nan=True)
        expected.append(ready["image"])
        drawn.append(waiting["drawn"])
    assert later.batch is not None
    found = later.batch(batch_of(pictures), torch.from_numpy(np.stack(drawn)))
    assert found.dtype == torch.uint8 and found.is_contiguous(memory_format=torch.channels_last)
    return np.stack(expected), found.permute(0, 2, 3, 1).numpy()


@pytest.mark.filterwarnings("ignore:Got processor for keypoints, but no transform to process it")
@pytest.mark.parametrize("name", PIPELINES)
def test_a_batch_is_what_its_images_are_one_by_one(name: str) -> None:
    expected, found = both(name)
    changed = [not np.array_equal(*pair) for pair in zip(expected, images(), strict=True)]
    assert sum(changed) >= 4, "the transform does something to a good part of the images"
    difference = np.abs(expected.astype(int) - found)
    if name in EXACT:
        assert not difference.any()
    # The hue of a pixel that is almost grey changes with a single grey value.
    assert difference.max() <= (2 if name != "jitter" else 12)
    assert (difference > 1).mean() < 0.002 and (difference > 0).mean() < 0.05


def test_an_image_to_which_nothing_was_applied_stays() -> None:
    augment = Augment({"warp": Warp(p=0.0), "gain": A.RandomBrightnessContrast(p=0.0)}, "device")
    pictures = images()
    drawn = [augment(image, np.zeros((0, 65, 65), bool), np.random.default_rng(0))[0]["drawn"] for image in pictures]
    assert augment.batch is not None and np.isnan(drawn).all()
    assert torch.equal(augment.batch(batch_of(pictures), torch.from_numpy(np.stack(drawn))), batch_of(pictures))


def test_an_augmentation_of_no_transforms_changes_nothing() -> None:
    augment = Augment({"warp": None}, "device")
    picture, _ = augment(images()[0], np.zeros((0, 65, 65), bool), np.random.default_rng(0))
    assert augment.batch is not None
    batch = batch_of(images()[:2])
    assert torch.equal(augment.batch(batch, torch.from_numpy(np.stack([picture["drawn"]] * 2))), batch)


def test_workers_of_every_kind_can_be_given_one_and_the_transforms_given_stay_as_they_are() -> None:
    transforms = PIPELINES["default"]()
    sent = pickle.loads(pickle.dumps(Augment(transforms, "device")))
    image, masks = images()[0], np.zeros((0, 65, 65), bool)
    assert sent(image, masks, np.random.default_rng(1))[0].keys() == {"image", "drawn"}
    alone = Augment(transforms)(image, masks, np.random.default_rng(1))[0]
    assert alone.keys() == {"image"} and not np.array_equal(alone["image"], image)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (A.GaussianBlur(), "GaussianBlur"),
        (A.OneOf([A.HorizontalFlip(), A.MotionBlur()]), "MotionBlur"),
        (A.SomeOf([A.HorizontalFlip(), A.VerticalFlip()], n=1), "SomeOf"),
        (A.ToGray(method="max"), "ToGray"),
        (A.RandomBrightnessContrast(brightness_by_max=False), "RandomBrightnessContrast"),  # depends on the image
    ],
)
def test_what_cannot_be_applied_to_a_batch_is_named_with_the_remedy(wrong: Any, named: str) -> None:
    with pytest.raises(
        UserError, match=rf"^data\.augment\.mine \({named}\W.* use data\.augment_on=cpu, or .*mine=null$"
    ):
        Augment({"warp": Warp(), "mine": wrong}, "device")


def experiments() -> list[str]:
    return sorted(file.stem for file in (conf_folder() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", experiments())
def test_recipes_can_be_augmented_on_the_device(experiment: str) -> None:
    finding = ["finding=drusen"] * ("grading" not in experiment and experiment != "landmarks")
    augment = compose([f"experiment={experiment}", *finding, "data=csv", "data.root=x"]).data.augment
    if experiment == "landmarks":  # blur, noise and JPEG's artefacts are made by the processor
        with pytest.raises(UserError, match=r"data\.augment\.blur \(GaussianBlur"):
            build_augment(augment, "device")
        augment = DictConfig({**augment, "blur": None, "noise": None, "compression": None})
    built = build_augment(augment, "device")
    assert (built is None) == (augment is None)


TASKS = {
    "findings": ["finding=drusen"],
    "grading": ["experiment=paper_grading_ranking", "data=csv"],
    "landmarks": [
        "experiment=landmarks",
        "data=csv",
        *(f"data.augment.{name}=null" for name in ("blur", "noise", "compression")),
    ],
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    eyes, graded = (tmp_path_factory.mktemp(name) for name in ("eyes", "graded"))
    tiny_prepared(eyes)
    graded_set(graded, [number // 2 % 3 for number in range(24)])
    return {"findings": eyes, "grading": graded, "landmarks": eyes}


def data_of(task: str, place: Path, *more: str) -> Any:
    words = [*TASKS[task], "data=csv", f"data.root={place}/raw", f"data.folder={place}/prepared", "data.size=64",
             "data.num_workers=0", "data.batch_size=4", *more]  # fmt: skip
    cfg = compose(words)
    data: Any = task_of(cfg).make_datamodule(cfg)
    data.setup("fit")
    return data


@pytest.mark.parametrize("task", TASKS)
def test_batches_of_every_task_are_augmented_on_the_device_and_those_to_score_are_not(
    task: str, sets: dict[str, Path]
) -> None:
    cpu, device = (data_of(task, sets[task], f"data.augment_on={on}") for on in ("cpu", "device"))
    stored = cpu.prepared.pixels
    changed = 0
    for expected, waiting in zip(cpu.train_dataloader(), device.train_dataloader(), strict=True):
        pictures = waiting["image"].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pictures, stored[waiting["index"]]), "as they are stored"
        found = device.transfer_batch_to_device(waiting, CPU, 0)
        assert found.keys() == expected.keys()
        for name in expected.keys() - {"image"}:
            assert torch.equal(found[name].nan_to_num(-1), expected[name].nan_to_num(-1)), name
        difference = (found["image"].int() - expected["image"].int()).abs()
        assert (difference > 1).float().mean() < 0.002
        changed += int((found["image"] != waiting["image"]).any())
    assert changed
    for loader in (device.val_dataloader(), device.test_dataloader()):
        for batch in loader:
            moved = device.transfer_batch_to_device(batch, CPU, 0)
            assert np.array_equal(moved["image"].permute(0, 2, 3, 1).numpy(), stored[batch["index"]])


def test_masks_of_a_first_stage_move_with_images_that_are_moved_later(sets: dict[str, Path], tmp_path: Path) -> None:
    cpu, device = (data_of("grading", sets["grading"], f"data.augment_on={on}") for on in ("cpu", "device"))
    np.save(tmp_path / "masks.npy", cpu.prepared.pixels[..., 0].astype(np.float32) / 255)
    first, second = (data.for_fit(masks=tmp_path / "masks.npy").train_dataloader() for data in (cpu, device))
    for expected, waiting in zip(first, second, strict=True):
        found = device.transfer_batch_to_device(waiting, CPU, 0)
        assert torch.equal(found["mask"], expected["mask"])
        # The mask is the image's own red: it went where the image went.
        assert (found["mask"][:, 0] * 255 - found["image"][:, 0]).abs().max() < 2


def test_a_training_on_the_device_is_that_on_the_processor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tiny_place(tmp_path)
    losses = {}
    for name, words in {"cpu": [], "device": ["data.augment_on=device"], "none": ["data.augment=null"]}.items():
        run = fundusnet.train(compose([*tiny_overrides(place), *words, f"run_dir={tmp_path}/{name}"])).run_dir
        assert ("data.augment_on=device is for a GPU" in caplog.text) == (name == "device")
        caplog.clear()
        losses[name] = pd.read_csv(run / "history.csv")["train/loss"].iloc[-1]
    assert losses["device"] == pytest.approx(losses["cpu"], rel=1e-4)
    assert losses["device"] != losses["cpu"] and losses["none"] != pytest.approx(losses["cpu"], rel=1e-3)
