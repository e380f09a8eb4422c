"""The folder of a run: where it lies, what its name says, and a ``status.json`` that stays true."""

from __future__ import annotations

import fcntl
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

from omegaconf import DictConfig

from fundusnet.errors import UserError

LINGERING = 10.0  # seconds in which a killed run may still be letting go of its folder


@dataclass(frozen=True)
class Result:
    """What a training leaves: its folder and the content of its ``metrics.json``."""

    run_dir: Path
    metrics: dict[str, object]


def run_folder(cfg: DictConfig) -> Path:
    """``cfg.run_dir``, or a new folder named by the task and the time."""
    if cfg.run_dir:
        return Path(cfg.run_dir)
    return Path("outputs", cfg.task, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3])


class Interrupted(SystemExit):
    """The process was asked to end (SIGTERM) and did so in good order; its exit code is the shell's for that."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def __str__(self) -> str:
        return "asked to end by SIGTERM; fundusnet train resume=FOLDER goes on"


@contextmanager
def graceful_sigterm() -> Iterator[None]:
    """SIGTERM (a cluster takes the machine back) raises :class:`Interrupted`, so that ``status.json`` can say so."""
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


@contextmanager
def folder_lock(folder: Path, patience: float = LINGERING) -> Iterator[None]:
    """Hold the folder against other processes; a killed holder lets go of it.

    Raises
    ------
    UserError: another process is still at work in it after ``patience`` seconds.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UserError(f"another process is at work in {folder}; wait for it, or end it") from None
                time.sleep(0.2)
            except OSError:
                break  # a network file system that locks no folders
        yield
    finally:
        os.close(handle)


def state_of(run: Path) -> str | None:
    """What ``status.json`` says: running, done, failed or interrupted; None where there is none."""
    try:
        state: str = json.loads((run / "status.json").read_text())["state"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return state


def command_of(run: Path) -> str | None:
    """The command that started a run, as ``status.json`` has it; None where it was started from Python."""
    try:
        command: str | None = json.loads((run / "status.json").read_text()).get("command")
    except (FileNotFoundError, ValueError):
        return None
    return command


@contextmanager
def status_of(run: Path, command: str | None = None) -> Iterator[None]:
    """Keep ``status.json`` true: running, then done, failed with its reason, or interrupted.

    ``command`` started the run; one that is resumed keeps its own.
    """
    start = time.time()
    command = command_of(run) or command

    def write(state: str, error: str | None = None) -> None:
        status = {
            "state": state,
            "error": error,
            "seconds": round(time.time() - start, 1),
            "git": git_state(),
            "command": command,
            "versions": {name: version(name) for name in ("fundusnet", "torch", "pytorch-lightning")},
        }
        partial = run / "status.partial"
        partial.write_text(json.dumps(status, indent=2) + "\n")
        partial.replace(run / "status.json")

    write("running")
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
        if stopped:
            write("interrupted", f"stopped; resume={run} goes on")
        else:
            write("failed", f"{type(error).__name__}: {error}")
        raise
    write("done")


def git_state() -> str | None:
    """Commit of the folder the command runs in, where it is a git checkout."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
