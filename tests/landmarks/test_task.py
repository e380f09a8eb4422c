"""A localiser from a configuration to a scored run, a page, and points in other sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_backbone  # noqa: F401  # timm then knows test_tiny
import torch
from torch import nn

import fundusnet
from fundusnet.commands.report import report
from fundusnet.config.compose import compose
from fundusnet.data.augment import Augment, Warp
from fundusnet.data.prepared import open_prepared
from fundusnet.data.regions import region_map
from fundusnet.errors import UserError
from fundusnet.landmarks.datamodule import LandmarkDataModule
from fundusnet.landmarks.localizer import Localizer
from fundusnet.landmarks.module import LandmarkModule
from fundusnet.landmarks.scoring import _same_regions, confidence_thresholds, score
from fundusnet.landmarks.statistics import landmark_metrics
from fundusnet.runs.checkpoints import load_module


def overrides(place: Path, images: int = 24) -> list[str]:
    return [
        *("experiment=landmarks", "data=synthetic", f"data.options.images={images}", f"data.root={place}/raw"),
        *(f"data.folder={place}/set", "data.size=64", "data.views=2", "data.batch_size=4"),
        *("model.network.backbone=test_tiny", "model.network.pretrained=false", "model.network.width=8"),
        *("trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.precision=32-true", "evaluation.bootstrap=50"),
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("landmarks")
    return fundusnet.train(compose([*overrides(place), f"run_dir={place}/run"])).run_dir


def test_a_run_leaves_what_every_run_leaves(run: Path) -> None:
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert there >= {
        *("config.yaml", "status.json", "history.csv", "predictions.csv", "predictions_val.csv", "metrics.json"),
        *("report.html", "splits.csv", "checkpoints/best.ckpt"),
    }
    history = pd.read_csv(run / "history.csv")
    assert {"train/loss", "val/loss", "val/error", "val/error_disc", "val/error_fovea"} <= set(history)


def test_errors_are_distances_in_disc_radii_and_original_pixels(run: Path) -> None:
    rows = pd.read_csv(run / "predictions.csv")
    prepared = open_prepared(run.parent / "set")
    images = prepared.manifest.images.set_index("image_id")
    assert list(rows["landmark"].unique()) == ["disc", "fovea"]
    for row in rows.itertuples():
        image = images.loc[row.image_id]
        x, y = image[f"{row.landmark}_x"], image[f"{row.landmark}_y"]
        pixels = np.hypot(row.found_x - x, row.found_y - y)
        radius = np.hypot(image["disc_x"] - image["fovea_x"], image["disc_y"] - image["fovea_y"]) / 5
        assert row.error == pytest.approx(pixels / radius, rel=1e-3)
        assert row.error_pixels == pytest.approx(pixels / image["scale"], rel=1e-3)
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    for name, part in rows.groupby("landmark"):
        assert metrics[f"{name}/median_error"]["value"] == pytest.approx(part["error"].median())
        assert metrics[f"{name}/within_radius"]["value"] == pytest.approx((part["error"] <= 1).mean())
        assert metrics[f"{name}/mean_error_pixels"]["value"] == pytest.approx(part["error_pixels"].mean())
        assert metrics[f"{name}/region_agreement"]["value"] == pytest.approx(part["region_agreement"].median())
        assert metrics[f"{name}/mean_error_distance"]["value"] == pytest.approx(part["error"].mean() / 5)


def test_regions_agree_where_the_points_do() -> None:
    grey = np.full((90, 90, 3), 100, np.uint8)
    grey[:, 45:] = 0  # outside the field: does not count
    given = [[60.0, 45.0], [20.0, 45.0]]
    assert _same_regions(grey, given, given) == 1
    mirrored = [[20.0, 45.0], [60.0, 45.0]]
    maps = [region_map((90, 90), *map(tuple, points)) for points in (given, mirrored)]  # type: ignore[arg-type]
    assert _same_regions(grey, given, mirrored) == pytest.approx((maps[0] == maps[1])[:, :45].mean())
    assert np.isnan(_same_regions(grey, [[60.0, 45.0], [np.nan, np.nan]], given))


def test_validation_says_from_which_confidence_on_a_point_is_sure(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["fundusnet"]
    assert content["thresholds"] == confidence_thresholds(pd.read_csv(run / "predictions_val.csv"))
    rows = pd.DataFrame({"error": [0.1, 2.0, 0.3, 1.5], "confidence": [0.9, 0.6, 0.7, 0.8]})
    found = confidence_thresholds(rows.assign(landmark=["disc", "disc", "fovea", "fovea"]))
    assert 0.6 < found["disc"] < 0.61 and 0.8 < found["fovea"] < 0.81
    assert confidence_thresholds(rows[rows["error"] < 1].assign(landmark="disc")) == {"disc": 0.5, "fovea": 0.5}


def test_a_run_is_evaluated_and_compared(run: Path, tmp_path: Path) -> None:
    scored = fundusnet.evaluate(compose([f"run={run}", "split=val", f"output={tmp_path}/again"], "evaluate"))
    val = pd.read_csv(run / "predictions_val.csv")
    again = pd.read_csv(scored / "predictions.csv")
    assert np.allclose(again["error"], val["error"], atol=1e-4)
    table = report(compose([f"runs=[{run}]", f"output={tmp_path}/table.md"], "report"))
    assert "Median error, disc radii" in Path(table).read_text()
    paper = report(compose([f"runs=[{run}]", f"output={tmp_path}/paper", "format=paper"], "report"))
    written = {path.name for path in Path(paper).rglob("*") if path.is_file()}
    assert {"metrics.csv", "metrics.tex", "losses_1.pdf", "methods.md"} <= written


def test_a_run_is_a_localiser(run: Path) -> None:
    localizer = Localizer.from_run(run)
    prepared = open_prepared(run.parent / "set")
    rows = pd.read_csv(run / "predictions.csv").set_index(["image_id", "landmark"])
    image_id = rows.index[0][0]
    row = list(prepared.manifest.images["image_id"]).index(image_id)
    localizer.thresholds = [0.0, 0.0]
    found = localizer.in_prepared(np.asarray(prepared.pixels[row]))
    assert found.disc is not None
    assert (found.disc.x, found.disc.y) == pytest.approx(
        tuple(rows.loc[(image_id, "disc"), ["found_x", "found_y"]]), abs=0.01
    )
    module = load_module(run / "checkpoints" / "best.ckpt", LandmarkModule)
    assert batch_norms(localizer.module) < batch_norms(module), "folded into convolutions"
    localizer.thresholds = [1.1, 1.1]
    assert localizer.in_prepared(np.asarray(prepared.pixels[row])).disc is None


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(each, nn.BatchNorm2d) for each in module.modules())


def test_points_are_scored_after_a_close_look(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_module(run / "checkpoints" / "best.ckpt", LandmarkModule)
    data = LandmarkDataModule(run.parent / "set")
    data.setup()
    data.store_features(module.network, torch.device("cpu"), module.network_inputs)
    monkeypatch.setattr("fundusnet.landmarks.module.disc_radius", lambda points: torch.full((len(points),), 6.0))
    tables = {}
    for likely in (2.0, 0.0):
        monkeypatch.setattr("fundusnet.landmarks.module.LIKELY", likely)
        tables[likely] = score(module, data, "test", torch.device("cpu"))[["found_x", "found_y"]].to_numpy()
    pictures = torch.from_numpy(np.array(data.prepared.pixels[data.rows["test"]])).permute(0, 3, 1, 2)
    expected = module(pictures)[0].detach().reshape(-1, 2).numpy()
    assert np.allclose(tables[0.0], expected, atol=0.02)
    assert np.abs(tables[2.0] - expected).max() > 1


@pytest.mark.parametrize("stored", [True, False])
def test_both_looks_are_learnt(run: Path, stored: bool) -> None:
    module = load_module(run / "checkpoints" / "best.ckpt", LandmarkModule).train()
    data = LandmarkDataModule(run.parent / "set")
    data.setup()
    if stored:
        data.store_features(module.network.eval(), torch.device("cpu"), module.network_inputs)
    batch = next(iter(data.train_dataloader()))
    assert ("features0" in batch) == stored
    loss, _, _ = module._loss(batch, "train")
    loss.backward()
    assert module.close_up is not None
    for head in (module.network, module.close_up):
        assert head.cells.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    # A point elsewhere in its close-up is another answer; one that left the picture is none.
    moved = {**batch, "around": batch["around"] + 2}
    assert not torch.isclose(module._loss(moved, "train")[0], loss)
    gone = {**batch, "points": torch.full_like(batch["points"], -9.0)}
    assert module._loss(gone, "train")[0].isfinite()


class Plain(torch.nn.Module):
    """A network of the user's own, which gives logits and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.Conv2d(3, 2, kernel_size=8, stride=8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(self.cells(image).flatten(2), (0, 1))


