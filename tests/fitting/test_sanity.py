"""What is odd about a fit is said: losses that are no numbers, parameters that do not learn, classes seldom seen."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import tiny_overrides, tiny_place
from torch import nn

from fundusnet import compose, train
from fundusnet.errors import NotFiniteError, UserError
from fundusnet.fitting.sanity import SanityWarnings
from fundusnet.runs.folder import state_of


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_images(tmp_path: Path) -> None:
    words = [*tiny_overrides(tiny_place(tmp_path)), "model.optimizer.lr=1e30", "trainer.max_epochs=3"]
    with pytest.raises(UserError, match=r"loss is nan on the batch of (image\d\d(, )?)+; lower model.optimizer.lr"):
        train(compose([*words, f"run_dir={tmp_path}/run"]))
    assert state_of(tmp_path / "run") == "failed"


def test_whoever_does_not_know_the_set_names_its_rows() -> None:
    assert "the val loss is inf on the batch of rows 3, 14 of" in str(NotFiniteError("val", float("inf"), [3, 14]))


def fitted(watch: SanityWarnings, batches: list[dict[str, torch.Tensor]], datamodule: Any) -> None:
    """Show the callback an epoch of batches."""
    trainer: Any = SimpleNamespace(current_epoch=0, datamodule=datamodule)
    module: Any = nn.ModuleDict({"trunk": nn.Linear(2, 2), "head": nn.Linear(2, 1), "spare": nn.Linear(1, 1)})
    module["trunk"].requires_grad_(False)
    watch.on_train_start(trainer, module)
    module["head"](module["trunk"](torch.ones(1, 2))).sum().backward()
    watch.on_after_backward(trainer, module)
    for number, batch in enumerate(batches):
        watch.on_train_batch_end(trainer, module, None, batch, number)
    watch.on_train_epoch_end(trainer, module)


def test_frozen_and_unused_parameters_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fitted(SanityWarnings(), [], None)
    assert "frozen, not trained: trunk.weight (1), trunk.bias (1)" in caplog.text
    assert "will not be trained: spare.weight (1), spare.bias (1)" in caplog.text
    assert "head" not in caplog.text


def test_classes_that_most_batches_lack_are_said(caplog: pytest.LogCaptureFixture) -> None:
    nan = float("nan")
    labels = [[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [nan, 1.0]], [[1.0, 1.0], [0.0, 0.0]]]
    batches = [{"label": torch.tensor(each)} for each in labels]
    fitted(SanityWarnings(), batches, SimpleNamespace(findings=["drusen", "membrane"]))
    assert "2 of 3 batches of the first epoch held no picture with drusen" in caplog.text
    assert "membrane" not in caplog.text


def test_grades_that_most_batches_lack_are_said(caplog: pytest.LogCaptureFixture) -> None:
    batches = [{"grade": torch.tensor(each)} for each in ([0, 1], [0, 0], [0, 2])]
    fitted(SanityWarnings(), batches, SimpleNamespace(classes=("normal", "early", "advanced")))
    assert "2 of 3 batches of the first epoch held no picture of grade early" in caplog.text
    assert "normal" not in caplog.text
