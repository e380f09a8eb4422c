"""Which device computes: by the configuration's keys, and never a GPU that nobody asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from graded import graded_set
from omegaconf import OmegaConf
from tiny import tiny_prepared
from tiny_runs import tiny_overrides

from fundusnet import compose
from fundusnet.commands.evaluate import evaluate
from fundusnet.commands.train import train
from fundusnet.errors import UserError
from fundusnet.findings import task as findings
from fundusnet.grading import task as grading
from fundusnet.system.devices import all_devices, choose_device, named_device

CPU = torch.device("cpu")


@pytest.fixture
def set_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes torch say that this machine has so many GPUs."""

    def set_count(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return set_count


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices", "expected"),
    [
        (0, "auto", 1, "cpu"),
        (0, "auto", [2], "cpu"),
        (0, "cpu", 2, "cpu"),
        (4, "cpu", 1, "cpu"),
        (4, "cpu", [2], "cpu"),
        (1, "auto", 1, "cuda:0"),
        (4, "auto", "auto", "cuda:0"),
        (4, "gpu", -1, "cuda:0"),
        (4, "cuda", 3, "cuda:0"),
        (4, "auto", [2], "cuda:2"),
        (4, "gpu", OmegaConf.create([3, 1]), "cuda:3"),
    ],
)
def test_one_device_follows_from_accelerator_and_devices(
    set_gpus: Callable[[int], None], gpus: int, accelerator: str, devices: int | str | Sequence[int], expected: str
) -> None:
    set_gpus(gpus)
    assert choose_device(accelerator, devices) == torch.device(expected)


def test_gpus_that_are_not_there_are_refused(set_gpus: Callable[[int], None]) -> None:
    set_gpus(0)
    for accelerator in ("gpu", "cuda"):
        with pytest.raises(UserError, match=f"accelerator={accelerator}: torch finds no GPU here; use auto or cpu"):
            choose_device(accelerator)
    set_gpus(2)
    with pytest.raises(UserError, match=r"trainer.devices=\[2\]: torch finds GPUs 0 to 1 here; choose among these"):
        choose_device("auto", [2])
    set_gpus(1)
    with pytest.raises(UserError, match=r"trainer.devices=\[1, 0\]: torch finds GPU 0 only here"):
        choose_device("auto", [1, 0])


def test_prediction_takes_every_gpu_or_the_one_named(set_gpus: Callable[[int], None]) -> None:
    set_gpus(0)
    assert all_devices() == [CPU] and named_device("auto") == named_device("cpu") == CPU
    set_gpus(2)
    assert all_devices() == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert named_device("auto") == torch.device("cuda:0") and named_device("cpu") == CPU


@pytest.fixture(scope="module")
def findings_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("findings")
    tiny_prepared(folder)
    return train(compose([*tiny_overrides(folder), f"run_dir={folder}/run"])).run_dir


@pytest.fixture(scope="module")
def grading_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grading")
    graded_set(folder, [number // 2 % 3 for number in range(72)])
    tiny = [
        "experiment=paper_grading_two_stage", "data=csv", f"data.root={folder}/raw", f"data.folder={folder}/prepared",
        "data.size=64", "data.batch_size=8", "data.num_workers=0", "model.network.backbone=test_resnet",
        "model.network.hidden=8", "model.network.pretrained=false", "model.stage1.max_epochs=1",
        "model.stage1.folds=1", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true",
        "evaluation.bootstrap=20", f"run_dir={folder}/run",
    ]  # fmt: skip
    return train(compose(tiny)).run_dir


@pytest.mark.parametrize(("task", "run"), [(findings, "findings_run"), (grading, "grading_run")])
@pytest.mark.parametrize(
    ("accelerator", "devices", "expected"), [("cpu", 1, "cpu"), ("auto", [2], "cuda:2"), ("gpu", "auto", "cuda:0")]
)
def test_a_run_is_scored_on_the_device_it_was_trained_on(
    task: Any, run: str, accelerator: str, devices: Any, expected: str,
    request: pytest.FixtureRequest, set_gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = request.getfixturevalue(run)
    cfg: Any = OmegaConf.load(folder / "config.yaml")
    cfg.trainer.accelerator, cfg.trainer.devices = accelerator, devices
    if task is grading:
        (folder / "stages" / "masks.npy").unlink()
    given = [_spy(monkeypatch, task, name) for name in ("score", "write_results", "write_masks")]
    set_gpus(4)
    task.fit_and_score(cfg, folder, lambda *_: None)
    assert [devices for devices in given if devices] == [[torch.device(expected)]] * (3 if task is grading else 2)


def _spy(monkeypatch: pytest.MonkeyPatch, task: Any, name: str) -> list[torch.device]:
    """Collect the device that ``task.NAME`` is given; it computes on the CPU all the same."""
    found: list[torch.device] = []
    if (original := getattr(task, name, None)) is not None:

        def on_the_cpu(*args: Any, **kwargs: Any) -> Any:
            found.extend(value for value in args if isinstance(value, torch.device))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch.cuda, "is_available", lambda: False)
                return original(*(CPU if isinstance(value, torch.device) else value for value in args), **kwargs)

        monkeypatch.setattr(task, name, on_the_cpu)
    return found


@pytest.mark.parametrize("run", ["findings_run", "grading_run"])
def test_a_run_of_the_cpu_is_scored_there_beside_a_gpu(
    run: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is a pretended one: computing on it would fail."""
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 1)
    monkeypatch.setattr("fundusnet.system.devices.torch", SimpleNamespace(cuda=cuda, device=torch.device))
    assert choose_device("auto").type == "cuda"
    folder = request.getfixturevalue(run)
    scored = evaluate(compose([f"run={folder}", f"output={tmp_path}/out", "evaluation.bootstrap=20"], "evaluate"))
    assert (scored / "predictions.csv").read_text() == (folder / "predictions.csv").read_text()


def test_a_run_of_a_machine_with_gpus_is_evaluated_without_one(findings_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(findings_run, tmp_path / "run"))
    cfg: Any = OmegaConf.load(folder / "config.yaml")
    cfg.trainer.accelerator, cfg.trainer.devices = "gpu", [2]
    OmegaConf.save(cfg, folder / "config.yaml")
    scored = evaluate(compose([f"run={folder}", "evaluation.bootstrap=20"], "evaluate"))
    assert OmegaConf.load(scored / "config.yaml").trainer == cfg.trainer  # as it was trained
