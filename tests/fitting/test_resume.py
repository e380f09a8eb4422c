"""A run that is killed ends as if it had not been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from killing import killed
from omegaconf import DictConfig
from tiny_runs import tiny_overrides, tiny_place

from fundusnet import compose, train
from fundusnet.errors import UserError
from fundusnet.fitting.fit import make_trainer
from fundusnet.fitting.resume import Checkpoints, last_complete
from fundusnet.runs.folder import Interrupted, graceful_sigterm, state_of
from fundusnet.system.locks import folder_lock


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_place(tmp_path_factory.mktemp("resume"))


def config(place: Path, run: str, *more: str) -> DictConfig:
    exact = ("trainer.deterministic=true", "trainer.checkpoint_every=2", "trainer.max_epochs=3")
    return compose([*tiny_overrides(place), *exact, f"run_dir={place / run}", *more])


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The run that nothing interrupts."""
    torch.set_num_threads(1)
    return train(config(place, "whole")).run_dir


def weights(run: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


# 16 training pictures in batches of 4: an epoch has four steps.
MOMENTS = [
    ("on_train_batch_end", 7, "data.num_workers=0"),  # within epoch 1, one step after a checkpoint
    ("on_train_epoch_start", 8, "data.num_workers=2"),  # between two epochs
    pytest.param("on_train_batch_end", 7, "data.num_workers=2", marks=pytest.mark.slow),
    # Epoch 1 is trained but not validated.
    pytest.param("on_validation_start", 8, "data.num_workers=0", marks=pytest.mark.slow),
    # All is trained, nothing scored.
    pytest.param("on_fit_end", 12, "data.num_workers=0", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("moment", "step", "workers"), MOMENTS)
def test_killed_and_resumed_equals_uninterrupted(
    whole: Path, place: Path, moment: str, step: int, workers: str
) -> None:
    run = place / f"{moment}{workers[-1]}"
    assert killed(config(place, run.name, workers), moment, step) == -signal.SIGKILL
    assert state_of(run) == "running"
    train(compose([f"resume={run}"]))
    for name in ("best", "last"):
        assert same(weights(run, name)["state_dict"], weights(whole, name)["state_dict"])
    for key in ("optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert same(weights(run)[key], weights(whole)[key])
    assert json.loads((run / "fit.json").read_text()) == json.loads((whole / "fit.json").read_text())
    history, expected = (pd.read_csv(folder / "history.csv") for folder in (run, whole))
    kept = [name for name in expected if not name.startswith("train/")]
    pd.testing.assert_frame_equal(history[kept], expected[kept])
    assert (run / "metrics.json").read_text() == (whole / "metrics.json").read_text()


def test_a_fit_is_interrupted_between_two_steps_of_accumulated_gradients(place: Path) -> None:
    accumulated = ("data.batch_size=2", "+trainer.accumulate_grad_batches=2", "trainer.checkpoint_every=null")
    expected = train(config(place, "accumulated", *accumulated)).run_dir
    cfg = config(place, "accumulated_ended", *accumulated)
    assert killed(cfg, "on_train_batch_start", 5, signal.SIGTERM) == 143
    run = place / "accumulated_ended"
    assert weights(run)["global_step"] == 6
    train(compose([f"resume={run}"]))
    assert same(weights(run)["state_dict"], weights(expected)["state_dict"])


def test_asked_to_end_it_saves_and_says_so(whole: Path, place: Path) -> None:
    run = place / "ended"
    cfg = config(place, "ended", "trainer.checkpoint_every=null")
    assert killed(cfg, "on_train_batch_start", 5, signal.SIGTERM) == 143
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "interrupted" and "resume" in status["error"]
    assert weights(run)["global_step"] == 6  # the step it was in, to its end
    train(compose([f"resume={run}"]))
    assert same(weights(run)["state_dict"], weights(whole)["state_dict"])


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=[pytest.mark.ddp, pytest.mark.slow])])
def test_a_signal_to_the_whole_process_group_ends_it_in_order(place: Path, devices: int) -> None:
    """As SLURM and timeout send it: to workers that load images too."""
    run = place / f"group{devices}"
    words = [*tiny_overrides(place), f"run_dir={run}", "trainer.max_epochs=10000", "trainer.patience=100000"]
    words += ["data.num_workers=2", f"trainer.devices={devices}", *(["data.split_by=image"] if devices > 1 else [])]
    command = [sys.executable, "-m", "fundusnet", "train", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (run / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 143, said
    assert said[-1] == f"fundusnet: stopped; resume with fundusnet train resume={run}"
    assert not any("Traceback" in line or "Error" in line for line in said), said
    assert state_of(run) == "interrupted"
    assert last_complete(run / "checkpoints") == run / "checkpoints" / "last.ckpt"


@pytest.mark.slow
def test_a_torn_checkpoint_is_passed_over(whole: Path, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = place / "torn"
    cfg = config(place, "torn")
    assert killed(cfg, "on_train_batch_end", 7) == -signal.SIGKILL
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert last_complete(last.parent) == last.with_name("previous.ckpt")
    assert "last.ckpt cannot be read" in caplog.text
    train(compose([f"resume={run}"]))
    assert same(weights(run)["state_dict"], weights(whole)["state_dict"])


def test_a_finished_run_keeps_no_checkpoint_that_nothing_reads(whole: Path) -> None:
    assert {file.name for file in (whole / "checkpoints").glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}


def test_a_finished_run_is_returned_as_it_is(whole: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in whole.rglob("*") if file.is_file()}
    result = train(compose([f"resume={whole}"]))
    assert result.metrics == json.loads((whole / "metrics.json").read_text())
    assert {file: file.stat().st_mtime_ns for file in whole.rglob("*") if file.is_file()} == before


def test_only_a_run_folder_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        train(compose([f"resume={tmp_path}"]))


@pytest.mark.slow
def test_a_fit_out_of_patience_is_not_taken_further(place: Path) -> None:
    # A network that hardly moves ranks the pictures the same in every epoch.
    cfg = config(place, "patient", "trainer.patience=1", "trainer.max_epochs=9", "model.optimizer.lr=1e-12")
    cfg.trainer.monitor = "val/auroc"
    run = train(cfg).run_dir
    epochs = json.loads((run / "fit.json").read_text())["epochs"]
    assert epochs < 9
    for name in ("fit.json", "status.json"):
        (run / name).unlink()
    train(compose([f"resume={run}"]))
    assert json.loads((run / "fit.json").read_text())["epochs"] == epochs
    assert len(pd.read_csv(run / "history.csv")) == epochs


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path),
        pytest.raises(UserError, match="another process uses"),
        folder_lock(tmp_path, patience=0.1),
    ):
        pytest.fail("both are in")
    with folder_lock(tmp_path, patience=0):
        pass


def test_outside_of_a_fit_too_the_end_is_in_order() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as ended, graceful_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("monitor", "mode", "higher"),
    [
        *(("val/loss", None, False), ("val/error_disc", None, False), ("val/auroc/drusen", None, True)),
        *(("val/f1", "max", True), ("val/dice_loss_of_mine", "max", True), ("val/hausdorff", "min", False)),
    ],
)
def test_the_best_value_is_the_highest_or_the_lowest(monitor: str, mode: Any, higher: bool, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 0, [], [], accelerator="cpu", precision="32-true", monitor=monitor, mode=mode)
    (checkpoints,) = (each for each in trainer.callbacks if isinstance(each, Checkpoints))  # type: ignore[attr-defined]
    checkpoints.best = 0.5
    assert (checkpoints._is_better(0.6), checkpoints._is_better(0.4)) == (higher, not higher)
