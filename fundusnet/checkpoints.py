"""Checkpoints that hold all a prediction needs, as tensors and plain values only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from fundusnet.errors import UserError
from fundusnet.findings.module import GuidedModule

KEY = "fundusnet"


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


def load_module(file: Path) -> tuple[GuidedModule, dict[str, Any]]:
    """The trained module in evaluation mode, and what was stored beside it (findings, size, operating points)."""
    content = load_checkpoint(file)
    parameters = dict(content["hyper_parameters"])
    # The weights are in the file: nothing is to be fetched for a start.
    parameters["network"] = {**parameters["network"], "pretrained": False, "weights": None}
    module = GuidedModule(**parameters)
    module.load_state_dict(content["state_dict"])
    return module.eval(), content.get(KEY, {})


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
