"""What a configuration says reaches what trains: three tiny runs, watched at every step of their optimisers.

A value that is never handed on, or is taken from the wrong split, breaks nothing and only makes results worse. So
every test here compares what a run did with what its configuration asks for, worked out anew from the files it left.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from graded import graded_set
from numpy.typing import ArrayLike, NDArray
from omegaconf import DictConfig, OmegaConf
from scipy.optimize import brentq
from tiny import tiny_prepared
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import fundusnet
from fundusnet import compose, train
from fundusnet.evaluation import operating_point
from fundusnet.fitting.tasks import task_of

# Neither in alphabetical order nor in that of the set.
FINDINGS = ("hemorrhage", "drusen")
# Numbers of the pictures of a split. Each has its own share of present images: what is taken from the wrong one shows.
SPLITS = {"train": range(24), "val": range(24, 36), "test": range(36, 48)}
PRESENT = {
    "hemorrhage": {1, 5, 8, 12, 17, 21, 25, 28, 33, 36, 37, 39, 40, 41, 42, 43, 45, 46, 47},
    "drusen": {3, 14, 26, 31, 35, 37, 38, 39, 40, 41, 43, 44, 45, 46},
}
TINY = [
    "data=csv",
    "data.size=64",
    "data.num_workers=0",
    "data.batch_size=4",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "evaluation.bootstrap=5",
    "evaluation.panels=0",
]
NETWORK = ["model.network.width=4", "model.network.reductions=3", "model.network.pyramid_width=4"]


@dataclass
class Watched:
    """A finished run, each step of its optimiser, and what was said meanwhile."""

    folder: Path = Path()
    steps: list[dict[str, Any]] = field(default_factory=list)
    start: list[torch.Tensor] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "history.csv")

    @property
    def stored(self) -> dict[str, Any]:
        """What the checkpoint holds beside the weights."""
        values: dict[str, Any] = torch.load(self.folder / "checkpoints" / "best.ckpt", weights_only=True)["fundusnet"]
        return values

    @property
    def fit(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder / "fit.json").read_text())
        return values

    def rates(self) -> list[float]:
        """The learning rate of each epoch: one value in all its steps."""
        epochs = [self.steps[first : first + 6] for first in range(0, len(self.steps), 6)]  # 24 pictures, 4 a step
        assert all(len({step["lr"] for step in epoch}) == 1 for epoch in epochs)
        return [epoch[0]["lr"] for epoch in epochs]

    def predictions(self, split: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / {"val": "predictions_val.csv", "test": "predictions.csv"}[split])

    def of(self, finding: str, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Labels and probabilities of a finding."""
        table = self.predictions(split)
        rows = table[table["finding"] == finding]
        return rows["label"].to_numpy(), rows["probability"].to_numpy()


@contextmanager
def watching() -> Iterator[Watched]:
    """Watch every optimiser and every log line of this process."""
    watched = Watched()

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        group = optimizer.param_groups[0]
        if not watched.start:
            watched.start = [parameter.detach().clone() for parameter in group["params"]]
        known = ("lr", "momentum", "nesterov", "weight_decay")
        watched.steps.append({"kind": type(optimizer).__name__, **{key: group[key] for key in known if key in group}})

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = optimizer.param_groups[0]["params"]
        norms = torch.stack([parameter.grad.norm() for parameter in parameters if parameter.grad is not None])
        kernels = [p for p in parameters if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
        watched.steps[-1]["norm"] = float(norms.norm())
        watched.steps[-1]["channels_last"] = all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)

    handler = logging.Handler()
    handler.emit = lambda record: watched.said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("fundusnet")
    hooks = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    logger.addHandler(handler)
    try:
        yield watched
    finally:
        logger.removeHandler(handler)
        for hook in hooks:
            hook.remove()


def trained(place: Path, run: str, *more: str) -> Watched:
    with watching() as watched:
        watched.folder = train(config(place, f"run_dir={place}/{run}", *more)).run_dir
    return watched


def config(place: Path, *more: str) -> DictConfig:
    return compose([*TINY, f"data.root={place}/raw", f"data.folder={place}/prepared", *more])


