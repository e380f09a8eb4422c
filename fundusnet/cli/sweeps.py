"""The jobs of a sweep: each in a folder that its configuration names, so that a sweep started again finds what is done.

A job that fails does not stop the others. What became of each is read from the ``status.json`` of its folder, which is
all that jobs in other processes and on other machines leave.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fundusnet.errors import UserError
from fundusnet.runs.folder import state_of, status_of

log = logging.getLogger(__name__)
LONGEST_NAME = 100
JOBS = "jobs.txt"  # in the folder of a sweep: the jobs of its latest start
# What a job's result does not depend on.
IRRELEVANT = ("debug", "logger", "name")


def naming(overrides: list[str]) -> list[str]:
    """The override that keeps from the names of a sweep's jobs what is the same in all of them."""
    fixed: dict[str, bool] = {}
    for word in overrides:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:
            continue  # a flag, or a mistake that is reported in its turn
        if not override.is_hydra_override():
            fixed[word.partition("=")[0].lstrip("+")] = not override.is_sweep_override()
    keys = ",".join(key for key, same in fixed.items() if same)
    return [f"hydra.job.config.override_dirname.exclude_keys=[{keys}]"] if keys else []


def job_name() -> str:
    """What this job differs in from the others of its sweep."""
    return str(HydraConfig.get().job.override_dirname).replace(",", " ") or "job"


def job_folder(cfg: DictConfig) -> Path:
    """Folder of this job: what it differs in, and a mark of its whole configuration.

    A folder with the same mark is the same job, whatever else is swept by now: a grid that grows keeps what is done.

    Raises
    ------
    UserError: ``run_dir`` would be one folder for all jobs.
    """
    if cfg.run_dir:
        raise UserError("the jobs of a sweep cannot share run_dir; give hydra.sweep.dir=FOLDER instead")
    whole = {key: cfg[key] for key in cfg if key not in IRRELEVANT}
    mark = hashlib.sha256(OmegaConf.to_yaml(whole, resolve=True, sort_keys=True).encode()).hexdigest()[:8]
    sweep = Path(HydraConfig.get().sweep.dir)
    for folder in sorted(sweep.glob(f"*_{mark}")):
        return folder
    return sweep / f"{_file_name(job_name())}_{mark}"


def run_job(cfg: DictConfig, own_config_folders: list[Path], in_a_worker: bool) -> float:
    """Train one job of a sweep, or go on with it; its best validation score, NaN where it failed.

    Parameters
    ----------
    own_config_folders: the user's, as for :func:`fundusnet.config.compose.check`.
    in_a_worker: a launcher runs the job in another process than the sweep's, beside other jobs.
    """
    from fundusnet.config.compose import check, one_line

    folder: Path | None = None
    try:
        if in_a_worker:
            _settle_in_worker(cfg)
        check(cfg, "train", own_config_folders)
        folder = job_folder(cfg)
        _enlist(folder)
        if state_of(folder) != "done":
            cfg.logger.group = cfg.logger.group or Path(HydraConfig.get().sweep.dir).name
            cfg.logger.name = cfg.logger.name or job_name()
            cfg["resume" if (folder / "config.yaml").is_file() else "run_dir"] = str(folder)
            from fundusnet.commands.train import train

            train(cfg)
        print(folder, flush=True)
        return score(folder)
    except Exception as error:
        reason = one_line(error, "train") if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _record(folder, reason)
        if not isinstance(error, UserError):
            log.exception("%s failed", job_name())
        return math.nan


def score(folder: Path) -> float:
    """The best value that the monitored validation measure had in the last fit of a run; NaN where there is none."""
    fits = sorted(folder.rglob("fit.json"), key=lambda file: file.stat().st_mtime)
    if not fits:
        return math.nan
    best = json.loads(fits[-1].read_text())["best"]
    return math.nan if best is None else float(best)


class Summary(Callback):
    """Hydra's callback for the end of a sweep: says what became of its jobs."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global _sweep
        _sweep = Path(config.hydra.sweep.dir)
        (_sweep / JOBS).unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        summarise()


_sweep: Path | None = None  # the sweep that this process has under way
undone = 0  # jobs of this process's sweeps that did not end well


def summarise() -> None:
    """Print how many jobs of the sweep under way are done, and why the others are not."""
    global _sweep, undone
    if _sweep is None:
        return
    sweep, _sweep = _sweep, None
    names = dict.fromkeys((sweep / JOBS).read_text().splitlines()) if (sweep / JOBS).is_file() else {}
    reasons = {name: reason for name in names if (reason := _why_undone(sweep / name))}
    undone += len(reasons)
    print(f"{len(names) - len(reasons)} of {len(names)} jobs done in {sweep}", file=sys.stderr)
    for name, reason in reasons.items():
        print(f"fundusnet: {name} {reason}", file=sys.stderr)
    if reasons:
        print(f"the same command with hydra.sweep.dir={sweep} goes on with these jobs alone", file=sys.stderr)


def _why_undone(folder: Path) -> str | None:
    state = state_of(folder)
    if state in ("failed", "interrupted"):
        error = json.loads((folder / "status.json").read_text())["error"]
        return f"{state}: {' '.join(str(error).split())}"
    return None if state == "done" else "was killed, or is still at work"


def _settle_in_worker(cfg: DictConfig) -> None:
    """End with the sweep; keep to a GPU of one's own where nobody deals them out."""
    from fundusnet.fitting.processes import claim_gpus, processes
    from fundusnet.system.devices import uses_gpu
    from fundusnet.system.orphans import end_with_parent

    job = HydraConfig.get()
    end_with_parent()
    if re.search("joblib|LocalLauncher", str(job.launcher._target_)) and uses_gpu(cfg.trainer.accelerator):
        claim_gpus(processes(cfg.trainer), int(job.job.num))


def _enlist(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / JOBS).open("a") as jobs:
        jobs.write(f"{folder.name}\n")


def _record(folder: Path | None, reason: str) -> None:
    """Leave the reason where the summary looks, also for a job that was refused before it had a folder."""
    if folder is None:
        mark = hashlib.sha256(job_name().encode()).hexdigest()[:8]
        folder = Path(HydraConfig.get().sweep.dir) / f"{_file_name(job_name())}_{mark}"
        _enlist(folder)
    elif (folder / "status.json").exists():
        return  # what the training said of itself, or another process that is at work there
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(UserError), status_of(folder):
        raise UserError(reason)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", name.replace(" ", "_"))[:LONGEST_NAME]
