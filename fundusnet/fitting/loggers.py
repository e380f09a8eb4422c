"""Loggers of a fit: W&B, TensorBoard, a table of steps. ``history.csv`` is always written.

A training is one W&B run, online or offline (``WANDB_MODE=offline``), whatever its number of stages and processes. A
resumed training keeps its run id; the x-axis is ``trainer/global_step``.
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
from pytorch_lightning.loggers import Logger, WandbLogger

from fundusnet.config.objects import build
from fundusnet.errors import UserError
from fundusnet.runs.folder import git_state


class WandbRun(WandbLogger):
    """Lightning's logger on the one W&B run of a training, opened in the first of several processes only.

    Args:
        project: Project of W&B.
        group: Group of runs; None = the folder of the sweep.
        name: Name of the run; None = what a job differs in, or the name of the run.
        id: Id of the run; None = a new one, which a resumed run keeps.
        artifact: Upload the best checkpoint.
        prefix: Put before the names of metrics: a stage of several.
        run_config: The whole configuration of the run.
    """

    def __init__(
        self,
        project: str = "fundusnet",
        group: str | None = None,
        name: str | None = None,
        id: str | None = None,
        artifact: bool = False,
        prefix: str = "",
        run_config: DictConfig | None = None,
    ) -> None:
        super().__init__(project=project, prefix=prefix)
        self._run_config = run_config

    @property
    def experiment(self) -> Any:
        if self._experiment is None and _is_first():
            assert self._run_config is not None
            self._experiment = open_wandb(self._run_config)
        return super().experiment


WANDB = f"{__name__}.{WandbRun.__name__}"
TENSORBOARD = "pytorch_lightning.loggers.TensorBoardLogger"


def logger_node(cfg: DictConfig, target: str) -> DictConfig | None:
    """The first logger of this class in ``cfg``."""
    return next((node for node in (cfg.get("logger") or {}).values() if node and node._target_ == target), None)


def make_loggers(cfg: DictConfig, folder: Path) -> list[Logger]:
    """The loggers of ``cfg.logger`` for a fit into ``folder``, which is their ``save_dir`` if that is null.

    W&B shows all stages of a training in one run, with the name of the stage before each metric.

    Raises:
        UserError: A package is not installed, or W&B refuses.
    """
    stage = "" if folder.resolve() == Path(cfg.run_dir).resolve() else folder.name
    loggers: list[Logger] = []
    for name, node in (cfg.get("logger") or {}).items():
        if not node:
            continue
        extra: dict[str, Any] = {"prefix": stage, "run_config": cfg} if node._target_ == WANDB else {}
        if node.get("save_dir", "") is None:
            extra["save_dir"] = str(folder)
        try:
            loggers.append(build(node, **extra))
        except ModuleNotFoundError:
            raise UserError(f'logger={name} is not installed; pip install "fundusnet[{name}]"') from None
    return loggers


def open_wandb(cfg: DictConfig) -> Any:
    """The W&B run of this training: the open one of this process, or the one its id names, or a new one.

    Raises:
        UserError: W&B refuses, as without a login.
    """
    import wandb

    options = logger_node(cfg, WANDB)
    assert options is not None
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
    """Finish the W&B run of this process at the end, since the next job of a sweep has its own."""
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
    """12 digits of a hash of what was prepared, from what and how."""
    total = hashlib.sha256()
    for file in sorted([prepared / "prepared.yaml", *(prepared / "manifest").glob("*.csv")]):
        if file.is_file():
            total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:12]


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"
