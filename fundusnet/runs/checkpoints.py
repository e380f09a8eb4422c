"""Checkpoints that hold all a prediction needs, as tensors and plain values only."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar
from zipfile import BadZipFile, ZipFile

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from safetensors import SafetensorError
from torch import nn

from fundusnet.errors import UserError

KEY = "fundusnet"
TORN = (BadZipFile, SafetensorError, RuntimeError, UnpicklingError, EOFError)  # what readers of weights raise
Module = TypeVar("Module", bound=pl.LightningModule)


def write_checkpoint(file: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``file``, which at every moment is the earlier checkpoint or the new one, both whole.

    Raises
    ------
    UserError: the disk is full or refuses; what was there before stays.
    """
    # Serialised apart from writing: torch reports a full disk as an internal error of its archive.
    archive = BytesIO()
    torch.save(content, archive)
    partial = file.with_name(f"{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(archive.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        kept = "; the earlier one is whole" if file.exists() else ""
        raise UserError(f"checkpoint {file} cannot be written: {error.strerror}{kept}; make room and resume") from error


class CheckpointFiles(CheckpointIO):
    """Lightning's reading and writing of checkpoints: atomic, and never running code from a file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def load_checkpoint(file: Path) -> dict[str, Any]:
    """The checkpoint's content, on the CPU, loaded without running any code from the file.

    ``file`` may also be the ``model.safetensors`` of an export, with its ``model.json`` beside it.

    Raises
    ------
    UserError: the file is missing, torn or not a checkpoint.
    """
    if not file.is_file():
        raise UserError(f"checkpoint {file} does not exist; give a run folder or a .ckpt file that a training wrote")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            described = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            return {**described, "state_dict": load_file(file)}
        # The archive knows the sum of each of its parts; torch does not look at them.
        with ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged:
            raise UserError(f"checkpoint {file} cannot be read: {damaged} in it is damaged")
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (*TORN, ValueError, OSError, KeyError) as error:
        raise UserError(f"checkpoint {file} cannot be read: {str(error).partition(chr(10))[0]}") from error
    return content


def load_module(
    file: Path, kind: type[Module], content: dict[str, Any] | None = None, network: type[nn.Module] | None = None
) -> Module:
    """The trained module in evaluation mode, built from the hyper-parameters in the file.

    ``content`` is what :func:`load_checkpoint` made of it, where that is at hand. ``network`` takes the place of the
    name of our network class in the file.

    Raises
    ------
    UserError: the file is missing or torn, or holds a module of another kind.
    """
    content = content or load_checkpoint(file)
    parameters = dict(content["hyper_parameters"])
    options = parameters["network"]
    # The weights are in the file: no others have to be downloaded.
    no_download = {"pretrained": False, "weights": None}
    if network is None:
        parameters["network"] = {**options, **no_download}
    else:
        known = {key: value for key, value in no_download.items() if key in options}
        parameters["network"] = {**options, **known, "name": network}
    try:
        module = kind(**parameters)
        module.load_state_dict(content["state_dict"])
    except (TypeError, RuntimeError) as error:
        raise UserError(f"{file} holds no {kind.__name__}: {str(error).splitlines()[0]}") from error
    return module.eval()


def read_metadata(file: Path) -> dict[str, Any]:
    """What :func:`update_metadata` wrote into the checkpoint; empty before that."""
    values: dict[str, Any] = load_checkpoint(file).get(KEY, {})
    return values


def update_metadata(file: Path, values: dict[str, Any]) -> None:
    """Write plain ``values`` into the checkpoint, atomically: what a prediction needs beside the weights."""
    content = load_checkpoint(file)
    content[KEY] = {**content.get(KEY, {}), **values}
    write_checkpoint(file, content)


def _sync_folder(folder: Path) -> None:
    """Make a renaming outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
