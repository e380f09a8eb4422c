"""Checkpoints that hold all a prediction needs, as tensors and plain values only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch

from fundusnet.errors import UserError

KEY = "fundusnet"
Module = TypeVar("Module", bound=pl.LightningModule)


def load_checkpoint(file: Path) -> dict[str, Any]:
    """The checkpoint's content, on the CPU, loaded without running any code from the file.

    Raises
    ------
    UserError: the file is missing, torn or not a checkpoint.
    """
    if not file.is_file():
        raise UserError(f"checkpoint {file} does not exist; give a run folder or a .ckpt file that a training wrote")
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise UserError(f"checkpoint {file} cannot be read: {str(error).splitlines()[0]}") from None
    return content


def load_module(file: Path, kind: type[Module]) -> Module:
    """The trained module in evaluation mode, built from the hyper-parameters in the file.

    Raises
    ------
    UserError: the file is missing or torn, or holds a module of another kind.
    """
    content = load_checkpoint(file)
    parameters = dict(content["hyper_parameters"])
    # The weights are in the file: nothing is to be fetched for a start.
    parameters["network"] = {**parameters["network"], "pretrained": False, "weights": None}
    try:
        module = kind(**parameters)
        module.load_state_dict(content["state_dict"])
    except (TypeError, RuntimeError) as error:
        raise UserError(f"{file} holds no {kind.__name__}: {str(error).splitlines()[0]}") from None
    return module.eval()


def stored_beside(file: Path) -> dict[str, Any]:
    """What :func:`store_beside` wrote into the checkpoint; empty before that."""
    values: dict[str, Any] = load_checkpoint(file).get(KEY, {})
    return values


def store_beside(file: Path, values: dict[str, Any]) -> None:
    """Write plain ``values`` into the checkpoint, atomically: what a prediction needs beside the weights."""
    content = load_checkpoint(file)
    content[KEY] = {**content.get(KEY, {}), **values}
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
