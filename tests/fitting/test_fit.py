"""Presets for debugging, and arguments that pass to Lightning's Trainer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_runs import tiny_overrides, tiny_place

from fundusnet.cli.main import main
from fundusnet.data import loading
from fundusnet.runs.checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_place(tmp_path_factory.mktemp("fit"))


def train(place: Path, run: str, *words: str) -> Path:
    assert main(["train", *tiny_overrides(place), "evaluation.panels=0", f"run_dir={place / run}", *words]) == 0
    return place / run


def fitted(run: Path) -> tuple[int, int]:
    """Epochs and steps of a run."""
    values = json.loads((run / "fit.json").read_text())
    return values["epochs"], values["steps"]


def test_fast_dev_run_takes_one_step_and_is_scored(place: Path) -> None:
    run = train(place, "fast", "debug=fast_dev_run")
    assert fitted(run) == (1, 1) and (run / "report.html").is_file()


def test_overfit_learns_one_batch_by_heart(place: Path) -> None:
    run = train(place, "overfit", "debug=overfit", "trainer.max_epochs=30", "model.loss.weight=0", "seed=1")
    assert fitted(run) == (30, 30)
    losses = pd.read_csv(run / "history.csv")["train/loss"]
    assert losses.iloc[-1] < 0.5 * losses.iloc[0]


def test_the_profiler_writes_where_the_time_went(place: Path) -> None:
    run = train(place, "profiler", "debug=profiler")
    assert "run_training_batch" in (run / "fit-profile.txt").read_text()


def test_arguments_of_the_trainer_reach_it(place: Path) -> None:
    assert fitted(train(place, "limited", "+trainer.limit_train_batches=2", "trainer.max_epochs=2")) == (2, 4)
    assert fitted(train(place, "accumulated", "+trainer.accumulate_grad_batches=2", "trainer.max_epochs=2")) == (2, 4)
    # An epoch has 4 batches without the limit.
    for limit, accumulated, steps in ((3, 1, 12), (2, 3, 4)):
        words = (f"+trainer.limit_train_batches={limit}", f"+trainer.accumulate_grad_batches={accumulated}")
        run = train(place, f"both_{limit}", *words, "trainer.max_epochs=4")
        assert fitted(run) == (4, steps)
        assert pd.read_csv(run / "history.csv")["val/loss"].nunique() == 4, "each epoch is validated"
    run = train(place, "seldom", "+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4")
    assert json.loads((run / "fit.json").read_text())["best_epoch"] in (1, 3)
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [0, 1, 2, 3]


def test_a_fit_without_validation_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*tiny_overrides(place), "+trainer.max_steps=3", f"run_dir={place / 'steps'}"]
    assert main(["train", *words]) == 2
    assert "the fit ended before its first validation" in capsys.readouterr().err


def test_a_callback_that_lightning_refuses_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*tiny_overrides(place), "callbacks=device_stats", f"run_dir={place / 'refused'}"]
    assert main(["train", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("fundusnet: Cannot use `DeviceStatsMonitor`")
    assert not any("Traceback" in line for line in lines)


def test_a_run_starts_from_an_earlier_one(
    place: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(place, "earlier", "model.optimizer.lr=0.05")
    with caplog.at_level("INFO"):
        train(place, "later", f"weights={first}", "model.network.pyramid_width=6", "model.optimizer.lr=1e-12")
    assert "tensors from" in caplog.text and "; new: heads" in caplog.text
    assert "test photographs were among" not in caplog.text
    other = train(place, "other", f"weights={first}", "data.folds=3", "data.fold=1")
    splits = [pd.read_csv(run / "splits.csv").set_index("image_id")["split"] for run in (first, other)]
    leaked = [name for name in splits[1].index[splits[1] == "test"] if splits[0][name] != "test"]
    assert leaked and f"{len(leaked)} of {(splits[1] == 'test').sum()} test photographs were among those" in caplog.text
    before, after = (
        load_checkpoint(place / name / "checkpoints" / "best.ckpt")["state_dict"] for name in ("earlier", "later")
    )
    same = [name for name in before if name.startswith("network.") and before[name].shape == after[name].shape]
    taken = [name for name in same if torch.allclose(before[name].float(), after[name].float(), atol=1e-6)]
    assert {name for name in same if "reductions" in name and name.endswith("weight")} <= set(taken)
    assert not any("heads.0.branches" in name and name.endswith("0.weight") for name in taken)
    for weights, message in (
        ("nowhere", "checkpoint nowhere does not exist"),
        (str(first), "has no layer of this network"),
    ):
        other = ["model=guided_timm", "model.network.backbone=resnet10t"] if weights != "nowhere" else []
        words = [word for word in tiny_overrides(place) if not other or not word.startswith("model.network")]
        assert main(["train", *words, *other, f"weights={weights}", f"run_dir={place / 'none'}"]) == 2
        assert message in capsys.readouterr().err


def test_a_finished_run_has_nothing_to_resume(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(place, "whole")
    with caplog.at_level("INFO"):
        assert main(["train", f"resume={run}"]) == 0
    assert "is finished: nothing is left to resume" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["model=guided_timm", "model.network.backbone=resnet81"],
            "model.network.backbone=resnet81 is unknown to timm",
        ),
        (["trainer.monitor=val/los"], "did you mean val/loss?"),
        (
            ["experiment=quickstart_grading", "model=two_stage", "model.stage1.network.weights=x"],
            "model.stage1.network.weights=x does not exist",
        ),
        (["run_dir=/proc/nowhere"], "run_dir=/proc/nowhere cannot be made"),
    ],
)
def test_what_cannot_work_is_refused_before_photographs_are_prepared(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "train",
        *([] if "grading" in words[0] else ["experiment=quickstart"]),
        f"data.root={tmp_path}/drawn",
        f"data.folder={tmp_path}/set",
    ]
    assert main([*given, *([] if "run_dir" in words[0] else [f"run_dir={tmp_path}/run"]), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "drawn").exists()


def test_a_small_shared_memory_is_said_before_training(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(loading, "SHARED_MEMORY", str(tmp_path))
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: usage._replace(total=64_000))
    assert main(["train", *tiny_overrides(place), "data.num_workers=2", f"run_dir={place / 'small'}"]) == 2
    told = capsys.readouterr().err
    assert "holds 0 MB" in told and "--shm-size=1g, or set data.num_workers=0" in told
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: usage._replace(total=64_000_000))
    train(place, "enough", "data.num_workers=1")


def test_a_run_that_was_killed_is_named_when_it_is_resumed(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(place, "killed")
    (run / "status.json").write_text(json.dumps({"state": "running", "error": None, "seconds": 0.0}))
    with caplog.at_level("WARNING"):
        assert main(["train", f"resume={run}"]) == 0
    assert "was killed without a word, perhaps out of memory" in caplog.text


def test_what_the_trainer_refuses_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*tiny_overrides(place), f"run_dir={place / 'refused'}", "+trainer.enable_checkpointing=false"]
    assert main(["train", *words]) == 2
    assert "enable_checkpointing" in capsys.readouterr().err.splitlines()[-1]


def test_a_fit_needs_validation(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*tiny_overrides(place), f"run_dir={place / 'unjudged'}", "data.folds=4", "data.fractions=[0.8,0,0.2]"]
    assert main(["train", *words]) == 2
    assert "no photograph is left to validate with" in capsys.readouterr().err.splitlines()[-1]
    assert not list((place / "unjudged").rglob("*.ckpt"))


def test_another_callback_ends_the_fit(place: Path) -> None:
    stop = [f"+callbacks.stop.{word}" for word in ("monitor=val/loss", "stopping_threshold=1000")]
    target = "+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping"
    assert fitted(train(place, "stopped", target, *stop, "trainer.max_epochs=3")) == (1, 4)


def test_averaged_weights_are_kept_if_they_were_validated(place: Path) -> None:
    target = "+callbacks.average._target_=pytorch_lightning.callbacks.EMAWeightAveraging"
    run = train(place, "averaged", target, "+callbacks.average.decay=0.7", "trainer.max_epochs=1")
    best, last = (load_checkpoint(run / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    same = [torch.equal(value, last["state_dict"][name]) for name, value in best["state_dict"].items()]
    other = [torch.equal(value, last["current_model_state"][name]) for name, value in best["state_dict"].items()]
    assert all(same) and not all(other)
    assert not {"optimizer_states", "callbacks", "current_model_state"} & best.keys()
