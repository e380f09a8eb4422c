"""The two systems behind one interface: what training and evaluation ask of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
from matplotlib.figure import Figure
from omegaconf import DictConfig

from fundusnet.errors import UserError
from fundusnet.evaluation.runs import System
from fundusnet.fitting.processes import Fit


class Task(Protocol):
    """Fulfilled by the modules ``fundusnet.findings.task`` and ``fundusnet.grading.task``.

    Attributes:
        SYSTEM: What the evaluation needs to know of the task.
    """

    SYSTEM: System

    def make_datamodule(self, cfg: DictConfig) -> pl.LightningDataModule:
        """The DataModule of a config whose set is prepared already."""

    def make_module(self, cfg: DictConfig, datamodule: Any) -> pl.LightningModule:
        """The LightningModule of a config, for the data it will see."""

    def run_name(self, cfg: DictConfig) -> str:
        """What tables call a run that was given no name."""

    def fit_and_score(self, cfg: DictConfig, run: Path, fit: Fit) -> dict[str, object]:
        """Fit all there is to fit into ``run`` by ``fit``, score the test split.

        Returns the content of ``metrics.json``.
        """

    def score_again(
        self, cfg: DictConfig, run: Path, split: str, folder: Path, options: DictConfig
    ) -> dict[str, object]:
        """Score the best checkpoint of ``run`` on ``split`` of the data of ``cfg`` into ``folder``.

        ``cfg`` is the run's own, or that of an evaluation on another set, whose ``evaluated`` says what is called what
        there. ``options`` are those of ``conf/evaluation``.
        """

    def validation_panels(self, module: Any, datamodule: Any, count: int) -> dict[str, Figure]:
        """A few validation photographs by image id, always the same, with what ``module`` sees in them by now."""

    def write_report(self, runs: list[Path], output: Path) -> Path:
        """One page about finished runs of this task."""


def task_of(cfg: DictConfig) -> Task:
    """The task that ``cfg.task`` names."""
    if cfg.task == "findings":
        from fundusnet.findings import task as findings

        return findings
    if cfg.task == "grading":
        from fundusnet.grading import task as grading

        return grading
    raise UserError(f"task={cfg.task} is unknown; use findings or grading")
