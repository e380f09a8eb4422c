"""The ``evaluate`` verb: score a finished run again, on its own data or on another set."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fundusnet.commands.prepare import prepare_once
from fundusnet.data.datamodule import FundusDataModule
from fundusnet.data.overlap import seen_before
from fundusnet.data.prepared import open_prepared
from fundusnet.errors import UserError
from fundusnet.fitting.tasks import task_of
from fundusnet.networks.build import import_network
from fundusnet.runs.checkpoints import read_metadata
from fundusnet.runs.folder import check_run, read_config
from fundusnet.system.files import write_json

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> Path:
    """Score the best checkpoint of ``cfg.run`` again.

    With ``cfg.data`` another set is scored, prepared at the size of the run's pictures, at the run's operating points
    and temperatures; ``cfg.labels`` or ``cfg.grades`` map its labels to those of the run.

    Returns:
        The folder with the results and a ``report.html``.

    Raises:
        UserError: The run is missing or unfinished, the split is unknown, ``cfg.output`` is a run, or the other set
            does not fit the run.
    """
    run = Path(cfg.run)
    check_run(run)
    trained: Any = read_config(run)
    if "evaluated" in trained:
        raise UserError(f"run={run} is an evaluation; give the run it evaluates, {trained.evaluated.run}")
    split = cfg.split or ("test" if cfg.data is None else "all")
    folder = Path(cfg.output) if cfg.output else run / "evaluations" / _name(cfg, split)
    if (folder / "status.json").exists():
        raise UserError(f"output={folder} is the folder of a run, whose results would be lost; give another folder")
    if cfg.data is None:
        _check_own_data(cfg, split)
        scored = trained.copy()
    else:
        scored = config_for_other_set(cfg, trained, run, split)
    OmegaConf.set_struct(scored, False)
    scored.evaluation = cfg.evaluation
    folder.mkdir(parents=True, exist_ok=True)
    task = task_of(trained)
    here = scored.copy()
    if here.trainer.accelerator != "cpu":  # the run may come from a machine with other GPUs
        here.trainer.accelerator, here.trainer.devices = "auto", 1
    network = import_network(cfg.network)
    module, datamodule = task.trained(here, run, network)
    result = task.score_again(here, run, split, folder, module, datamodule)
    if not cfg.evaluation.faithfulness:  # left by an earlier evaluation in this folder
        for stale in (folder / "faithfulness.csv", *folder.glob("figures/faithfulness_*.png")):
            stale.unlink(missing_ok=True)
    if cfg.data is not None:
        result["also_in_training"] = also_in_training(lambda: task.trained(trained, run, network)[1], datamodule, split)
        write_json(folder / "metrics.json", result)
    OmegaConf.save(scored, folder / "config.yaml")
    task.write_report([folder], folder / "report.html")
    return folder


def config_for_other_set(cfg: DictConfig, trained: DictConfig, run: Path, split: str) -> DictConfig:
    """Return the config of a run with the data of ``cfg`` in place of its own; prepares the data if needed.

    Its ``evaluated`` names the run and how labels are mapped.
    """
    own = trained.data
    data: Any = cfg.copy()
    OmegaConf.set_struct(data, False)
    if data.data.folder and (Path(data.data.folder) / "prepared.yaml").is_file():
        there = open_prepared(data.data.folder).size
        if there != own.size:
            raise UserError(
                f"data.folder={data.data.folder} holds pictures of {there} pixels, but the run was trained on "
                f"{own.size}; leave data.folder out to prepare the set at that size"
            )
    data.data.size = own.size
    OmegaConf.resolve(data)
    data.data.folder = str(prepare_once(data).folder.resolve())
    # These depend on the machine, not on the set.
    data.data.batch_size, data.data.num_workers = own.batch_size, own.num_workers
    evaluated = {"run": str(run), "split": split, "trained_on": str(own.source)}
    if trained.task == "findings":
        _refuse(cfg.grades, "grades", "labels", trained.task)
        evaluated["labels"] = data.labels
    else:
        _refuse(cfg.labels, "labels", "grades", trained.task)
        stored = read_metadata(run / "checkpoints" / "best.ckpt")
        evaluated["classes"] = stored.get("classes") or json.loads((run / "metrics.json").read_text())["classes"]
        evaluated["grades"] = data.grades
    scored = trained.copy()
    OmegaConf.set_struct(scored, False)
    scored.data, scored.evaluated = data.data, evaluated
    return scored


def also_in_training(open_own: Callable[[], FundusDataModule], new: FundusDataModule, split: str) -> dict[str, object]:
    """Find the scored images that are also in the run's training or validation split, by perceptual hash.

    Args:
        open_own: Opens the set that the run was trained on.
        new: The scored set.
        split: Its split.

    Returns:
        ``image_ids``; None with a ``reason`` where the run's own set is gone. Either is logged.
    """
    new.setup("test")
    try:
        known = open_own()
        known.setup("test")
    except UserError as error:
        log.warning("cannot check whether these images were used in training: %s", error)
        return {"image_ids": None, "reason": str(error)}
    seen = np.concatenate([known.rows[name] for name in ("train", "val")])
    rows = seen_before(new.prepared, new.rows[split], known.prepared, seen)
    found = [str(name) for name in new.prepared.manifest.images["image_id"].iloc[rows]]
    if found:
        log.warning(
            "%d of the %d images are also in the training or validation split of the run (such as %s), which makes the "
            "scores too good; metrics.json names them all", len(found), len(new.rows[split]), found[0],
        )  # fmt: skip
    return {"image_ids": found}


def _check_own_data(cfg: DictConfig, split: str) -> None:
    if split not in ("val", "test"):
        raise UserError(
            f"split={split} cannot be scored on a run's own data, which includes its training images; use val or test, "
            "or data=NAME for another set"
        )
    for key in ("labels", "grades"):
        _refuse(cfg[key], key, "data=NAME", "the run's own data")


def _refuse(value: Any, key: str, instead: str, what: str) -> None:
    if value is not None:
        raise UserError(f"{key}={value} does not apply to {what}; leave it out, or use {instead}")


def _name(cfg: DictConfig, split: str) -> str:
    if cfg.data is None:
        return split
    source = str(cfg.data.source)
    if source in ("csv", "folder"):  # not a name of a set
        source = f"{source}-{Path(cfg.data.root).resolve().name}"
    return source if split == "all" else f"{source}-{split}"
