"""The folder of a run: its name, its lock, and its ``status.json``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from fundusnet.config.upgrade import upgrade
from fundusnet.errors import UserError
from fundusnet.system.files import write_json


@dataclass(frozen=True)
class Result:
    """The folder of a finished training, and the content of its ``metrics.json``."""

    run_dir: Path
    metrics: dict[str, object]


def check_run(run: Path) -> None:
    """Raise UserError if ``run`` is not the folder of a run."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"run={run} is not a run folder (it has no config.yaml); give the folder that train printed")


def run_folder(cfg: DictConfig, experiment: str | None = None) -> Path:
    """``cfg.run_dir``, or a new folder named by the experiment, else the task, and the time.

    Raises:
        UserError: Under torchrun each process would choose a folder of its own.
    """
    if cfg.run_dir:
        return Path(cfg.run_dir)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError("under torchrun each process would choose a folder of its own; give run_dir=FOLDER")
    return Path("outputs", experiment or cfg.task, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3])


def read_config(run: Path) -> DictConfig:
    """The configuration of a run, in today's keys whatever version wrote it."""
    config = OmegaConf.load(run / "config.yaml")
    if not isinstance(config, DictConfig) or "task" not in config:
        raise UserError(f"{run / 'config.yaml'} names no task: give a finished run folder (train or evaluate first)")
    return upgrade(config)


class Interrupted(SystemExit):
    """SIGTERM arrived and the process ended in order, with the exit code that shells use for it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def __str__(self) -> str:
        return "stopped by SIGTERM; resume with fundusnet train resume=FOLDER"


@contextmanager
def graceful_sigterm() -> Iterator[None]:
    """Make SIGTERM, which a cluster sends to take the machine back, raise ``Interrupted``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def state_of(run: Path) -> str | None:
    """The state in ``status.json``: running, done, failed or interrupted; None if there is none."""
    try:
        state: str = json.loads((run / "status.json").read_text())["state"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return state


def command_of(run: Path) -> str | None:
    """The command that started a run, from ``status.json``; None if it was started from Python."""
    try:
        command: str | None = json.loads((run / "status.json").read_text()).get("command")
    except (FileNotFoundError, ValueError):
        return None
    return command


@contextmanager
def status_of(run: Path, command: str | None = None) -> Iterator[None]:
    """Keep ``status.json`` up to date: running, then done, failed with the reason, or interrupted.

    ``command`` started the run; a resumed run keeps its first.
    """
    start = time.time()
    command = command_of(run) or command

    def write(state: str, error: str | None = None) -> None:
        status = {
            "state": state,
            "error": error,
            "started": f"{datetime.fromtimestamp(start):%Y-%m-%d %H:%M}",
            "seconds": round(time.time() - start, 1),
            "git": git_state(),
            "command": command,
            "versions": {name: version(name) for name in ("fundusnet", "torch", "pytorch-lightning")},
        }
        write_json(run / "status.json", status)

    write("running")
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
        if stopped:
            write("interrupted", f"stopped; resume with fundusnet train resume={run}")
        else:
            write("failed", f"{type(error).__name__}: {error}")
        raise
    write("done")


def git_state() -> str | None:
    """The commit of the current folder if it is a git checkout."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
