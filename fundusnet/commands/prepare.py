"""From the files of a source to a prepared set: the ``prepare`` verb, and ``train`` on first use."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.config.compose import as_list
from fundusnet.data.merging import finished_parts, merge_parts
from fundusnet.data.prepare import prepare
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError
from fundusnet.system.locks import folder_lock
from fundusnet.system.shard import Shard
from fundusnet.system.workers import cores

log = logging.getLogger(__name__)


def prepare_set(cfg: DictConfig, shard: Shard | None = None) -> PreparedSet:
    """Open the prepared set that ``cfg.data`` describes, or this part of it; make it first if it does not exist.

    Raises:
        UserError: The source's folder is missing or holds something else, no photograph can be read, or the existing
            set has images of another size or is only a part.
    """
    folder = prepared_folder(cfg, shard)
    if (folder / "prepared.yaml").exists():
        prepared = open_prepared(folder)
        if prepared.size != cfg.data.size:
            raise UserError(
                f"{folder} holds pictures of {prepared.size} pixels, and data.size={cfg.data.size}; use "
                f"data.size={prepared.size}, or another data.folder"
            )
        prepared.check_shard(shard)
        return prepared
    data = cfg.data
    what = f"part {shard} of {data.source}" if shard else data.source
    log.info("preparing %s into %s (first use of these settings)", what, folder)
    options = _options(cfg)
    workers = cores() if data.workers is None else data.workers
    manifest = load_source(data.source, Path(data.root), options)
    prepared = prepare(
        manifest,
        folder,
        size=data.size,
        workers=workers,
        source=data.source,
        options=options,
        shard=shard,
    )
    rejected = prepared.info["counts"]["rejected"] + prepared.info["counts"]["rejected_masks"]
    which = f"rejected: {rejected}, see {folder / 'rejected.csv'}" if rejected else "none was rejected"
    log.info("prepared %d photographs; %s", len(prepared), which)
    return prepared


def prepare_once(cfg: DictConfig) -> PreparedSet:
    """``prepare_set``; other processes that want the same wait and then open it."""
    folder = prepared_folder(cfg)
    if (folder / "prepared.yaml").exists():
        return prepare_set(cfg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder.parent, patience=math.inf):
        return prepare_set(cfg)


def prepare_folder(cfg: DictConfig) -> Path:
    """Make the whole set, its part ``cfg.shard``, or the whole from the parts ``cfg.merge``.

    Returns the folder of the set.

    Raises:
        UserError: As ``prepare_set`` and ``finished_parts``, or the parts of ``cfg.merge``
            were made with other settings than ``cfg.data``.
    """
    shard = None if cfg.shard is None else Shard.parsed(cfg.shard)
    if cfg.merge is None:
        # Parts need no lock: each has a folder of its own.
        return (prepare_set(cfg, shard) if shard else prepare_once(cfg)).folder
    if shard:
        raise UserError(f"merge puts finished parts together; leave out shard={shard}")
    parts = finished_parts(as_list(cfg.merge))
    _check_settings(cfg, *next(iter(parts.items())))
    merged = merge_parts(parts, prepared_folder(cfg))
    log.info("merged %d photographs of %d parts", len(merged), len(parts))
    return merged.folder


def prepared_folder(cfg: DictConfig, shard: Shard | None = None) -> Path:
    """Folder of the prepared set of ``cfg.data`` or of a part: ``data.folder``, or a name made from its settings."""
    data = cfg.data
    if data.folder:
        return Path(data.folder)
    shaping = {"root": str(Path(data.root).resolve()), "options": _options(cfg)}
    mark = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:8]
    part = f".shard-{shard.number}-of-{shard.of}" if shard else ""
    return Path("data", "prepared", f"{data.source}-{data.size}-{mark}{part}")


def _options(cfg: DictConfig) -> dict[str, Any]:
    options: Any = OmegaConf.to_container(cfg.data.options, resolve=True)
    return dict(options)


def _check_settings(cfg: DictConfig, part: Path, info: Mapping[str, Any]) -> None:
    """Refuse parts that were prepared with settings other than those of ``cfg.data``."""
    data = cfg.data
    there = {"source": info["source"], "root": info["root"], "options": info["options"]} | info["parameters"]
    asked = {"source": data.source, "root": str(Path(data.root).expanduser().resolve()), "options": _options(cfg)}
    for key, value in {**asked, "size": data.size}.items():
        if there[key] != value:
            raise UserError(
                f"{part} was prepared with data.{key}={there[key]}, and this command says {value}; give the data "
                "settings of the parts"
            )
