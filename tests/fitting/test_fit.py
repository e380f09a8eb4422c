"""Presets for debugging, and arguments that pass to Lightning's Trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_runs import tiny_overrides, tiny_place

from fundusnet.cli.main import main


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
