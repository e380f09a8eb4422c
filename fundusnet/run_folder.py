"""The folder of a run: where it lies, what its name says, and a ``status.json`` that stays true."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from omegaconf import DictConfig


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


@contextmanager
def status_of(run: Path) -> Iterator[None]:
    """Keep ``status.json`` true: running, then done, failed with its reason, or interrupted."""
    start = time.time()

    def write(state: str, error: str | None = None) -> None:
        status = {
            "state": state,
            "error": error,
            "seconds": round(time.time() - start, 1),
            "git": _git(),
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
        write("interrupted" if stopped else "failed", f"{type(error).__name__}: {error}")
        raise
    write("done")


def _git() -> str | None:
    """Commit of the folder the command runs in, where it is a git checkout."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
