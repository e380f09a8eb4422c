"""The doctor verb: what it says of the machine, and of a training that it measures without training."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from tiny_runs import tiny_overrides, tiny_place

from fundusnet.cli.main import main
from fundusnet.commands.doctor import duration, needed
from fundusnet.config.compose import compose
from fundusnet.fitting import machine, needs
from fundusnet.fitting.machine import Line, offered
from fundusnet.fitting.memory import weight_bytes

Usage = namedtuple("Usage", "total used free")


def by_name(lines: list[Line]) -> dict[str, Line]:
    return {line.what: line for line in lines}


def test_without_words_it_describes_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("this machine\n  processor ") and f"torch {torch.__version__.partition('+')[0]}" in said
    assert "What a training needs: fundusnet doctor experiment=" in said and "this training" not in said


def test_what_is_lacking_comes_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(64e6, 0, 5e9))
    monkeypatch.setattr(machine, "_installed", lambda module: module == "pydicom")
    said = by_name(list(offered(tmp_path)))
    assert said["/dev/shm"].value == "0.1 GB" and "--shm-size=1g" in said["/dev/shm"].advice
    assert said["disk"].advice == "make room, or work in another folder"
    assert said["extras"].value == "dicom" and "fundusnet[annotate,export," in said["extras"].advice
    assert said["weights"].value.startswith("none") and "fundusnet[weights]" in said["weights"].advice


def test_a_training_from_its_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_place(tmp_path)
    words = [*tiny_overrides(tmp_path), "trainer.max_epochs=3"]
    said = by_name(list(needed(compose(words, "doctor"))))
    assert said["photographs"].value == f"24, prepared in {tmp_path}/prepared"
    assert "a step of 4 images" in said["memory"].value and said["memory"].advice == ""
    assert said["epochs"].value.startswith("3 of about ") and "features" not in said and "weights" not in said
    assert not list((tmp_path / "prepared").rglob("*.ckpt"))  # nothing was trained
    monkeypatch.setattr(needs, "free_bytes", lambda device: 1e4)
    assert "lower data.batch_size" in by_name(list(needed(compose(words, "doctor"))))["memory"].advice


def test_what_a_training_would_refuse_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data.augment_on=device", "+data.augment.blur._target_=albumentations.GaussianBlur"]
    assert main(["doctor", *tiny_overrides(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.augment.blur (GaussianBlur" in line and "use data.augment_on=cpu" in line


def test_frozen_features_are_computed_once_and_counted_with_their_views(tmp_path: Path) -> None:
    tiny_place(tmp_path)
    words = ["experiment=findings", "data=csv", f"data.root={tmp_path}/raw", f"data.folder={tmp_path}/prepared"]
    words += ["data.size=64", "finding=drusen", "model.network.backbone=test_resnet", "trainer.accelerator=cpu"]
    cfg = compose(words, "doctor")
    one = by_name(list(needed(cfg)))["features"].value
    cfg.data.views = 13  # 14 arrays of each photograph in place of 7
    many = by_name(list(needed(cfg)))["features"].value
    assert float(many.split()[-2]) == pytest.approx(2 * float(one.split()[-2]), abs=1.01)


def test_a_run_of_two_stages_counts_every_fit(tmp_path: Path) -> None:
    words = ["experiment=quickstart_grading", "data.size=32", "trainer.max_epochs=2", "model.stage1.max_epochs=3"]
    words += ["model.stage1.folds=4", "model.network.backbone=test_resnet", "trainer.accelerator=cpu"]
    said = [line.value for line in needed(compose(words, "doctor")) if line.what == "epochs"]
    assert said[0].startswith("stage 1, 3 of") and said[0].endswith(", 5 times") and said[1].startswith("stage 2, 2 of")


def test_only_what_is_trained_has_gradients_and_moments() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(9, 10, bias=False), torch.nn.Linear(10, 5, bias=False))
    assert weight_bytes(network) == 4 * 4 * (90 + 50)
    network[0].requires_grad_(False)
    assert weight_bytes(network) == 4 * 4 * 50


def test_durations() -> None:
    found = [duration(seconds) for seconds in (0.2, 5, 99, 100, 5399, 5400, 36000)]
    assert found == ["below a second", "5 s", "99 s", "2 min", "90 min", "1.5 h", "10.0 h"]


def test_a_key_that_a_training_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "data.sise=64", "experiment=quickstart"]) == 2
    assert "data.size" in capsys.readouterr().err
