"""Scoring a finished run again: what the ``evaluate`` verb does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.errors import UserError
from fundusnet.tasks import task_of


def evaluate(cfg: DictConfig) -> Path:
    """Score the best checkpoint of ``cfg.run`` on ``cfg.split`` again; returns the folder with the results.

    Raises
    ------
    UserError: the run is missing or unfinished, or the split is unknown.
    """
    run = Path(cfg.run)
    if not (run / "config.yaml").is_file():
        raise UserError(f"run={run} is no run folder (it has no config.yaml); give the folder that train printed")
    if cfg.split not in ("val", "test"):
        raise UserError(f"split={cfg.split} is unknown; use val or test")
    trained: Any = OmegaConf.load(run / "config.yaml")
    folder = Path(cfg.output) if cfg.output else run / "evaluations" / cfg.split
    folder.mkdir(parents=True, exist_ok=True)
    task_of(trained).score_again(trained, run, cfg.split, folder, int(cfg.evaluation.bootstrap))
    OmegaConf.save(trained, folder / "config.yaml")
    return folder
