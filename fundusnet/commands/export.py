"""Writes a trained network for other programs and other people: the ``export`` verb."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from fundusnet.data.prepared import open_prepared
from fundusnet.errors import UserError
from fundusnet.exports.card import write_card
from fundusnet.exports.onnx_file import write_onnx
from fundusnet.networks.build import import_network
from fundusnet.prediction.trained_network import TrainedNetwork, open_network
from fundusnet.runs.checkpoints import KEY, load_checkpoint
from fundusnet.system.files import write_json

log = logging.getLogger(__name__)
FORMATS = ("onnx", "safetensors", "card")


def export(cfg: DictConfig) -> Path:
    """Write the network of ``cfg.checkpoint`` in each of ``cfg.formats``.

    ``model.onnx`` maps uint8 pixels to probabilities and maps; ``model.safetensors`` with ``model.json`` beside it can
    be passed to :func:`fundusnet.load` instead of a checkpoint; ``MODEL_CARD.md`` is for people.

    Returns:
        The folder with these files.

    Raises:
        UserError: The checkpoint is missing or unfinished, a format is unknown, its package is not installed, or ONNX
            does not agree with torch.
    """
    for name in cfg.formats:
        if name not in FORMATS:
            raise UserError(f"unknown format {name} in formats; choose from {', '.join(FORMATS)}")
    network = open_network(Path(cfg.checkpoint), import_network(cfg.network))
    run = network.file.parent.parent
    folder = Path(cfg.output) if cfg.output else run / "export"
    folder.mkdir(parents=True, exist_ok=True)
    if "onnx" in cfg.formats:
        pictures, source = comparison_pictures(run, network, int(cfg.check))
        worst = write_onnx(network, folder / "model.onnx", pictures)
        log.info("model.onnx agrees with torch to %.0e on %d %s", worst, len(pictures), source)
    if "safetensors" in cfg.formats:
        write_weights(network, folder)
    if "card" in cfg.formats:
        write_card(network, run, folder / "MODEL_CARD.md")
    return folder


def write_weights(network: TrainedNetwork, folder: Path) -> None:
    """Write ``model.safetensors``, and ``model.json`` with the hyper-parameters to build the network from."""
    from safetensors.torch import save_file

    content = load_checkpoint(network.file)
    weights = {name: tensor.contiguous() for name, tensor in content["state_dict"].items()}
    save_file(weights, folder / "model.safetensors")
    description = {"hyper_parameters": content["hyper_parameters"], KEY: content[KEY]}
    write_json(folder / "model.json", description)
    shutil.copymode(folder / "model.json", folder / "model.safetensors")  # which the library makes private


def comparison_pictures(run: Path, network: TrainedNetwork, count: int) -> tuple[NDArray[np.uint8], str]:
    """Pictures to compare ONNX and torch on, and where they come from.

    Args:
        run: Run folder; its prepared set is used if it still exists, else random noise.
        network: Gives the size S of the pictures.
        count: How many, at least 2.

    Returns:
        uint8 ``(count, S, S, 3)``, and a description for the log.
    """
    count = max(count, 2)
    size = network.spec.size
    try:
        cfg: Any = OmegaConf.load(run / "config.yaml")
        prepared = open_prepared(Path(cfg.data.folder))
    except (FileNotFoundError, UserError):
        noise = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return noise, "pictures of noise, because its prepared set is gone"
    rows = np.linspace(0, len(prepared.pixels) - 1, count).astype(int)
    return np.ascontiguousarray(prepared.pixels[rows]), "pictures of its prepared set"
