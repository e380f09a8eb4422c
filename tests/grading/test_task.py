"""One command from photographs to a graded run: two stages, out-of-fold masks, resumed, scored twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from graded import graded_set
from omegaconf import OmegaConf

from fundusnet import compose, evaluate, train
from fundusnet.commands import train as training
from fundusnet.errors import UserError
from fundusnet.grading import task
from fundusnet.grading.metrics import confusion_matrix
from fundusnet.grading.stage import load_stage
from fundusnet.grading.two_stage import TwoStage, first_stage
from fundusnet.runs.checkpoints import load_checkpoint, load_module, read_metadata, write_checkpoint

GRADES = [number // 2 % 3 for number in range(72)]
TINY = [
    "data=csv",
    "data.size=64",
    "data.batch_size=8",
    "data.num_workers=0",
    "model.network.backbone=test_resnet",
    "model.network.hidden=8",
    "model.network.pretrained=false",
    "model.optimizer.lr=0.003",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "evaluation.bootstrap=20",
]
STAGES = ["fold_0", "fold_1", "stage1", "stage2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grading")
    graded_set(folder, GRADES)
    return folder


def config(place: Path, run: str | Path, *more: str, experiment: str = "paper_grading_two_stage") -> Any:
    where = [f"data.root={place}/raw", f"data.folder={place}/prepared", f"run_dir={place / run}"]
    return compose([f"experiment={experiment}", *TINY, *where, *more])


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """A run of two stages with masks from two folds, which leave a tenth of the picture everywhere."""
    torch.set_num_threads(1)
    more = ["model.stage1.folds=2", "model.stage1.max_epochs=2", "model.mask.floor=0.1"]
    return train(config(place, "run", *more)).run_dir


def test_the_run_folder_holds_what_others_rely_on(run: Path) -> None:
    names = ("config.yaml", "history.csv", "predictions.csv", "metrics.json", "status.json", "checkpoints/best.ckpt")
    assert [name for name in names if not (run / name).is_file()] == []
    assert sorted(folder.name for folder in (run / "stages").iterdir() if folder.is_dir()) == STAGES
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "grading" and metrics["split"] == "test"
    wanted = {"accuracy", "kappa_quadratic", "mae", "auroc_macro", "rank_violations", "stage1_accuracy"}
    assert {*wanted, "recall_normal", "recall_suspicious", "recall_glaucoma"} <= set(metrics["metrics"])
    assert metrics["metrics"]["brier_gt_0"]["value"] is not None
    assert "NaN" not in (run / "metrics.json").read_text()


def test_predictions_are_those_that_were_scored(run: Path) -> None:
    table = pd.read_csv(run / "predictions.csv")
    columns = ["image_id", "patient_id", "grade", "predicted", "stage1_predicted", "p_gt_0", "p_gt_1"]
    assert list(table.columns) == [*columns, "calibrated_gt_0", "calibrated_gt_1"]
    assert (table["predicted"] == (table[["p_gt_0", "p_gt_1"]] > 0.5).sum(axis=1)).all()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["metrics"]["accuracy"]["value"] == pytest.approx((table["grade"] == table["predicted"]).mean())
    assert metrics["confusion"] == confusion_matrix(table["grade"], table["predicted"], 3).tolist()
    # Both eyes of a patient are in one split.
    masks = pd.read_csv(run / "stages" / "masks.csv")
    test = set(masks.loc[masks["split"] == "test", "image_id"])
    assert test == set(table["image_id"])


def test_no_training_image_is_masked_by_a_model_that_saw_it(run: Path) -> None:
    masks = np.load(run / "stages" / "masks.npy")
    for fold in range(2):
        folder = run / "stages" / f"fold_{fold}"
        datamodule = task.make_datamodule(OmegaConf.load(folder / "config.yaml"))  # type: ignore[arg-type]
        datamodule.setup("fit")
        unseen = np.flatnonzero(datamodule.fold_of == fold)
        assert len(unseen) and not set(unseen) & set(datamodule.rows["train"])
        network = load_stage(folder / "checkpoints" / "best.ckpt").network
        for batch in datamodule.in_order(unseen):
            expected = first_stage(network, batch["image"].float() / 255, floor=0.1)
            assert np.allclose(masks[batch["index"]], expected.mask[:, 0], atol=1e-3)


def test_stage_2_is_taught_through_the_stored_masks_behind_the_stage_1_of_all_images(run: Path) -> None:
    cfg: Any = OmegaConf.load(run / "stages" / "stage2" / "config.yaml")
    assert Path(cfg.stage.masks) == (run / "stages" / "masks.npy").resolve()
    system = load_module(run / "checkpoints" / "best.ckpt", TwoStage)
    first = load_stage(run / "stages" / "stage1" / "checkpoints" / "best.ckpt")
    for key, value in first.network.state_dict().items():
        assert torch.equal(system.stage1.state_dict()[key], value), key
    # Without a file of masks: the one checkpoint grades a picture alone.
    answer = system(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert tuple(answer.mask.shape) == (1, 1, 64, 64) and tuple(answer.roi.shape) == (1, 3, 64, 64)


@pytest.mark.parametrize("stage", STAGES)
def test_each_sub_classifier_is_that_of_its_own_best_epoch(run: Path, stage: str) -> None:
    folder = run / "stages" / stage
    history = pd.read_csv(folder / "history.csv")
    best = [int(history[f"val/loss_gt_{k}"].argmin()) for k in range(2)]
    assert read_metadata(folder / "checkpoints" / "best.ckpt")["best_epochs"] == best


def test_the_weights_of_each_best_epoch_replace_those_of_the_last(run: Path, tmp_path: Path) -> None:
    content = load_checkpoint(run / "stages" / "stage2" / "checkpoints" / "last.ckpt")
    last = content["state_dict"]
    for k, weights in enumerate(content["best"]["weights"]):
        for key in weights:
            weights[key] = last[f"network.members.{k}.{key}"] + 1 + k
    write_checkpoint(tmp_path / "checkpoints" / "last.ckpt", content)
    task.keep_best_epochs(tmp_path, tmp_path / "best.ckpt")
    final = load_module(tmp_path / "best.ckpt", TwoStage).state_dict()
    for key, value in last.items():
        if key.startswith("network.members."):
            value = value + 1 + int(key.split(".")[2])
        assert torch.equal(final[key], value), key  # stage 1 stays as it is


def test_the_history_tells_the_stages_apart(run: Path) -> None:
    history = pd.read_csv(run / "history.csv")
    assert history.groupby("stage")["epoch"].count().to_dict() == {
        "stage1": 2, "fold_0": 2, "fold_1": 2, "stage2": 3,
    }  # fmt: skip


def test_scoring_one_checkpoint_again_gives_the_same_metrics(run: Path, tmp_path: Path) -> None:
    again = evaluate(
        compose([f"run={run}", "split=test", f"output={tmp_path}/again", "evaluation.bootstrap=20"], "evaluate")
    )
    for name in ("metrics.json", "predictions.csv"):
        assert (again / name).read_text() == (run / name).read_text()


@pytest.mark.parametrize("stop", [*STAGES[:2], "masks", "stage2", "score"])
def test_what_is_finished_is_never_done_again(run: Path, stop: str, tmp_path: Path) -> None:
    """Killed before ``stop`` and started again: the stages before it keep every byte, and the end is the same."""
    order = ["stage1", "fold_0", "fold_1", "masks", "stage2", "score"]
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for name in order[order.index(stop) :]:
        shutil.rmtree(folder / "stages" / name, ignore_errors=True)
        for file in folder.glob(f"stages/{name}.*"):
            file.unlink()
    shutil.rmtree(folder / "checkpoints")
    cfg: Any = OmegaConf.load(folder / "config.yaml")
    kept = {file: file.stat().st_mtime_ns for file in folder.rglob("*.ckpt")}
    fitted = []

    def pretend(stage: Any, where: Path, datamodule: Any) -> None:
        """Instead of fitting: what a finished fit would have left."""
        if not (where / "fit.json").exists():
            fitted.append(where.name)
            shutil.copytree(run / "stages" / where.name, where, dirs_exist_ok=True)

    task.fit_and_score(cfg, folder, pretend)
    assert fitted == [name for name in order[order.index(stop) :] if name in STAGES]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert (folder / "metrics.json").read_text() == (run / "metrics.json").read_text()
    assert np.array_equal(np.load(folder / "stages" / "masks.npy"), np.load(run / "stages" / "masks.npy"))


@pytest.mark.parametrize("head", ["multiclass", "ranking"])
def test_a_single_stage_on_whole_pictures(place: Path, head: str) -> None:
    cfg = config(place, f"single_{head}", "trainer.max_epochs=1", experiment=f"grading_{head}")
    folder = train(cfg).run_dir
    assert not (folder / "stages").exists()
    table = pd.read_csv(folder / "predictions.csv")
    assert table["stage1_predicted"].isna().all()
    assert "stage1_accuracy" not in json.loads((folder / "metrics.json").read_text())["metrics"]
    assert ((table["p_gt_0"] >= table["p_gt_1"]).all()) or head == "ranking"


def test_a_stage_1_given_by_the_user_is_used_and_online_masks_store_nothing(run: Path, place: Path) -> None:
    given = run / "stages" / "stage1" / "checkpoints" / "best.ckpt"
    more = [f"model.stage1.checkpoint={given.parents[1]}", "model.stage1.masks=online", "trainer.max_epochs=1"]
    folder = train(config(place, "given", *more, "model.mask.floor=0.25")).run_dir
    assert [path.name for path in (folder / "stages").iterdir()] == ["stage2"]
    first, second = (pd.read_csv(where / "predictions.csv")["stage1_predicted"] for where in (run, folder))
    assert first.equals(second)
    with np.load(folder / "masks.npz") as stored:
        assert stored["mask"].min() == pytest.approx(0.25, abs=1e-3)  # the floor under the lowest cell


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.stage1.folds=2", "model.stage1.masks=online"], "folds=2 and model.stage1.masks=online exclude"),
        (["model.input=image"], "model.input=image leaves the masks of stage 1 unused"),
        (
            ["model.head=corn", "model.loss.balance=inverse"],
            "balance=inverse does not work with model.head=corn",
        ),
        (["model.stage1.folds=99"], "folds=99 is not possible"),
        (["model.stage1.checkpoint=nowhere.ckpt"], "nowhere.ckpt does not exist"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_fitted(
    place: Path, more: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("fitted"))
    with pytest.raises(UserError, match=message) as refused:
        train(config(place, tmp_path / "run", *more))
    assert "\n" not in str(refused.value)


def test_masks_ask_for_a_first_stage(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.input=roi needs the masks of a first stage"):
        train(config(place, tmp_path / "run", "model.input=roi", experiment="paper_grading_ranking"))


def test_a_stage_1_of_another_backbone_or_head_or_other_grades_is_refused(
    run: Path, place: Path, tmp_path: Path
) -> None:
    given = f"model.stage1.checkpoint={run / 'stages' / 'stage1' / 'checkpoints' / 'best.ckpt'}"
    with pytest.raises(UserError, match=r"holds backbone=test_resnet, and .*backbone=resnet10t.*or set"):
        train(config(place, tmp_path / "a", given, "model.stage1.network.backbone=resnet10t"))
    with pytest.raises(UserError, match=r"holds head=ranking, and .*head=multiclass"):
        train(config(place, tmp_path / "b", given, "model.head=multiclass"))
    binary = tmp_path / "binary"
    graded_set(binary, [grade % 2 for grade in GRADES], ("no", "yes"))
    with pytest.raises(UserError, match=r"has 3 grades, .* holds 2 \(no, yes\)"):
        train(config(place, tmp_path / "c", given, f"data.folder={binary}/prepared"))


def test_a_checkpoint_is_scored_on_its_own_grades_alone(run: Path, tmp_path: Path) -> None:
    graded_set(tmp_path, [grade % 2 for grade in GRADES], ("no", "yes"))
    cfg: Any = OmegaConf.load(run / "config.yaml")
    cfg.data.folder = str(tmp_path / "prepared")
    with pytest.raises(UserError, match=r"has 3 grades, .* holds 2 \(no, yes\); score it on the data"):
        task.trained(cfg, run)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["experiment=paper_grading_multiclass"], "multiclass"),
        (["experiment=grading_multiclass"], "multiclass (tf_efficientnet_lite0+1+2)"),
        (["experiment=probe_grading"], "linear multiclass (tf_efficientnet_lite0+1+2)"),
        (["experiment=colors_grading"], "linear multiclass (color_statistics)"),
        (["experiment=paper_grading_two_stage"], "two-stage ranking"),
        (["experiment=paper_grading_two_stage", "model.stage1.folds=5"], "two-stage ranking, 5 folds"),
        (["experiment=paper_grading_two_stage", "model.mask.kind=agnostic"], "two-stage ranking, agnostic mask"),
        (["experiment=paper_grading_ranking", "model.network.backbone=resnet18"], "ranking (resnet18)"),
    ],
)
def test_a_run_is_called_by_what_sets_it_apart(overrides: list[str], name: str) -> None:
    assert task.run_name(compose([*overrides, "data.root=x"])) == name


def test_the_checkpoint_holds_what_a_prediction_needs(run: Path) -> None:
    stored = read_metadata(run / "checkpoints" / "best.ckpt")
    assert stored["task"] == "grading" and stored["size"] == 64
    assert stored["classes"] == ["normal", "suspicious", "glaucoma"]
