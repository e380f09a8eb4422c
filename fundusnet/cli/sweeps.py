"""The jobs of a sweep: each in a folder named after its configuration, so that a restarted sweep skips finished jobs.

A failed job does not stop the others. The state of each is read from the ``status.json`` in its folder, since jobs may
run in other processes and on other machines.
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
# Keys that do not change the result of a job.
IRRELEVANT = ("logger", "name")
REPORTING = ("sanity", "progress", "step_metrics", "pictures")  # callbacks of conf/callbacks/default.yaml


def name_override(overrides: list[str]) -> list[str]:
    """The override that leaves out of the jobs' names what is the same in all of them."""
    fixed: dict[str, bool] = {}
    for word in overrides:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:
            continue  # a flag, or an error that Hydra will report
        if not override.is_hydra_override():
            fixed[word.partition("=")[0].lstrip("+~")] = not override.is_sweep_override()
    keys = ",".join(key for key, same in fixed.items() if same)
    return [f"hydra.job.config.override_dirname.exclude_keys=[{keys}]"] if keys else []


def job_name() -> str:
    """The overrides in which this job differs from the others of its sweep."""
    return str(HydraConfig.get().job.override_dirname).replace(",", " ") or "job"


def job_folder(cfg: DictConfig) -> Path:
    """Folder of this job: its name, and a hash of its configuration.

    A folder with the same hash is the same job even if the sweep has changed: a larger grid keeps its finished jobs.

    Raises:
        UserError: ``run_dir`` would be one folder for all jobs.
    """
    if cfg.run_dir:
        raise UserError("the jobs of a sweep cannot share run_dir; give hydra.sweep.dir=FOLDER instead")
    whole = {key: cfg[key] for key in cfg if key not in IRRELEVANT}
    whole["callbacks"] = {name: node for name, node in (cfg.get("callbacks") or {}).items() if name not in REPORTING}
    digest = hashlib.sha256(OmegaConf.to_yaml(whole, resolve=True, sort_keys=True).encode()).hexdigest()[:8]
    sweep = Path(HydraConfig.get().sweep.dir)
    for folder in sorted(sweep.glob(f"*_{digest}")):
        return folder
    return sweep / f"{_file_name(job_name())}_{digest}"


def run_job(cfg: DictConfig, in_a_worker: bool) -> float:
    """Train or resume one job of a sweep; its best validation score, NaN if it failed.

    Args:
        cfg: Configuration of the job.
        in_a_worker: A launcher runs the job in another process than the sweep's, in parallel with other jobs.
    """
    from fundusnet.config.check import check_job
    from fundusnet.config.compose import one_line
    from fundusnet.config.conf import select

    folder: Path | None = None
    try:
        if in_a_worker:
            _set_up_worker(cfg)
        check_job(cfg, "train", HydraConfig.get())
        folder = job_folder(cfg)
        _add_to_jobs(folder)
        if state_of(folder) != "done":
            if wandb := select(cfg, "logger.wandb"):
                wandb.group = wandb.group or Path(HydraConfig.get().sweep.dir).name
                wandb.name = wandb.name or job_name()
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
    """The best value of the monitored metric in the last fit of a run; NaN if there is none."""
    fits = sorted(folder.rglob("fit.json"), key=lambda file: file.stat().st_mtime)
    if not fits:
        return math.nan
    best = json.loads(fits[-1].read_text())["best"]
    return math.nan if best is None else float(best)


class Summary(Callback):
    """Hydra's callback that reports at the end of a sweep how its jobs ended."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global _sweep
        _sweep = Path(config.hydra.sweep.dir)
        (_sweep / JOBS).unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        summarise()


_sweep: Path | None = None  # the sweep that this process runs
unfinished = 0  # jobs of this process's sweeps that failed or were stopped


def summarise() -> None:
    """Print how many jobs of the sweep are done, and why the others are not."""
    global _sweep, unfinished
    if _sweep is None:
        return
    sweep, _sweep = _sweep, None
    names = dict.fromkeys((sweep / JOBS).read_text().splitlines()) if (sweep / JOBS).is_file() else {}
    reasons = {name: reason for name in names if (reason := _why_unfinished(sweep / name))}
    unfinished += len(reasons)
    print(f"{len(names) - len(reasons)} of {len(names)} jobs done in {sweep}", file=sys.stderr)
    for name, reason in reasons.items():
        print(f"fundusnet: {name} {reason}", file=sys.stderr)
    if reasons:
        print(f"the same command with hydra.sweep.dir={sweep} resumes these jobs only", file=sys.stderr)


def _why_unfinished(folder: Path) -> str | None:
    state = state_of(folder)
    if state in ("failed", "interrupted"):
        error = json.loads((folder / "status.json").read_text())["error"]
        return f"{state}: {' '.join(str(error).split())}"
    return None if state == "done" else "was killed, or is still running"


def _set_up_worker(cfg: DictConfig) -> None:
    """End with the sweep; take a GPU of its own if the launcher does not assign them."""
    from fundusnet.fitting.processes import claim_gpus, processes
    from fundusnet.system.devices import uses_gpu
    from fundusnet.system.orphans import end_with_parent

    job = HydraConfig.get()
    end_with_parent()
    if re.search("joblib|LocalLauncher", str(job.launcher._target_)) and uses_gpu(cfg.trainer.accelerator):
        claim_gpus(processes(cfg.trainer), int(job.job.num))


def _add_to_jobs(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / JOBS).open("a") as jobs:
        jobs.write(f"{folder.name}\n")


def _record(folder: Path | None, reason: str) -> None:
    """Write the reason where the summary looks for it, even for a job that was refused before it had a folder."""
    if folder is None:
        digest = hashlib.sha256(job_name().encode()).hexdigest()[:8]
        folder = Path(HydraConfig.get().sweep.dir) / f"{_file_name(job_name())}_{digest}"
        _add_to_jobs(folder)
    elif (folder / "status.json").exists():
        return  # written by the training itself, or by another process that runs it
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(UserError), status_of(folder):
        raise UserError(reason)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", name.replace(" ", "_"))[:LONGEST_NAME]
