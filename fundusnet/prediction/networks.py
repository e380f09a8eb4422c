"""A trained network from its checkpoint, with all that a prediction needs beside the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fundusnet.data.appearance import Appearance
from fundusnet.errors import UserError
from fundusnet.prediction.inputs import checkpoint_file
from fundusnet.prediction.picture import View
from fundusnet.runs.checkpoints import KEY, load_checkpoint, load_module


@dataclass(frozen=True)
class Network:
    """An opened checkpoint.

    Attributes:
        file: where it lies.
        task: findings or grading.
        module: in evaluation mode, on the CPU.
        names: findings in the order of the network's maps, or the grades 0 … K-1.
        thresholds: operating point of each finding; empty for grading.
        temperatures: of each finding, or of each ``gt_k`` between grades; None where validation gave none.
        view: side of its pictures, and how its training set looked.
    """

    file: Path
    task: str
    module: pl.LightningModule
    names: tuple[str, ...]
    thresholds: dict[str, float]
    temperatures: dict[str, float | None]
    view: View


def open_networks(checkpoint: str | Path | Sequence[str | Path]) -> list[Network]:
    """The networks of one or several checkpoints: files, or run folders (their best one).

    Raises:
        UserError: a file is missing, unfinished or no checkpoint of ours, or they do not go together.
    """
    given = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    if not given:
        raise UserError("no checkpoint is given; name a .ckpt file or the folder of a finished run")
    networks = [open_network(Path(each)) for each in given]
    first = networks[0]
    for other in networks[1:]:
        if other.task != first.task:
            raise UserError(
                f"{first.file} is of {first.task} and {other.file} of {other.task}; predict with one task at a time"
            )
        if other.task == "grading" and other.names != first.names:
            raise UserError(
                f"{first.file} tells the grades {', '.join(first.names)} and {other.file} {', '.join(other.names)}; "
                "predict with networks of the same grades"
            )
    return networks


def open_network(path: Path) -> Network:
    """The network of one checkpoint; a name in it says which of our classes to build, never a path to code.

    Raises:
        UserError: as for ``open_networks``.
    """
    file = checkpoint_file(path)
    content = load_checkpoint(file)
    stored, parameters = content.get(KEY), content.get("hyper_parameters")
    if not isinstance(stored, dict) or not isinstance(parameters, dict):
        raise UserError(
            f"checkpoint {file} holds no size of pictures and no operating point; give checkpoints/best.ckpt of a "
            "finished training"
        )
    task = stored.get("task")
    if task == "findings":
        from fundusnet.findings.module import GuidedModule

        module: pl.LightningModule = load_module(file, GuidedModule, content)
        names = tuple(_stored(stored, "findings", file))
        thresholds = {name: float(_stored(stored, "operating_points", file)[name]) for name in names}
    elif task == "grading":
        module = _grading(file, content, parameters)
        names, thresholds = tuple(_stored(stored, "classes", file)), {}
    else:
        raise UserError(f"checkpoint {file} is of the task {task}, which is unknown here; use a newer fundusnet")
    chosen = stored.get("validation") or {}
    questions = names if thresholds else [f"gt_{k}" for k in range(len(names) - 1)]
    temperatures = {name: (chosen.get(name) or {}).get("temperature") for name in questions}
    view = View(int(_stored(stored, "size", file)), Appearance.stored(stored.get("appearance")))
    return Network(file, task, module, names, thresholds, temperatures, view)


def sum_of(file: Path) -> str:
    """Checksum of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _grading(file: Path, content: dict[str, Any], parameters: dict[str, Any]) -> pl.LightningModule:
    from fundusnet.grading.stage import RankingStage
    from fundusnet.grading.two_stage import TwoStage

    if "stage1" in parameters:
        if (parameters.get("mask") or {}).get("kind") == "other":
            raise UserError(
                f"checkpoint {file} was trained with the masks of other images, to compare with; it predicts nothing"
            )
        return load_module(file, TwoStage, content)
    if parameters.get("input", "image") != "image":
        raise UserError(f"checkpoint {file} is a second stage without its first; give best.ckpt of the whole run")
    return load_module(file, RankingStage, content)


def _stored(stored: dict[str, Any], key: str, file: Path) -> Any:
    if key not in stored:
        raise UserError(
            f"checkpoint {file} holds no {key.replace('_', ' ')}: its training was not finished, or it is a stage of "
            "one; give checkpoints/best.ckpt of the finished run"
        )
    return stored[key]
