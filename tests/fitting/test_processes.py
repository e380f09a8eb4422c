"""Several processes for one fit: one run folder, the metrics of one process, and nobody left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
from tiny_runs import tiny_overrides, tiny_place

from fundusnet import compose
from fundusnet.cli.main import main
from fundusnet.data.loading import ShareInOrder
from fundusnet.errors import UserError
from fundusnet.findings.task import make_datamodule, make_module
from fundusnet.fitting import processes as ranks_module
from fundusnet.fitting.processes import claim_gpus, processes
from fundusnet.runs.checkpoints import load_checkpoint
from fundusnet.runs.folder import read_config, state_of

TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.precision=32-true"]
SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
FOREVER = ["trainer.max_epochs=100000", "trainer.patience=100000"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_place(tmp_path_factory.mktemp("ddp"))


def command(place: Path, *more: str) -> list[str]:
    return ["train", *tiny_overrides(place), *TWO, *more]


def started(*words: str, **environment: str) -> subprocess.Popen[str]:
    """``fundusnet`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fundusnet", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks(folder: Path) -> list[int]:
    """Processes that fit in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "fundusnet.fitting.rank" in words and str(folder) in words:
                found.append(int(entry.name))
    return sorted(found)


def wait_for(what: Callable[[], object], seconds: float, process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)


@pytest.mark.ddp
def test_two_processes_leave_one_run_with_the_metrics_of_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As within a job of SLURM, whose variables Lightning would act upon.
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    run = place / "single" / "run"
    split = ["data.split_by=image", "data.fractions=[0.5,0.3,0.2]"]
    assert main(command(place, f"run_dir={run}", "trainer.max_epochs=2", *split)) == 0
    assert [folder.name for folder in run.parent.iterdir()] == ["run"]
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    history = pd.read_csv(run / "history.csv")
    assert len(history) == 2
    # One process validates the same checkpoint: nothing was counted twice, nothing left out.
    cfg = read_config(run)
    datamodule = make_datamodule(cfg)
    datamodule.setup("fit")
    assert len(datamodule.rows["val"]) % 2 == 1
    module = make_module(cfg, datamodule)
    module.load_state_dict(load_checkpoint(run / "checkpoints" / "best.ckpt")["state_dict"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (alone,) = trainer.validate(module, datamodule, verbose=False)
    together = history.iloc[json.loads((run / "fit.json").read_text())["best_epoch"]]
    for name in ("val/auroc", "val/classification", "val/guidance", "val/loss"):
        assert together[name] == pytest.approx(alone[name], abs=1e-6), name


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_rank_ends_its_job_and_the_next_one_runs(place: Path) -> None:
    sweep = place / "killed"
    jobs = ["-m", "trainer.max_epochs=10000,1", "trainer.patience=100000", f"hydra.sweep.dir={sweep}"]
    process = started(*command(place, *jobs))
    wait_for(lambda: list(sweep.glob("*10000*/checkpoints/last.ckpt")), 300, process)
    (first,) = sweep.glob("*10000*/")
    _, second = ranks(first)
    os.kill(second, signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: state_of(first) == "failed", 60)
    assert time.monotonic() - killed < 60
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 1
    assert ranks(first) == []
    assert "RankError: rank 1 was killed by SIGKILL" in errors
    assert "1 of 2 jobs done" in errors
    folders = [folder for folder in sweep.iterdir() if folder.is_dir()]
    assert len(folders) == 2 and sorted(map(state_of, folders)) == ["done", "failed"]


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_a_rank_finds_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(place, f"run_dir={place}/nan", "model.optimizer.lr=1e30", "trainer.max_epochs=3")
    assert main(words) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("fundusnet: "))
    assert "lower model.optimizer.lr" in line
    assert state_of(place / "nan") == "failed"


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_rank_outlives_its_parent(place: Path) -> None:
    run = place / "orphans"
    process = started(*command(place, f"run_dir={run}", *FOREVER))
    last = run / "checkpoints" / "last.ckpt"
    wait_for(last.exists, 300, process)
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert state_of(run) == "interrupted"
    assert ranks(run) == []
    saved = last.stat().st_mtime_ns

    process = started("train", f"resume={run}")
    wait_for(lambda: last.stat().st_mtime_ns > saved, 300, process)
    assert len(ranks(run)) == 2
    process.kill()
    process.wait()
    wait_for(lambda: not ranks(run), 10)
    assert state_of(run) == "running"  # nobody was left to say otherwise


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_agents_of_torchrun_make_one_run(place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    run = place / "torchrun"
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    agent += [f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=test", "-m", "fundusnet"]
    one_each = ["trainer.devices=auto"]
    agents = [
        subprocess.Popen(
            [*agent, *command(place, f"run_dir={run}", *one_each)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [line for each in agents for line in each.communicate(timeout=400)[0].splitlines()]
    assert [each.returncode for each in agents] == [0, 0]
    # One of them says what all do, and where the result lies.
    assert [line for line in said if line == str(run) or "starts from weights" in line] == [
        "drusen λ=1 starts from weights: random",
        str(run),
    ]
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    # 11 pictures for each of two processes, in batches of four.
    steps = json.loads((run / "fit.json").read_text())["steps"]
    assert steps == 2


def test_torchrun_needs_a_folder_that_all_agree_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    assert main(command(place)) == 2
    assert "give run_dir=FOLDER" in capsys.readouterr().err


def test_srun_starts_one_task_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    options = compose(["trainer.devices=8", "trainer.accelerator=cpu"]).trainer
    assert processes(options) == 8
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(UserError, match="srun started this command 8 times"):
        processes(options)


@pytest.mark.parametrize(("devices", "count"), [("1", 1), ("4", 4), ("[0,2]", 2), ("auto", 1), ("-1", 1)])
def test_processes_on_a_machine_without_gpus(devices: str, count: int) -> None:
    assert processes(compose([f"trainer.devices={devices}", "trainer.accelerator=cpu"]).trainer) == count


@pytest.mark.parametrize(("size", "batch_size", "world"), [(7, 4, 2), (8, 1, 3), (5, 1, 4), (16, 4, 2), (3, 8, 3)])
def test_shares_hold_every_item_once_in_as_many_batches(size: int, batch_size: int, world: int) -> None:
    shares = [list(ShareInOrder(range(size), batch_size, rank, world)) for rank in range(world)]  # type: ignore
    assert sorted(item for share in shares for batch in share for item in batch) == list(range(size))
    assert len({len(share) for share in shares}) == 1
    assert all(1 <= len(batch) <= batch_size + 1 for share in shares for batch in share)


def test_more_processes_than_photographs_is_refused() -> None:
    with pytest.raises(UserError, match="8 processes cannot share 3 photographs"):
        ShareInOrder(range(3), 4, 0, 8)  # type: ignore


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, int]]:
    """A machine with four GPUs on which no other job runs."""
    monkeypatch.setattr(ranks_module.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(ranks_module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    claimed: dict[str, int] = {}
    monkeypatch.setattr(ranks_module, "_claimed", claimed)
    yield claimed
    for handle in claimed.values():
        if handle >= 0:
            os.close(handle)


def test_each_worker_has_gpus_of_its_own(four_gpus: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    workers: list[dict[str, int]] = []
    for number in range(3):
        workers.append({})
        monkeypatch.setattr(ranks_module, "_claimed", workers[-1])  # as in a process of its own
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        claim_gpus(2, number)
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["0,1", "2,3", "2,3"]  # nothing is free for the third: it shares
    claim_gpus(2, 7)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"  # a worker's next job stays where it is
    for handle in (handle for worker in workers for handle in worker.values() if handle >= 0):
        os.close(handle)


def test_only_gpus_that_the_user_gave_are_claimed(four_gpus: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    claim_gpus(1, 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