def official(folder: Path) -> pd.DataFrame:
    """Give every picture of a prepared set its split, and a patient of its own."""
    file = folder / "prepared" / "manifest" / "images.csv"
    images = pd.read_csv(file, dtype=str, keep_default_na=False)
    images["split"] = [split for split, numbers in SPLITS.items() for _ in numbers]
    images["patient_id"] = images["image_id"]
    images.to_csv(file, index=False)
    return images


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in which 6 of 24 training pictures have hemorrhages, 2 drusen; 3 of 12 for validation; most of the test."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("eyes")
    tiny_prepared(folder, images=48)
    images = official(folder)
    rows = [
        {"image_id": image, "finding": name, "path": f"lesions/{name}/image00.png" if number in PRESENT[name] else ""}
        for number, image in enumerate(images["image_id"])
        for name in sorted(FINDINGS)
    ]
    pd.DataFrame(rows).to_csv(folder / "prepared" / "manifest" / "lesions.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def cosine(eyes: Path) -> Watched:
    """SGD on a cosine, a warm-up as long as the fit, gradients cut short, the best epoch by the loss."""
    return trained(
        eyes, "cosine", "finding=drusen", f"finding.names=[{','.join(FINDINGS)}]", *NETWORK,
        "trainer.max_epochs=4", "trainer.gradient_clip_val=0.05", "model.channels_last=true", "seed=1",
        "model.loss.weight=2", "model.loss.warmup_epochs=4", "model.loss.form=log", "model.loss.eps=0.5",
        "model/optimizer=sgd", "model/schedule=cosine", "model.optimizer.lr=0.05",
        "model.optimizer.momentum=0.7", "model.optimizer.weight_decay=0.003",
    )  # fmt: skip


@pytest.fixture(scope="module")
def exponential(eyes: Path) -> Watched:
    """AdamW on an exponential, classes balanced, gradients as they are, stopped by the AUROC."""
    return trained(
        eyes, "exponential", "finding=drusen", f"finding.names=[{','.join(FINDINGS)}]", *NETWORK,
        "trainer.max_epochs=6", "trainer.gradient_clip_val=null", "model.channels_last=false",
        "trainer.monitor=val/auroc", "trainer.patience=1", "evaluation.operating_point=test",
        "model.loss.weight=0.5", "model.loss.form=bce", "model.loss.per=window", "model.loss.balance=inverse",
        "model/optimizer=adamw", "model/schedule=exponential", "model.optimizer.lr=0.02",
        "model.optimizer.weight_decay=0.07", "seed=2",
    )  # fmt: skip


# Grades that the pictures do not show, so that no sub-classifier is without error; few high ones but in the test split.
GRADES = [0, 0, 1, 0, 2, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 0,
          0, 1, 0, 0, 2, 0, 0, 1, 0, 2, 0, 0,
          2, 2, 1, 2, 0, 2, 1, 2, 2, 2, 1, 2]  # fmt: skip


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graded")
    graded_set(folder, [number % 3 for number in range(48)])
    official(folder).assign(grade=GRADES).to_csv(folder / "prepared" / "manifest" / "images.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def grading(graded: Path) -> Watched:
    torch.set_num_threads(1)
    return trained(
        graded, "run", "experiment=paper_grading_ranking", "data=csv", "trainer.max_epochs=3",
        "model.channels_last=false",
        "model.network.backbone=test_resnet", "model.network.hidden=8", "model.network.pretrained=false",
        "model.loss.balance=inverse", "model/optimizer=rmsprop", "model.optimizer.lr=0.0005",
        "model.optimizer.momentum=0.3", "model.optimizer.weight_decay=0.004", "model.schedule.gamma=0.6", "seed=1",
    )  # fmt: skip


def temperature(label: ArrayLike, probability: ArrayLike) -> float:
    """What best divides the logits, between 1/20 and 20: where the slope of the cross-entropy in 1/T is nothing."""
    y, p = np.asarray(label, dtype=float), np.asarray(probability, dtype=float)
    logit = np.log(p / (1 - p))

    def slope(inverse: float) -> float:
        return float((logit * (1 / (1 + np.exp(-inverse * logit)) - y)).mean())

    coldest, hottest = 20.0, 1 / 20.0  # as 1/T
    if slope(hottest) >= 0 or slope(coldest) <= 0:  # the slope rises with 1/T
        return 1 / hottest if slope(hottest) >= 0 else 1 / coldest
    return 1 / brentq(slope, hottest, coldest)


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_temperature_is_fitted_on_validation(cosine: Watched, finding: str) -> None:
    fitted = {split: temperature(*cosine.of(finding, split)) for split in ("val", "test")}
    assert abs(np.log(fitted["val"] / fitted["test"])) > 0.1  # the wrong split would show
    assert cosine.stored["validation"][finding]["temperature"] == pytest.approx(fitted["val"], rel=1e-3)


@pytest.mark.parametrize("k", [0, 1])
def test_the_temperature_of_a_grade_is_fitted_on_validation(grading: Watched, k: int) -> None:
    tables = {split: grading.predictions(split) for split in ("val", "test")}
    fitted = {split: temperature(table["grade"] > k, table[f"p_gt_{k}"]) for split, table in tables.items()}
    assert abs(np.log(fitted["val"] / fitted["test"])) > 0.1
    assert grading.stored["validation"][f"gt_{k}"]["temperature"] == pytest.approx(fitted["val"], rel=1e-3)


def test_calibrated_probabilities_are_those_at_the_stored_temperature(cosine: Watched, grading: Watched) -> None:
    findings, grades = cosine.predictions("test"), grading.predictions("test")
    pairs = [
        (findings[findings["finding"] == name], "probability", "calibrated", cosine.stored["validation"][name])
        for name in FINDINGS
    ]
    pairs += [(grades, f"p_gt_{k}", f"calibrated_gt_{k}", grading.stored["validation"][f"gt_{k}"]) for k in range(2)]
    for table, raw, calibrated, chosen in pairs:
        logit = np.log(table[raw] / (1 - table[raw]))
        np.testing.assert_allclose(table[calibrated], 1 / (1 + np.exp(-logit / chosen["temperature"])), atol=1e-6)


def test_strange_pictures_are_told_by_the_training_set(cosine: Watched, grading: Watched) -> None:
    for run in (cosine, grading):
        assert run.stored["appearance"]["images"] == len(SPLITS["train"])


def test_the_best_epoch_has_the_lowest_loss(cosine: Watched) -> None:
    losses = cosine.history["val/loss"]
    assert cosine.fit["best_epoch"] == losses.argmin() and cosine.fit["best"] == pytest.approx(losses.min())
    assert losses.argmin() != losses.argmax()


def test_the_best_epoch_has_the_highest_auroc(exponential: Watched) -> None:
    areas = exponential.history["val/auroc"]
    assert exponential.fit["best_epoch"] == areas.argmax() and exponential.fit["best"] == pytest.approx(areas.max())
    assert areas.argmin() != areas.argmax()


def test_the_best_epoch_is_the_one_that_is_scored(cosine: Watched) -> None:
    p = {finding: cosine.of(finding, "val") for finding in FINDINGS}
    cost = [np.where(label == 1, -np.log(given), -np.log(1 - given)) for label, given in p.values()]
    history = cosine.history["val/classification"]
    assert np.mean(cost) == pytest.approx(history[cosine.fit["best_epoch"]], rel=1e-4)
    assert history.nunique() == len(history)  # another epoch would show


def test_a_fit_ends_when_its_patience_does(exponential: Watched) -> None:
    areas = exponential.history["val/auroc"].tolist()
    better = [epoch for epoch in range(1, len(areas)) if areas[epoch] > max(areas[:epoch])]
    assert better == list(range(1, len(areas) - 1))  # the last one alone was no better than one before it
    assert len(areas) == exponential.fit["epochs"] < 6


def test_each_finding_keeps_its_name(cosine: Watched, eyes: Path) -> None:
    assert cosine.stored["findings"] == list(FINDINGS)
    test = [eyes / "raw" / f"{number:02d}.png" for number in SPLITS["test"]][:-1]  # the last is known for nothing
    predictor: Any = fundusnet.load(cosine.folder, device="cpu")
    said = predictor.predict(test)
    for finding in FINDINGS:
        expected = cosine.of(finding, "test")[1][: len(test)]
        np.testing.assert_allclose([one.probability[finding] for one in said], expected, atol=1e-4)
    # The two would not pass for each other.
    assert np.abs(cosine.of(FINDINGS[0], "test")[1] - cosine.of(FINDINGS[1], "test")[1]).max() > 1e-3


def test_the_rate_falls_along_a_cosine(cosine: Watched) -> None:
    assert cosine.rates() == pytest.approx(0.05 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2)


def test_the_rate_falls_to_a_hundredth_over_all_epochs(exponential: Watched) -> None:
    rates = exponential.rates()
    assert len(rates) > 1
    assert rates == pytest.approx(0.02 * 0.01 ** (np.arange(len(rates)) / 6))


def test_the_rate_of_grading_falls_by_its_factor(grading: Watched) -> None:
    assert grading.rates() == pytest.approx(0.0005 * 0.6 ** np.arange(3))


def test_optimisers_are_the_ones_asked_for(cosine: Watched, exponential: Watched, grading: Watched) -> None:
    wanted = [
        (cosine, {"kind": "SGD", "momentum": 0.7, "nesterov": True, "weight_decay": 0.003}),
        (exponential, {"kind": "AdamW", "weight_decay": 0.07}),
        (grading, {"kind": "RMSprop", "momentum": 0.3, "weight_decay": 0.004}),
    ]
    for run, options in wanted:
        assert all(options.items() <= step.items() for step in run.steps), run.steps[0]


def test_gradients_are_clipped_where_asked(cosine: Watched, exponential: Watched) -> None:
    assert max(step["norm"] for step in cosine.steps) <= 0.05 * 1.001
    assert max(step["norm"] for step in exponential.steps) > 0.05


def test_weights_lie_in_memory_as_asked(cosine: Watched, exponential: Watched, grading: Watched) -> None:
    assert all(step["channels_last"] for step in cosine.steps)
    assert not any(step["channels_last"] for step in exponential.steps + grading.steps)


def test_another_seed_starts_from_other_weights(cosine: Watched, exponential: Watched) -> None:
    pairs = list(zip(cosine.start, exponential.start, strict=True))
    assert any(not torch.equal(one, other) for one, other in pairs)


def test_the_guidance_weight_rises_in_even_steps(cosine: Watched) -> None:
    history = cosine.history
    weight = (history["train/loss"] - history["train/classification"]) / history["train/guidance"]
    assert weight.tolist() == pytest.approx([0, 0.5, 1, 1.5], abs=1e-3)
    weight = (history["val/loss"] - history["val/classification"]) / history["val/guidance"]
    assert weight.tolist() == pytest.approx([2, 2, 2, 2], rel=1e-3)  # or epochs of the warm-up would look better


@pytest.mark.parametrize("kind", ["log by cell", "bce by window"])
def test_the_guidance_term_has_the_form_asked_for(
    cosine: Watched, exponential: Watched, tmp_path: Path, kind: str
) -> None:
    run = cosine if kind == "log by cell" else exponential
    maps, cue = validated(run, tmp_path)
    if kind == "log by cell":
        cost = np.log(np.maximum(maps, 0.5))
        assert 0.1 < (maps < 0.5).mean() < 0.9  # the floor shows
    else:
        cost = -np.log(1 - maps) * 4**2
    expected = ((1 - cue) * cost)[~np.isnan(cue)].mean()
    assert expected == pytest.approx(run.history["val/guidance"][run.fit["best_epoch"]], rel=5e-3)


def validated(run: Watched, folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maps of the validation images, and the cues they were judged by."""
    cfg: Any = OmegaConf.load(run.folder / "config.yaml")
    task = task_of(cfg)
    task.score_again(cfg, run.folder, "val", folder, *task.trained(cfg, run.folder))
    with np.load(folder / "maps.npz") as stored:
        maps = stored["map"].astype(np.float64)
    data = task.make_datamodule(cfg)
    data.setup("fit")
    cue = torch.cat([batch["cue"] for batch in data.val_dataloader()])
    return maps, cue.double().numpy()


def test_balancing_weighs_present_images_by_their_rarity(exponential: Watched) -> None:
    cost = []
    for finding in FINDINGS:
        present = len(PRESENT[finding] & set(SPLITS["train"]))
        label, p = exponential.of(finding, "val")
        cost.append(np.where(label == 1, -np.log(p) * (24 - present) / present, -np.log(1 - p)))
    history = exponential.history["val/classification"]
    assert np.mean(cost) == pytest.approx(history[exponential.fit["best_epoch"]], rel=1e-4)


@pytest.mark.parametrize("k", [0, 1])
def test_balancing_gives_both_answers_of_a_grade_the_same_weight(grading: Watched, k: int) -> None:
    above = np.array(GRADES[:24]) > k
    table = grading.predictions("val")
    p = np.where(table["grade"] > k, table[f"p_gt_{k}"], 1 - table[f"p_gt_{k}"])
    share = np.where(table["grade"] > k, above.mean(), 1 - above.mean())
    # Each sub-classifier was kept at its own best epoch.
    assert np.mean(-np.log(p) / (2 * share)) == pytest.approx(grading.history[f"val/loss_gt_{k}"].min(), rel=1e-4)


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_operating_point_is_of_the_split_asked_for(cosine: Watched, exponential: Watched, finding: str) -> None:
    for run, split in ((cosine, "val"), (exponential, "test")):
        found = {name: operating_point(*run.of(finding, name)).threshold for name in ("val", "test")}
        assert found["val"] != found["test"]
        assert run.stored["operating_points"][finding] == pytest.approx(found[split])


def test_a_finding_that_most_batches_lack_is_said_during_a_fit(cosine: Watched) -> None:
    # Two pictures with drusen cannot be in more than two of six batches.
    said = [line for line in cosine.said if "of 6 batches of the first epoch held no picture with drusen" in line]
    assert len(said) == 1


# What a configuration says of data reaches what both tasks read them with.
TASKS = {"findings": ["finding=drusen"], "grading": ["experiment=paper_grading_ranking", "data=csv"]}
UNCHANGED = ["warp.hflip=false", "warp.scale=[1,1]", *(f"warp.{key}=0" for key in ("rotate", "translate", "shear"))]
UNCHANGED += ["gain=null"]


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sets without an official split, two pictures a patient."""
    eyes, graded = (tmp_path_factory.mktemp(name) for name in ("eyes", "graded"))
    tiny_prepared(eyes, images=48)
    graded_set(graded, [number // 2 % 3 for number in range(48)])
    return {"findings": eyes, "grading": graded}


def data_of(task: str, place: Path, *more: str) -> Any:
    cfg = config(place, *TASKS[task], *more)
    data: Any = task_of(cfg).make_datamodule(cfg)
    data.setup("fit")
    return data


def pixels(loader: Any) -> dict[int, torch.Tensor]:
    """Pictures by their row in the prepared set, in the order they come in."""
    batches = list(loader)
    pictures = torch.cat([batch["image"] for batch in batches]).permute(0, 2, 3, 1)
    return dict(zip(torch.cat([batch["index"] for batch in batches]).tolist(), pictures, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_decides_splits_order_and_augmentation(
    task: str, loose: dict[str, Path], eyes: Path, graded: Path
) -> None:
    splits = [data_of(task, loose[task], f"seed={seed}").rows["train"].tolist() for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]
    fixed = [data_of(task, eyes if task == "findings" else graded, f"seed={seed}") for seed in (1, 1, 2)]
    seen = [pixels(data.train_dataloader()) for data in fixed]
    assert list(seen[0]) == list(seen[1]) != list(seen[2]) and seen[0].keys() == seen[2].keys()
    assert all(torch.equal(seen[0][row], seen[1][row]) for row in seen[0])
    assert not any(torch.equal(seen[0][row], seen[2][row]) for row in seen[0])


@pytest.mark.parametrize("task", TASKS)
def test_training_pictures_alone_are_augmented_as_asked(task: str, loose: dict[str, Path]) -> None:
    stored = np.load(loose[task] / "prepared" / "pixels.npy")
    varied, plain = (data_of(task, loose[task], *(f"data.augment.{key}" for key in keys)) for keys in ((), UNCHANGED))
    for data, loader, alike in (
        (varied, varied.train_dataloader(), False),
        (varied, varied.val_dataloader(), True),
        (plain, plain.train_dataloader(), True),
    ):
        same = [np.array_equal(picture, stored[row]) for row, picture in pixels(loader).items()]
        assert data.rows and (all(same) if alike else not any(same))


@pytest.mark.parametrize("task", TASKS)
def test_splits_are_as_large_as_asked_and_keep_patients_together(task: str, loose: dict[str, Path]) -> None:
    for fractions in ([0.5, 0.25, 0.25], [0.25, 0.25, 0.5]):
        data = data_of(task, loose[task], f"data.fractions={fractions}".replace(" ", ""))
        sizes = np.array([len(data.rows[split]) for split in SPLITS])
        np.testing.assert_allclose(sizes / sizes.sum(), fractions, atol=0.1)
        # Two pictures, 2n and 2n + 1, are of one patient.
        patients = [set(data.rows[split] // 2) for split in SPLITS]
        assert sum(map(len, patients)) == len(set.union(*patients))
    alone = data_of(task, loose[task], "data.split_by=image", "data.fractions=[0.5,0.25,0.25]")
    patients = [set(alone.rows[split] // 2) for split in SPLITS]
    assert sum(map(len, patients)) > len(set.union(*patients))


def test_a_photograph_without_a_label_joins_others(tmp_path: Path) -> None:
    folder = graded_set(tmp_path, [number // 2 % 3 for number in range(48)]).folder
    images = pd.read_csv(folder / "manifest" / "images.csv", dtype=str, keep_default_na=False)
    images.loc[1, "grade"] = ""  # of the patient of image 0, and a near-duplicate of image 2
    images.to_csv(folder / "manifest" / "images.csv", index=False)
    pd.DataFrame({"image_id": images["image_id"][[1, 2]], "group": 0}).to_csv(folder / "duplicates.csv", index=False)
    places = []
    for seed in range(12):
        data = data_of("grading", tmp_path, "data.fractions=[0.5,0.25,0.25]", f"seed={seed}")
        places.append([{row for row in (0, 2) if row in data.rows[split]} for split in SPLITS])
    assert all(sum(map(bool, each)) == 1 for each in places), "never in two splits, nor both left out"
    assert {len(set.union(*each)) for each in places} == {1, 2}, "the one in training is left out"


@pytest.mark.parametrize("task", TASKS)
def test_batches_are_as_large_as_asked(task: str, loose: dict[str, Path]) -> None:
    sizes = [len(batch["image"]) for batch in data_of(task, loose[task], "data.batch_size=7").train_dataloader()]
    assert set(sizes[:-1]) == {7}


def test_cues_are_regions_or_lesions_as_asked(loose: dict[str, Path]) -> None:
    regions, lesions = (data_of("findings", loose["findings"], f"data.cue={cue}") for cue in ("regions", "pixels"))
    areas = [torch.cat([batch["cue"] for batch in data.val_dataloader()]) for data in (regions, lesions)]
    # A lesion is a tenth of the picture's side; the regions it touches are larger.
    assert 0 < areas[1].nansum() < 0.5 * areas[0].nansum()


def test_as_many_readers_must_agree_as_asked(tmp_path: Path) -> None:
    prepared = tiny_prepared(tmp_path).folder
    said = [("image00", ["macula"] * 2), ("image01", ["macula", ""]), ("image02", ["", ""])]
    rows = [
        {"image_id": image, "annotator_id": who, "finding": "drusen" if regions else "", "regions": regions}
        for image, each in said
        for who, regions in zip(("ann", "ben"), each, strict=True)
    ]
    pd.DataFrame(rows).to_csv(prepared / "manifest" / "readings.csv", index=False)
    for present, label in ((1, [1, 1, 0]), (2, [1, np.nan, 0])):
        data = data_of("findings", tmp_path, f"data.present={present}", "data.split_by=image")
        np.testing.assert_array_equal(data.labels.label[:3, 0], label)
