"""The ``report`` verb: one page on several finished runs, or what goes into a paper about them."""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path

from omegaconf import DictConfig

from fundusnet.errors import UserError
from fundusnet.fitting.tasks import task_of
from fundusnet.runs.folder import read_config


def report(cfg: DictConfig) -> Path:
    """Write ``cfg.output`` (a page, with ``cfg.format`` paper a folder) from the runs that ``cfg.runs`` names.

    Returns:
        ``cfg.output``.

    Raises:
        UserError: A pattern matches nothing, a folder is not a finished run, or the runs are of both tasks.
    """
    runs = find_runs([cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs))
    configs = {run: _config(run) for run in runs}
    for run, config in configs.items():
        if config.task != configs[runs[0]].task:
            raise UserError(
                f"{runs[0]} is a run of task={configs[runs[0]].task} and {run} of task={config.task}; "
                "a page compares runs of one task"
            )
    task = task_of(configs[runs[0]])
    if cfg.format == "page":
        return task.write_report(runs, Path(cfg.output or "report.html"), cfg.reference)
    folder = Path(cfg.output or "paper")
    if folder.is_file() or folder.suffix in (".html", ".md"):
        raise UserError(f"output={folder} is to be a folder with format=paper; name one, such as output=paper")
    return task.write_paper(runs, folder, cfg.reference)


def _config(run: Path) -> DictConfig:
    file = run / "config.yaml"
    if not file.is_file():
        raise UserError(f"{file} is missing: give a finished run folder (train or evaluate first)")
    return read_config(run)


def _finished(folder: Path) -> bool:
    return (folder / "metrics.json").is_file()


def _natural(path: Path) -> list[str | float]:
    """Sorts names by the numbers in them: text and numbers alternate, so that like is compared with like."""
    parts = re.split(r"(\d+(?:\.\d+)?)", str(path))
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def find_runs(patterns: list[str]) -> list[Path]:
    """Return the finished run folders of ``patterns``, in order; numbers in names count as such, so 2 is before 10.

    A pattern is a run folder, the folder of a sweep, or a glob such as ``outputs/findings/*``. Unfinished runs are
    skipped, unless a pattern has no finished one.
    """
    runs: dict[Path, None] = {}
    for pattern in patterns:
        found = sorted((Path(path) for path in glob(pattern)), key=_natural)  # noqa: PTH207 - may be absolute
        jobs = [job for path in found for job in ([path] if _finished(path) else sorted(path.glob("*/"), key=_natural))]
        finished = [path for path in jobs if _finished(path)]
        if not finished:
            raise UserError(f"runs={pattern} matches no finished run (a folder with metrics.json); check the path")
        runs.update(dict.fromkeys(finished))
    if not runs:
        raise UserError("runs=[] names no run; give run folders or a pattern such as 'outputs/findings/*'")
    return list(runs)
