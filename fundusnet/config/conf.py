"""The configuration tree as files: where it is, and what its files hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from fundusnet.errors import UserError


def conf_folder() -> Path:
    """Absolute path of the configuration tree: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"the configuration tree is missing beside {package}; install fundusnet again")


def flat_keys(content: Any, above: str = "") -> Iterator[str]:
    """Every key of nested mappings in dotted form, groups before what they hold."""
    for name, value in content.items() if isinstance(content, Mapping) else ():
        yield f"{above}{name}"
        yield from flat_keys(value, f"{above}{name}.")


def keys_of(file: Path, folder: Path) -> Iterator[str]:
    """Every dotted key that a file of the configuration tree ``folder`` sets, and those it extends in its own group."""
    if not file.is_file():
        return
    text = file.read_text(encoding="utf-8")
    content = yaml.safe_load(text) or {}
    for other in content.get("defaults", []):
        if isinstance(other, str) and other != "_self_":
            yield from keys_of(file.with_name(f"{other}.yaml"), folder)
    group = file.relative_to(folder).parent.as_posix().replace("/", ".")
    above = "" if group == "." or "@package _global_" in text else f"{group}."
    yield from (f"{above}{key}" for key in flat_keys(content) if not key.startswith(("hydra", "defaults")))


def places_of_keys(verb: str) -> dict[str, list[str]]:
    """Every key that ``conf/`` has for a verb, and the choices that bring it, such as ``model=guided``."""
    folder = conf_folder()
    files = {folder / f"{verb}.yaml": f"fundusnet {verb}"}
    for group in default_groups(verb):
        for file in sorted((folder / group).rglob("*.yaml")):
            files[file] = f"{file.relative_to(folder).parent.as_posix()}={file.stem}"
    places: dict[str, list[str]] = {group: [f"{group}=…"] for group in default_groups(verb)}
    for file, place in files.items():
        for key in keys_of(file, folder):
            places.setdefault(key, []).append(place)
    return places


def default_groups(verb: str) -> dict[str, Any]:
    """The groups of a verb and what each is unless overridden."""
    content = yaml.safe_load((conf_folder() / f"{verb}.yaml").read_text(encoding="utf-8"))
    groups: dict[str, Any] = {}
    for each in content["defaults"]:
        if isinstance(each, dict):
            groups.update({str(key): value for key, value in each.items() if not str(key).startswith("override ")})
    return groups


def select(cfg: Any, key: str) -> Any:
    """The value of a dotted key; None where it is missing."""
    return OmegaConf.select(cfg, key, throw_on_missing=False)


def values_in_files(folders: Sequence[Path], group: str, key: str) -> Iterator[Any]:
    """What ``key`` is in each file of a group, where the file has it."""
    for folder in folders:
        for file in sorted((folder / group).glob("*.yaml")):
            if (value := select(OmegaConf.load(file), key)) is not None:
                yield value
