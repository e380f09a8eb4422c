"""Where prepared sets lie, and the versions of one whose source changed.

A set is never changed: runs that use it keep it. ``FOLDER`` is the first version, ``FOLDER.v2`` the second. Imports
little, as it is asked before anything slow is imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.system.shard import Shard


def prepared_folder(cfg: DictConfig, shard: Shard | None = None) -> Path:
    """Folder of the prepared set of ``cfg.data`` or of a part: ``data.folder``, or a name made from its settings."""
    data = cfg.data
    if data.folder:
        return Path(data.folder)
    shaping = {"root": str(Path(data.root).resolve()), "options": source_options(cfg)}
    if data.points != "auto":
        shaping["points"] = data.points
    mark = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:8]
    part = f".shard-{shard.number}-of-{shard.of}" if shard else ""
    return Path("data", "prepared", f"{data.source}-{data.size}-{mark}{part}")


def source_options(cfg: DictConfig) -> dict[str, Any]:
    """``cfg.data.options`` as plain values."""
    options: Any = OmegaConf.to_container(cfg.data.options, resolve=True)
    return dict(options)


def newest(folder: Path) -> Path:
    """The newest finished version of the set in ``folder``; itself if there is none or it names a version."""
    return max(_versions(folder), default=(1, folder))[1]


def following(folder: Path) -> Path:
    """Where the next version of the set in ``folder`` goes."""
    number = max(_versions(folder), default=(0, folder))[0] + 1
    return folder if number == 1 else folder.with_name(f"{folder.name}.v{number}")


def _versions(folder: Path) -> Iterator[tuple[int, Path]]:
    if (folder / "prepared.yaml").exists():
        yield 1, folder
    for other in folder.parent.glob(f"{_literal(folder.name)}.v*"):
        number = other.name.removeprefix(f"{folder.name}.v")
        if number.isdecimal() and (other / "prepared.yaml").exists():
            yield int(number), other


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
