"""A trained network for other programs and other people: what the ``export`` verb does."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from fundusnet.data.prepared import open_prepared
from fundusnet.errors import UserError
from fundusnet.exports.card import write_card
from fundusnet.exports.graph import write_onnx
from fundusnet.prediction.networks import Network, open_network
from fundusnet.runs.checkpoints import KEY, load_checkpoint

log = logging.getLogger(__name__)
FORMATS = ("onnx", "safetensors", "card")


def export(cfg: DictConfig) -> Path:
    """Write the network of ``cfg.checkpoint`` in ``cfg.formats``; returns the folder.

    ``model.onnx`` takes uint8 pixels and gives probabilities and maps, ``model.safetensors`` with ``model.json`` beside
    it is what :func:`fundusnet.load` takes in place of a checkpoint, ``MODEL_CARD.md`` is for people.

    Raises
    ------
    UserError: the checkpoint is missing or unfinished, a format is unknown, its package is not installed, or ONNX does
        not agree with torch.
    """
    for name in cfg.formats:
        if name not in FORMATS:
            raise UserError(f"formats holds {name}, which is unknown; use {', '.join(FORMATS)}")
    network = open_network(Path(cfg.checkpoint))
    run = network.file.parent.parent
    folder = Path(cfg.output) if cfg.output else run / "export"
    folder.mkdir(parents=True, exist_ok=True)
    if "onnx" in cfg.formats:
        pictures, whence = check_pictures(run, network, int(cfg.check))
        worst = write_onnx(network, folder / "model.onnx", pictures)
        log.info("model.onnx agrees with torch to %.0e on %d %s", worst, len(pictures), whence)
    if "safetensors" in cfg.formats:
        write_weights(network, folder)
    if "card" in cfg.formats:
        write_card(network, run, folder / "MODEL_CARD.md")
    return folder


def write_weights(network: Network, folder: Path) -> None:
    """Write ``model.safetensors``, and beside it ``model.json`` with what builds the network around the weights."""
    from safetensors.torch import save_file

    content = load_checkpoint(network.file)
    weights = {name: tensor.contiguous() for name, tensor in content["state_dict"].items()}
    save_file(weights, folder / "model.safetensors")
    described = {"hyper_parameters": content["hyper_parameters"], KEY: content[KEY]}
    (folder / "model.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def check_pictures(run: Path, network: Network, count: int) -> tuple[NDArray[np.uint8], str]:
    """``count`` pictures the network was scored on, and what they are; noise where their prepared set is gone."""
    count = max(count, 2)
    size = network.view.size
    try:
        cfg: Any = OmegaConf.load(run / "config.yaml")
        prepared = open_prepared(Path(cfg.data.folder))
    except (FileNotFoundError, UserError):
        noise = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return noise, "pictures of noise, for its prepared set is gone"
    rows = np.linspace(0, len(prepared.pixels) - 1, count).astype(int)
    return np.ascontiguousarray(prepared.pixels[rows]), "pictures of its prepared set"
