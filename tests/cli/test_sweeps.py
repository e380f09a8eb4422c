"""Sweeps: jobs found again by their configuration, failures listed and not contagious, every launcher."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from tiny_runs import tiny_overrides, tiny_place

from fundusnet import compose
from fundusnet.cli.main import main
from fundusnet.cli.sweeps import JOBS, name_override
from fundusnet.commands.train import command
from fundusnet.config.compose import conf_folder
from fundusnet.errors import UserError
from fundusnet.fitting.precision import check_precision
from fundusnet.fitting.processes import processes
from fundusnet.runs.folder import Result, command_of, state_of, status_of

SWEEPS = sorted(file.stem for file in (conf_folder() / "sweep").glob("*.yaml"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The folders in which a training went on; trainings take no time, and fail with seed 13."""
    monkeypatch.chdir(tmp_path)
    folders: list[Path] = []

    def train(cfg: DictConfig) -> Result:
        run = Path(cfg.resume or cfg.run_dir)
        folders.append(run)
        run.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, run / "config.yaml")
        with status_of(run, command()):
            if cfg.seed == 13 and not cfg.resume:
                raise RuntimeError("bad luck")
            (run / "fit.json").write_text(json.dumps({"best": -((cfg.model.loss.weight - 1.0) ** 2)}))
        return Result(run, {})

    monkeypatch.setattr("fundusnet.commands.train.train", train)
    return folders


def jobs(folder: str) -> set[str]:
    return {each.name for each in Path(folder).iterdir() if each.is_dir() and each.name[0] != "."}


