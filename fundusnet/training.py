"""Training: from a composed config to a run folder with a scored network."""

from __future__ import annotations

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from fundusnet.errors import UserError
from fundusnet.preparing import prepare_set
from fundusnet.run_folder import Result, run_folder, status_of
from fundusnet.tasks import task_of


def train(cfg: DictConfig) -> Result:
    """Fit, choose the operating point on validation, score the test split, write the report.

    Raises
    ------
    UserError: something in the config or the data that the user can put right.
    """
    task = task_of(cfg)
    run = run_folder(cfg)
    run.mkdir(parents=True, exist_ok=True)
    if (run / "checkpoints").exists():
        raise UserError(f"run_dir={run} holds a run already; choose another folder or remove it")
    cfg = cfg.copy()
    OmegaConf.resolve(cfg)  # the run's own copy, without interpolations
    cfg.run_dir = str(run)
    cfg.name = cfg.name or task.run_name(cfg)
    with status_of(run):
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        cfg.data.folder = str(prepare_set(cfg).folder.resolve())
        OmegaConf.save(cfg, run / "config.yaml")
        metrics = task.fit_and_score(cfg, run)
        task.write_report([run], run / "report.html")
    return Result(run, metrics)
