"""Training: from a composed config to a run folder with a scored network."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fundusnet.commands.prepare import prepare_once
from fundusnet.data.set_folders import prepared_folder
from fundusnet.errors import UserError
from fundusnet.fitting.fit import check_objects, fit, fit_here
from fundusnet.fitting.loggers import WANDB, logger_node, new_id, wandb_finished
from fundusnet.fitting.outcome import log_outcome
from fundusnet.fitting.processes import is_worker, release_workers, run_worker
from fundusnet.fitting.tasks import task_of
from fundusnet.runs.folder import Result, graceful_sigterm, read_config, run_folder, state_of, status_of
from fundusnet.system.locks import folder_lock

log = logging.getLogger(__name__)

#: metrics that the end of a training says, of any task
HEADLINE = (
    *("auroc", "sensitivity", "specificity", "kappa_quadratic", "accuracy", "auroc_macro"),
    *("median_error", "within_radius"),
)
MOST = 8  # findings that it says them of
UNRELIABLE = "† unreliable: from fewer than 10 patients, or the same in all resamples"


def train(cfg: DictConfig) -> Result:
    """Fit, choose the operating point on validation, score the test split, write the report.

    If ``cfg.resume`` is a run folder, that run is resumed with its own configuration; a finished one is returned as it
    is.

    Raises:
        UserError: Something in the config or the data that the user can correct.
        Interrupted: SIGTERM arrived; ``resume`` continues the run.
    """
    run = Path(cfg.resume) if cfg.resume else run_folder(cfg)
    if is_worker():
        run_worker(fit_here)
        return Result(run, {})
    if not cfg.resume:
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"run_dir={run} cannot be made: {error.strerror}; choose another folder") from error
    elif not (run / "config.yaml").is_file():
        raise UserError(f"resume={run} is not a run folder (it has no config.yaml); give the run_dir of a training")
    with folder_lock(run), graceful_sigterm(), release_workers():
        if cfg.resume and state_of(run) == "done":
            log.info("%s is finished: nothing is left to resume", run)
            return Result(run, json.loads((run / "metrics.json").read_text()))
        resumes = bool(cfg.resume)
        if resumes and state_of(run) == "running":
            log.warning(
                "%s was killed without a word, perhaps out of memory; if it happens again start anew with a smaller "
                "data.batch_size or data.size",
                run,
            )
        cfg = resumed(run) if resumes else begun(cfg, run)
        task = task_of(cfg)
        with status_of(run, command()), wandb_finished():
            check_objects(cfg)
            # A run keeps the version of the set that its training started with.
            if not any(run.rglob("*.ckpt")) or not (Path(cfg.data.folder) / "prepared.yaml").is_file():
                cfg.data.folder = str(prepare_once(cfg).folder.resolve())
                OmegaConf.save(cfg, run / "config.yaml")
            _say_splits(cfg)
            metrics = task.fit_and_score(cfg, run, fit)
            task.write_report([run], run / "report.html")
            log_outcome(cfg, run)
            for line in headline(metrics, task.SYSTEM.title):
                log.info("%s", line)
            log.info("report: %s", run / "report.html")
    return Result(run, metrics)


def headline(metrics: Mapping[str, Any], title: Callable[[str], str]) -> list[str]:
    """The few numbers that matter of a ``metrics.json``, for people: a line for each finding, or one for the grades.

    † marks the unreliable ones, as in reports; a last line then says what it means.

    Args:
        metrics: Content of ``metrics.json``.
        title: Maps the name of a metric to what people call it.
    """
    found: Mapping[str, Any] = metrics["metrics"]
    targets = metrics.get("findings") or metrics.get("landmarks") or ["grade"]
    lines = []
    for target in targets[:MOST]:
        above = f"{target}/" if len(targets) > 1 else ""
        values = [_value(title(name), found[f"{above}{name}"]) for name in HEADLINE if f"{above}{name}" in found]
        lines.append(f"{target}, {metrics['n_images']} {metrics['split']} photographs: {', '.join(values)}")
    lines += [f"and {len(targets) - MOST} more findings in the report"] * (len(targets) > MOST)
    return lines + [UNRELIABLE] * any("†" in line for line in lines)


def _value(title: str, entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return f"{title} undefined"
    low, high = entry["ci95"]
    interval = f" ({low:.2f} to {high:.2f})" if low is not None else ""
    return f"{title} {entry['value']:.2f}{interval}{' †' * bool(entry.get('unreliable'))}"


def _say_splits(cfg: DictConfig) -> None:
    """Log what each split holds, before anything is fitted."""
    datamodule: Any = task_of(cfg).make_datamodule(cfg)
    datamodule.setup("fit")
    log.info("%s, size %s:", Path(cfg.data.folder).name, cfg.data.size)
    for line in datamodule.describe_splits():
        log.info("%s", line)


def command() -> str | None:
    """The command that repeats this run alone, even if a sweep started it; None if Python did."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    words = [word for word in hydra.overrides.task if word.partition("=")[0] not in ("run_dir", "resume")]
    return shlex.join(["fundusnet", "train", *(f"--config-dir={folder}" for folder in folders), *words])


def begun(cfg: DictConfig, run: Path) -> DictConfig:
    """The configuration that a new run keeps in its folder: resolved and complete."""
    if any(run.rglob("checkpoints")):
        raise UserError(f"run_dir={run} already holds a run; resume it with resume={run}, or choose another folder")
    cfg = cfg.copy()
    OmegaConf.resolve(cfg)
    cfg.run_dir = str(run)
    cfg.name = cfg.name or task_of(cfg).run_name(cfg)
    if wandb := logger_node(cfg, WANDB):
        wandb.id = wandb.id or new_id()
    cfg.data.folder = str(prepared_folder(cfg).resolve())
    OmegaConf.save(cfg, run / "config.yaml")
    return cfg


def resumed(run: Path) -> DictConfig:
    """The configuration of an interrupted run."""
    cfg = read_config(run)
    cfg.run_dir = str(run)  # the folder may have moved
    return cfg