def test_a_network_of_the_users_own_needs_no_close_look(run: Path) -> None:
    data = LandmarkDataModule(run.parent / "set")
    data.setup()
    module = LandmarkModule(64, {"name": "clinic.Plain"}, network_class=Plain)
    batch = next(iter(data.train_dataloader()))
    loss, _, closely = module._loss(batch, "train")
    loss.backward()
    assert closely is None and module.network.cells.weight.grad.abs().sum() > 0
    assert module(batch["image"])[0].shape == (len(batch["index"]), 2, 2)


def test_photographs_as_they_are_look_the_same_with_any_seed(run: Path) -> None:
    """Stored features of unaugmented photographs are shared by seeds."""
    items = []
    for seed in (0, 1):
        data = LandmarkDataModule(run.parent / "set", seed=seed)
        data.setup()
        items.append(data.make_dataset(np.arange(4), None)[2])
    assert np.array_equal(items[0]["around"], items[1]["around"]) and items[0]["radius"] == items[1]["radius"]


def test_points_move_with_the_views_and_localised_points_do_not_count(tmp_path: Path, run: Path) -> None:
    prepared = run.parent / "set"
    mirror = Augment({"warp": Warp(hflip=True, scale=(1, 1), rotate=0, translate=0, shear=0)})
    data = LandmarkDataModule(prepared, augment=mirror, views=4)
    data.setup()
    dataset = data.make_dataset(data.rows["train"], mirror)
    plain_dataset = data.make_dataset(data.rows["train"], None)
    mirrored = 0
    for position in range(len(dataset)):
        plain, item = plain_dataset[position], dataset[position, 0]
        if np.array_equal(item["image"], plain["image"]):
            assert np.allclose(item["points"], plain["points"])
        else:
            mirrored += 1
            assert np.array_equal(item["image"], plain["image"][:, ::-1])
            assert np.allclose(item["points"], plain["points"] * (-1, 1) + (63, 0), atol=1e-3)
    assert mirrored
    file = prepared / "manifest" / "images.csv"
    before = file.read_text()
    try:
        images = pd.read_csv(file, dtype=str, keep_default_na=False)
        images["fovea_origin"] = "localised"
        images.to_csv(file, index=False)
        again = LandmarkDataModule(prepared)
        again.setup()
        assert np.isnan(again.points[:, 1]).all() and np.isfinite(again.points[:, 0]).all()
        images["disc_origin"] = "localised"
        images.to_csv(file, index=False)
        with pytest.raises(UserError, match=r"no photograph .* has a given disc or fovea"):
            LandmarkDataModule(prepared).setup()
    finally:
        file.write_text(before)


def test_undefined_metrics_say_why() -> None:
    rows = pd.DataFrame(
        {
            "image_id": ["a", "b"],
            "patient_id": ["", ""],
            "landmark": "fovea",
            "error": [np.nan] * 2,
            "error_pixels": [np.nan] * 2,
            "confidence": [0.9, 0.2],
            "located": [1, 0],
        }
    )
    metrics = landmark_metrics(rows, n=20)["metrics"]
    assert metrics["mean_error"] == {"value": None, "ci95": [None, None], "reason": "no images with both points"}