def test_a_key_that_only_swept_choices_have_is_set_in_every_job(
    trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra composes a sweep once without its choices; ``model.network.pretrained`` is no key of that composition."""
    line = ["train", "-m", "sweep=table1", "finding=drusen,membrane", "model.network.pretrained=false"]
    assert main([*line, "hydra.sweep.dir=sweep"]) == 0, capsys.readouterr().err
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in trained]
    assert len(configs) == 6 and {one["model"]["network"]["pretrained"] for one in configs} == {False}
    assert not any("pretrained" in folder.name for folder in trained)
    assert main([*line[:2], "model=guided,inception", line[-1]]) == 2
    assert "pretrained is not a key of model=guided, which this sweep trains too" in capsys.readouterr().err
    assert main([*line[:3], "model.network.pretraned=false"]) == 2
    assert "unknown key model.network.pretraned; did you mean" in capsys.readouterr().err
    assert len(trained) == 6


def test_a_job_is_named_by_what_it_differs_in(trained: list[Path]) -> None:
    assert main(["train", "-m", "experiment=quickstart", "model.loss.weight=0,0.3", "hydra.sweep.dir=s"]) == 0
    names = sorted(name.rpartition("_")[0] for name in jobs("s"))
    assert names == ["model.loss.weight=0", "model.loss.weight=0.3"]


@pytest.mark.parametrize(
    ("overrides", "kept_out"),
    [
        (["seed=0,1", "data=idrid"], ["data"]),
        (["seed=range(3)", "+data.options.x=1", "-m"], ["data.options.x"]),
        (["seed=1", "seed=2,3"], []),
        (["hydra/launcher=joblib", "seed=1,2"], []),
        (["~callbacks.pictures", "seed=1,2"], ["callbacks.pictures"]),
    ],
)
def test_what_is_the_same_in_all_jobs_is_not_in_their_names(overrides: list[str], kept_out: list[str]) -> None:
    expected = [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(kept_out)}]"] if kept_out else []
    assert name_override(overrides) == expected


def test_started_again_it_runs_what_is_missing(trained: list[Path]) -> None:
    assert main(["train", "-m", "seed=0,1", "hydra.sweep.dir=s"]) == 0 and len(trained) == 2
    assert main(["train", "seed=0,1", "-m", "hydra.sweep.dir=s"]) == 0 and len(trained) == 2


def test_the_command_of_a_job_repeats_it_alone(trained: list[Path]) -> None:
    assert main(["train", "-m", "seed=0,1", "finding.dilations=[1,2],[1,2,4]", "hydra.sweep.dir=s"]) == 0
    for run in trained:
        words = shlex.split(str(command_of(run)))
        assert words[:2] == ["fundusnet", "train"] and "--multirun" not in words
        job, alone = OmegaConf.load(run / "config.yaml"), compose(words[2:])
        for key in ("seed", "finding", "model", "data", "trainer"):
            assert job[key] == alone[key]
    assert len({command_of(run) for run in trained}) == 4


def test_a_grid_that_grows_keeps_what_is_done(trained: list[Path]) -> None:
    assert main(["train", "-m", "seed=0,1", "hydra.sweep.dir=s"]) == 0
    before = jobs("s")
    weight = compose().model.loss.weight
    assert main(["train", "-m", f"model.loss.weight={weight},7", "seed=1,0", "hydra.sweep.dir=s"]) == 0
    assert len(trained) == 4 and before < jobs("s") and len(jobs("s")) == 4


def test_a_job_that_fails_is_listed_and_stops_nobody(trained: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "-m", "seed=12,13,14", "hydra.sweep.dir=s"]
    assert main(command) == 1
    assert [run.name.partition("_")[0] for run in trained] == ["seed=12", "seed=13", "seed=14"]
    said = capsys.readouterr().err
    assert "2 of 3 jobs done in s" in said and "failed: RuntimeError: bad luck" in said
    assert "hydra.sweep.dir=s" in said
    assert main(command) == 0  # it goes on with the one that failed
    assert [run.name.partition("_")[0] for run in trained[3:]] == ["seed=13"]


def test_old_failures_are_not_those_of_another_grid(trained: list[Path]) -> None:
    assert main(["train", "-m", "seed=12,13", "hydra.sweep.dir=s"]) == 1
    assert main(["train", "-m", "seed=12,14", "hydra.sweep.dir=s"]) == 0
    assert len((Path("s") / JOBS).read_text().split()) == 2


def test_jobs_cannot_share_a_folder(trained: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "seed=0,1", "run_dir=x", "hydra.sweep.dir=s"]) == 1
    assert "cannot share run_dir" in capsys.readouterr().err
    assert trained == []


def test_a_search_goes_on_where_it_stopped(trained: list[Path]) -> None:
    command = ["train", "-m", "sweep=optuna", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=s"]
    assert main(command) == 0
    first = list(trained)
    assert len(set(first)) == 4
    assert main(command) == 0
    assert trained == first
    assert main([*command[:3], "hydra.sweeper.n_trials=6", command[-1]]) == 0
    assert trained[:4] == first and len(trained) == 6


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_named_sweep_sweeps_what_there_is(sweep: str) -> None:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        params = hydra_compose("train", [f"sweep={sweep}"], return_hydra_config=True).hydra.sweeper.params
    assert params
    kinds = ("interval", "choice", "tag", "range")
    for key, values in params.items():
        if not str(values).startswith(kinds):
            values = yaml.safe_load(f"[{values}]")
            for value in values:
                compose([f"sweep={sweep}", f"{key}={value}".replace(" ", "")])
        else:
            assert OmegaConf.select(compose(), key) is not None


def test_what_wandb_agent_would_run_composes() -> None:
    sweep = yaml.safe_load((conf_folder() / "wandb_sweep.yaml").read_text())
    program, verb, arguments = sweep["command"]
    assert (program, verb, arguments) == ("fundusnet", "train", "${args_no_hyphens}")
    chosen = {
        key: each.get("value", each.get("min", each.get("values", [None])[0]))
        for key, each in sweep["parameters"].items()
    }
    cfg = compose([f"{key}={value}" for key, value in chosen.items()])
    assert cfg.logger.wandb and cfg.trainer.monitor == sweep["metric"]["name"]


@pytest.mark.parametrize("choice", ["none", "csv", "wandb", "tensorboard", "[csv,wandb]", "[csv,tensorboard,wandb]"])
def test_loggers_are_chosen_one_or_several(choice: str) -> None:
    names = [name for name in ("csv", "tensorboard", "wandb") if name in choice]
    assert sorted(compose([f"logger={choice}"]).logger) == names


def test_half_precision_on_a_processor_is_one_line() -> None:
    with pytest.raises(UserError, match="16-mixed needs a GPU; on a processor use bf16-mixed or 32-true"):
        check_precision("16-mixed", "cpu")


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = compose(["trainer.accelerator=gpu"]).trainer
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert processes(wanted) == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="accelerator=gpu: torch finds no GPU here; use auto or cpu"):
        processes(wanted)
    with pytest.raises(UserError, match="accelerator=tpu is not valid: use auto, cpu, gpu or cuda"):
        compose(["trainer.accelerator=tpu"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tiny_place(tmp_path_factory.mktemp("sweeps"))


LAUNCHERS = {
    "joblib": ["hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra.launcher.timeout_min=10"],
    "ray": ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.include_dashboard=false"],
}


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.timeout(900)
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("launcher", list(LAUNCHERS))
def test_every_launcher_leaves_a_folder_a_job(
    place: Path, launcher: str, devices: int, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = place / f"{launcher}{devices}"
    words = ["train", "-m", *tiny_overrides(place), f"trainer.devices={devices}", "model.loss.weight=0.3,1,-1"]
    process = subprocess.run(
        [sys.executable, "-m", "fundusnet", *words, f"hydra/launcher={launcher}", *LAUNCHERS[launcher],
         f"hydra.sweep.dir={sweep}"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    assert "2 of 3 jobs done" in process.stderr and "model.loss.weight=-1 is not valid" in process.stderr
    states = {folder.name: state_of(folder) for folder in sweep.iterdir() if folder.name.startswith("model")}
    assert sorted(map(str, states.values())) == ["done", "done", "failed"]
    assert not [folder for folder in place.rglob("multirun*") if folder.is_dir()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_grid_killed_twice_ends_whole(place: Path) -> None:
    sweep = place / "grid"
    grid = ["finding.dilations=[1,2],[1,2,4]", "model.loss.weight=0,0.3,1", "trainer.precision=32-true,bf16-mixed"]
    words = [
        "train",
        "-m",
        *tiny_overrides(place),
        *grid,
        "logger=wandb",
        "callbacks.pictures.count=0",
        f"hydra.sweep.dir={sweep}",
    ]
    command = [sys.executable, "-m", "fundusnet", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    for done in (2, 7):
        process = subprocess.Popen(command, env=environment)
        end = time.monotonic() + 600
        while len(list(sweep.glob("*/metrics.json"))) < done:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    runs = [folder for folder in sweep.iterdir() if (folder / "config.yaml").is_file()]
    assert len(runs) == 12 and {state_of(run) for run in runs} == {"done"}
    ids = {run: {file.stem for file in run.glob("wandb/offline-run-*/run-*.wandb")} for run in runs}
    assert all(len(each) == 1 for each in ids.values()) and len(set.union(*ids.values())) == 12
    assert main(["report", f"runs={sweep}/*", f"output={place}/report.html"]) == 0
    assert (place / "report.html").stat().st_size > 10_000
