"""Checkpoints with everything that a prediction needs, as tensors and plain values only."""

from __future__ import annotations

import json
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
from fundusnet.networks.build import without_start
from fundusnet.system.files import replacing

KEY = "fundusnet"
TRAINING = ("loss", "optimizer", "max_epochs", "positive_weight", "class_counts")  # version 0.1.0 kept these too
TORN = (BadZipFile, SafetensorError, RuntimeError, UnpicklingError, EOFError)  # raised for damaged weights
Module = TypeVar("Module", bound=pl.LightningModule)


def write_checkpoint(file: Path, content: dict[str, Any]) -> None:
    """Replace ``file`` by ``content``.

    Raises:
        UserError: The disk is full or refuses; what was there before stays.
    """
    # Serialised apart from writing: torch reports a full disk as an internal error of its archive.
    archive = BytesIO()
    torch.save(content, archive)
    try:
        with replacing(file) as partial:
            partial.write_bytes(archive.getbuffer())
    except OSError as error:
        kept = "; the earlier one is intact" if file.exists() else ""
        raise UserError(f"checkpoint {file} cannot be written: {error.strerror}{kept}; make room and resume") from error


BEST = "best.ckpt"
FOR_RESUMING = ("optimizer_states", "lr_schedulers", "callbacks", "current_model_state", "averaging_state")


class CheckpointFiles(CheckpointIO):
    """Lightning's reading and writing of checkpoints: atomic, and never running code from a file.

    The best checkpoint is written without what only resuming needs.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        dropped = FOR_RESUMING if Path(path).name == BEST else ()
        write_checkpoint(Path(path), {key: value for key, value in checkpoint.items() if key not in dropped})

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def start_from(module: pl.LightningModule, place: Path) -> str:
    """Take the weights of an earlier run's network that fit ``module.network`` by name and shape.

    Args:
        module: To be trained.
        place: A run folder, of which the best checkpoint is taken, or a checkpoint.

    Returns:
        What was taken and what starts anew, in words.

    Raises:
        UserError: The checkpoint is missing or damaged, or nothing of it fits.
    """
    own = {name: value for name, value in module.state_dict().items() if name.startswith("network.")}
    earlier = load_checkpoint(best_checkpoint(place))["state_dict"]
    fits = {name: value for name, value in earlier.items() if name in own and own[name].shape == value.shape}
    if all(name.startswith("network.heads.") for name in fits):  # a bias alone, which fits every network
        raise UserError(
            f"weights={place} has no layer of this network; start from a run of the same network or backbone"
        )
    module.load_state_dict(fits, strict=False)
    layers = sorted({name.removeprefix("network.").partition(".")[0] for name in own.keys() - fits.keys()})
    return f"{len(fits)} of {len(own)} tensors from {place}" + (f"; new: {', '.join(layers)}" if layers else "")


def best_checkpoint(place: Path) -> Path:
    """The best checkpoint of a run folder, or the file itself."""
    return place / "checkpoints" / BEST if place.is_dir() else place


def load_checkpoint(file: Path) -> dict[str, Any]:
    """The checkpoint's content, on the CPU, loaded without running any code from the file.

    ``file`` may also be the ``model.safetensors`` of an export, with its ``model.json`` beside it.

    Raises:
        UserError: The file is missing, damaged or not a checkpoint.
    """
    if not file.is_file():
        raise UserError(f"checkpoint {file} does not exist; give a run folder or a .ckpt file that a training wrote")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            described = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            return {**described, "state_dict": load_file(file)}
        # The archive has a checksum of each part, which torch does not verify.
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

    Args:
        file: The checkpoint.
        kind: Class of the module.
        content: What ``load_checkpoint`` returned for ``file``, if it was called already.
        network: Class of the network, if it is the user's own.

    Raises:
        UserError: The file is missing or damaged, holds a module of another kind, or needs ``network``.
    """
    content = content or load_checkpoint(file)
    # A loss of the user's own may have weights; only training needs them.
    weights = {key: value for key, value in content["state_dict"].items() if not key.startswith("loss.")}
    try:
        module = kind(**trained_parameters(content), network_class=network)
        module.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        raise UserError(f"{file} does not hold a {kind.__name__}: {str(error).splitlines()[0]}") from error
    return module.eval()


def trained_parameters(content: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the module in a checkpoint, without what only training needs."""
    parameters = {key: value for key, value in content.get("hyper_parameters", {}).items() if key not in TRAINING}
    starts = {key: without_start(parameters[key]) for key in ("network", "stage1") if key in parameters}
    return {**parameters, **starts}


def read_metadata(file: Path) -> dict[str, Any]:
    """What ``update_metadata`` wrote into the checkpoint; empty before that."""
    values: dict[str, Any] = load_checkpoint(file).get(KEY, {})
    return values


def update_metadata(file: Path, values: dict[str, Any]) -> None:
    """Write plain ``values`` into the checkpoint, atomically: what a prediction needs besides the weights."""
    content = load_checkpoint(file)
    content[KEY] = {**content.get(KEY, {}), **values}
    write_checkpoint(file, content)
