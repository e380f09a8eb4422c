"""Where a fit reports while it runs: W&B, TensorBoard, a table of steps; ``history.csv`` is written in any case.

W&B works offline (``WANDB_MODE=offline``) as online. A training is one W&B run, whatever its number of stages and
processes, and goes on with the same run id when it is resumed; its x-axis is ``trainer/global_step``.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from fundusnet.errors import UserError
from fundusnet.runs.folder import git_state


def make_loggers(cfg: DictConfig, folder: Path) -> list[Logger]:
    """The loggers of a fit into ``folder``, as ``cfg.logger`` chooses them.

    The metrics of a stage of several have its name before theirs.

    Raises:
        UserError: a package is not installed, or W&B refuses.
    """
    stage = "" if folder.resolve() == Path(cfg.run_dir).resolve() else folder.name
    loggers: list[Logger] = []
    if cfg.logger.csv:
        loggers.append(CSVLogger(folder, name="csv", flush_logs_every_n_steps=1))
    if cfg.logger.tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
        except ModuleNotFoundError:
            raise UserError('logger=tensorboard is not installed; pip install "fundusnet[tensorboard]"') from None
    if cfg.logger.wandb:
        loggers.append(_LazyWandb(cfg, prefix=stage))
    return loggers


class _LazyWandb(WandbLogger):
    """Lightning's logger on the one W&B run of this training, opened in the first of several processes only."""

    def __init__(self, cfg: DictConfig, prefix: str) -> None:
        super().__init__(project=cfg.logger.project, prefix=prefix)
        self._cfg = cfg

    @property
    def experiment(self) -> Any:
        if self._experiment is None and _is_first():
            self._experiment = open_wandb(self._cfg)
        return super().experiment


def open_wandb(cfg: DictConfig) -> Any:
    """The W&B run of this training: the one under way in this process, else the one its id names, or a new one.

    Raises:
        UserError: W&B refuses, as without a login.
    """
    import wandb

    options = cfg.logger
    if wandb.run is not None and wandb.run.id == options.id:
        return wandb.run
    _finish()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    try:
        run = wandb.init(
            project=options.project,
            group=options.group,
            name=options.name or cfg.name,
            id=options.id,
            dir=cfg.run_dir,
            config={**config, "git": git_state(), "data_fingerprint": data_fingerprint(Path(cfg.data.folder))},
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )
    except wandb.Error as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"W&B: {reason}; run `wandb login`, or set WANDB_MODE=offline") from error
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


@contextmanager
def wandb_finished() -> Iterator[None]:
    """Finish this process's W&B run afterwards, where there is one: the next job of a sweep is a run of its own."""
    try:
        yield
    except BaseException:
        _finish(exit_code=1)
        raise
    _finish()


def _finish(exit_code: int = 0) -> None:
    wandb = sys.modules.get("wandb")  # never imported for this alone
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=exit_code)


def new_id() -> str:
    """An id for a W&B run."""
    return uuid.uuid4().hex[:8]


def data_fingerprint(prepared: Path) -> str:
    """Tells prepared sets apart: 12 digits of the sum of what was prepared, from what and how."""
    total = hashlib.sha256()
    for file in sorted([prepared / "prepared.yaml", *(prepared / "manifest").glob("*.csv")]):
        if file.is_file():
            total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:12]


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"
