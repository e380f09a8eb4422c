"""The interface between a method and the rest: what training and evaluation need of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import nn

from fundusnet.errors import UserError
from fundusnet.evaluation.runs import System
from fundusnet.fitting.needs import PlannedFit
from fundusnet.fitting.processes import Fit


class Task(Protocol):
    """Fulfilled by the modules ``task`` of ``fundusnet.findings``, ``fundusnet.grading`` and ``fundusnet.landmarks``.

    Attributes:
        SYSTEM: What the evaluation needs to know of the task.
    """

    SYSTEM: System

    def make_datamodule(self, cfg: DictConfig) -> pl.LightningDataModule:
        """The DataModule of a config whose set is prepared already."""

    def make_module(self, cfg: DictConfig, datamodule: Any) -> pl.LightningModule:
        """The LightningModule of a config, for the data it will see."""

    def planned_fits(self, cfg: DictConfig) -> list[PlannedFit]:
        """The fits of a run, with modules that know no data yet: a step of them costs the same."""

    def run_name(self, cfg: DictConfig) -> str:
        """What tables call a run that was given no name."""

    def fit_and_score(self, cfg: DictConfig, run: Path, fit: Fit) -> dict[str, object]:
        """Fit all there is to fit into ``run`` by ``fit``, score the test split.

        Returns the content of ``metrics.json``.
        """

    def trained(self, cfg: DictConfig, run: Path, network: type[nn.Module] | None = None) -> tuple[Any, Any]:
        """The module of the best checkpoint of ``run``, and the DataModule of ``cfg`` to score it on.

        Args:
            cfg: The run's own configuration, or that of an evaluation on another set, whose ``evaluated`` maps labels.
            run: Folder of the run.
            network: Class of the network, if it is the user's own.
        """

    def score_again(
        self, cfg: DictConfig, run: Path, split: str, folder: Path, module: Any, datamodule: Any
    ) -> dict[str, object]:
        """Score what ``trained`` returned on ``split`` into ``folder``, as ``cfg.evaluation`` says."""

    def validation_panels(self, module: Any, datamodule: Any, count: int) -> dict[str, Figure]:
        """A few validation photographs by image id, always the same, with what ``module`` sees in them by now."""

    def write_report(self, runs: list[Path], output: Path, reference: str | None = None) -> Path:
        """One page about finished runs of this task."""

    def write_paper(self, runs: list[Path], folder: Path, reference: str | None = None) -> Path:
        """What goes into a paper about them: tables, figures, methods and a checklist."""


def task_of(cfg: DictConfig) -> Task:
    """The task of a configuration."""
    return task_named(str(cfg.task))


def task_named(name: str) -> Task:
    """The task called ``findings``, ``grading`` or ``landmarks``.

    Raises:
        UserError: There is no such task.
    """
    if name == "findings":
        from fundusnet.findings import task as findings

        return findings
    if name == "grading":
        from fundusnet.grading import task as grading

        return grading
    if name == "landmarks":
        from fundusnet.landmarks import task as landmarks

        return landmarks
    raise UserError(f"unknown task {name}; use findings, grading or landmarks")
