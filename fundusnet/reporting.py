"""One page over several finished runs: what the ``report`` verb does."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from omegaconf import DictConfig

from fundusnet.errors import UserError
from fundusnet.evaluation.report import write_report


def report(cfg: DictConfig) -> Path:
    """Write ``cfg.output`` from the run folders ``cfg.runs`` names; returns the page.

    Raises
    ------
    UserError: a pattern matches nothing, or a folder is no finished run.
    """
    output = Path(cfg.output)
    write_report(find_runs([cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)), output)
    return output


def find_runs(patterns: list[str]) -> list[Path]:
    """Run folders of ``patterns`` (a folder, or a pattern such as ``outputs/findings/*``), once and in order.

    What is no finished run is passed over, unless nothing is left of a pattern.
    """
    runs: dict[Path, None] = {}
    for pattern in patterns:
        found = [Path(path) for path in sorted(glob(pattern))]  # noqa: PTH207 - the pattern may be absolute
        finished = [path for path in found if (path / "metrics.json").is_file()]
        if not finished:
            raise UserError(f"runs={pattern} holds no finished run (a folder with metrics.json); check the path")
        runs.update(dict.fromkeys(finished))
    if not runs:
        raise UserError("runs=[] names no run; give run folders or a pattern such as 'outputs/findings/*'")
    return list(runs)
