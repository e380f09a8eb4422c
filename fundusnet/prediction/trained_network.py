"""A trained network from its checkpoint, with everything that a prediction needs besides the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from fundusnet.data.appearance import Appearance
from fundusnet.errors import UserError
from fundusnet.landmarks.points import LANDMARKS
from fundusnet.prediction.inputs import find_checkpoint
from fundusnet.prediction.preparation import InputSpec
from fundusnet.runs.checkpoints import KEY, load_checkpoint, load_module


@dataclass(frozen=True)
class TrainedNetwork:
    """An opened checkpoint.

    Attributes:
        file: The checkpoint.
        task: "findings", "grading" or "landmarks".
        module: In evaluation mode, on the CPU.
        names: Findings in the order of the network's maps, class names of the grades 0 … K-1, or disc and fovea.
        thresholds: Finding → operating point, or point → confidence from which on it is sure; empty for grading.
        temperatures: Finding, or ``gt_k`` for "grade > k" → temperature; None if validation gave none.
        spec: What the network expects of a photograph.
    """

    file: Path
    task: str
    module: pl.LightningModule
    names: tuple[str, ...]
    thresholds: dict[str, float]
    temperatures: dict[str, float | None]
    spec: InputSpec


def open_networks(
    checkpoint: str | Path | Sequence[str | Path], network: type[nn.Module] | None = None
) -> list[TrainedNetwork]:
    """The networks of one or several checkpoints, which have to fit together.

    Args:
        checkpoint: One or several files or run folders (their best checkpoint).
        network: Class to build each network of; None for the one that the checkpoint names.

    Raises:
        UserError: A file is missing, unfinished or not one of our checkpoints, or they do not fit together.
    """
    given = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    if not given:
        raise UserError("no checkpoint is given; name a .ckpt file or the folder of a finished run")
    networks = [open_network(Path(each), network) for each in given]
    first = networks[0]
    for other in networks[1:]:
        if other.task != first.task:
            raise UserError(
                f"{first.file} is for {first.task} and {other.file} for {other.task}; predict with one task at a time"
            )
        if other.task == "landmarks":
            raise UserError(f"{first.file} and {other.file} find disc and fovea; predict with one of them")
        if other.task == "grading" and other.names != first.names:
            raise UserError(
                f"{first.file} predicts the grades {', '.join(first.names)} and {other.file} {', '.join(other.names)}; "
                "predict with networks of the same grades"
            )
    return networks


def open_network(path: Path, network: type[nn.Module] | None = None) -> TrainedNetwork:
    """The network of one checkpoint.

    The checkpoint names one of our classes; it can never make us import other code. A class of your own is passed as
    ``network``.

    Raises:
        UserError: As for ``open_networks``.
    """
    file = find_checkpoint(path)
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

        module: pl.LightningModule = load_module(file, GuidedModule, content, network)
        names = tuple(_stored(stored, "findings", file))
        thresholds = {name: float(_stored(stored, "operating_points", file)[name]) for name in names}
    elif task == "grading":
        module = _load_grading(file, content, parameters, network)
        names, thresholds = tuple(_stored(stored, "classes", file)), {}
    elif task == "landmarks":
        from fundusnet.landmarks.module import LandmarkModule

        module, names = load_module(file, LandmarkModule, content, network), LANDMARKS
        thresholds = {name: float(_stored(stored, "thresholds", file)[name]) for name in names}
    else:
        raise UserError(f"checkpoint {file} is of the task {task}, which is unknown here; use a newer fundusnet")
    validation = stored.get("validation") or {}
    questions = [f"gt_{k}" for k in range(len(names) - 1)] if task == "grading" else names
    temperatures = {name: (validation.get(name) or {}).get("temperature") for name in questions}
    spec = InputSpec(int(_stored(stored, "size", file)), Appearance.stored(stored.get("appearance")))
    return TrainedNetwork(file, task, module, names, thresholds, temperatures, spec)


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_grading(
    file: Path, content: dict[str, Any], parameters: dict[str, Any], network: type[nn.Module] | None
) -> pl.LightningModule:
    from fundusnet.grading.stage import RankingStage
    from fundusnet.grading.two_stage import TwoStage

    if "stage1" in parameters:
        if (parameters.get("mask") or {}).get("kind") == "other":
            raise UserError(
                f"checkpoint {file} was trained with the masks of other images, as a control; it cannot predict"
            )
        return load_module(file, TwoStage, content, network)
    if parameters.get("input", "image") != "image":
        raise UserError(f"checkpoint {file} is a second stage without its first; give best.ckpt of the whole run")
    return load_module(file, RankingStage, content, network)


def _stored(stored: dict[str, Any], key: str, file: Path) -> Any:
    if key not in stored:
        raise UserError(
            f"checkpoint {file} holds no {key.replace('_', ' ')}: its training was not finished, or it is one "
            "stage of a run; give checkpoints/best.ckpt of the finished run"
        )
    return stored[key]
