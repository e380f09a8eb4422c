"""From the files of a source to a prepared set, once: what ``prepare`` does and ``train`` does on first use."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.data.prepare import prepare
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

log = logging.getLogger(__name__)


def prepare_set(cfg: DictConfig) -> PreparedSet:
    """Open the prepared set that ``cfg.data`` describes, making it first where it does not exist yet.

    Raises
    ------
    UserError: the source's folder is missing or holds something else, no photograph survives, or the set that is
        there has pictures of another size.
    """
    folder = prepared_folder(cfg)
    if (folder / "prepared.yaml").exists():
        prepared = open_prepared(folder)
        if prepared.size != cfg.data.size:
            raise UserError(
                f"{folder} holds pictures of {prepared.size} pixels, and data.size={cfg.data.size}; use "
                f"data.size={prepared.size}, or another data.folder"
            )
        return prepared
    data = cfg.data
    log.info("preparing %s into %s (first use of these settings)", data.source, folder)
    options: dict[str, Any] = OmegaConf.to_container(data.options, resolve=True)  # type: ignore[assignment]
    manifest = load_source(data.source, Path(data.root), options)
    prepared = prepare(manifest, folder, size=data.size, workers=data.workers, source=data.source)
    log.info("prepared %d photographs; rejected ones are in %s", len(prepared.pixels), folder / "rejected.csv")
    return prepared


def prepare_folder(cfg: DictConfig) -> Path:
    """What the ``prepare`` verb does: :func:`prepare_set`; returns the folder of the set."""
    return prepare_set(cfg).folder


def prepared_folder(cfg: DictConfig) -> Path:
    """Where the prepared set of ``cfg.data`` lies: ``data.folder``, or a name made from all that shapes it."""
    data = cfg.data
    if data.folder:
        return Path(data.folder)
    shaping = {"root": str(Path(data.root).resolve()), "options": OmegaConf.to_container(data.options, resolve=True)}
    mark = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:8]
    return Path("data", "prepared", f"{data.source}-{data.size}-{mark}")
