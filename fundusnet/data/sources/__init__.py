"""Sources: one module a public set, each turning the set's own layout into a manifest."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from fundusnet.data.manifest import Manifest
from fundusnet.errors import UserError

Loader = Callable[..., Manifest]


def load_source(name: str, root: Path | str, options: Mapping[str, object] | None = None) -> Manifest:
    """The manifest of the photographs under ``root``.

    Args:
        name: one of ``SOURCES``.
        root: folder of the set as it was unpacked (synthetic draws its own photographs and may create it).
        options: keyword arguments of that source's ``load``.

    Raises:
        UserError: the name, an option or the folder is wrong; says what was expected and what was found.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(f"unknown source '{name}': {hint}there are {', '.join(SOURCES)}")
    folder = Path(root).expanduser()
    if name != "synthetic" and not folder.is_dir():
        found = "a file" if folder.exists() else _nearest(folder)
        raise UserError(f"root={root}: source={name} expects {SOURCES[name]}, found {found}")
    load: Loader = import_module(f"fundusnet.data.sources.{name}").load
    options = dict(options or {})
    _check_options(name, load, options)
    return load(folder, **options)


# What each source expects of its root; its module bears its name, and is imported when it is asked for.
SOURCES: dict[str, str] = {
    "csv": "a folder with images.csv",
    "folder": "a folder of photographs, one folder a class if graded",
    "idrid": "the folder that holds 'A. Segmentation', 'B. Disease Grading' and 'C. Localization'",
    "keh": "the folder that holds normal_control, early_glaucoma and advanced_glaucoma",
    "papila": "the folder that holds FundusImages and ClinicalData",
    "refuge": "a folder with Training400, REFUGE-Validation400 or Test400 somewhere in it",
    "diaretdb1": "the folder that holds resources (diaretdb1_v_1_1)",
    "ddr": "the folder that holds DR_grading and lesion_segmentation",
    "aptos": "the folder that holds train.csv and train_images",
    "messidor2": "a folder with messidor_data.csv and the photographs somewhere in it",
    "airogs": "a folder with train_labels.csv and the photographs somewhere in it",
    "justraigs": "a folder with JustRAIGS_Train_labels.csv and the photographs somewhere in it",
    "odir": "a folder with the training annotations (.xlsx) and the training images somewhere in it",
    "rfmid": "the folder that holds '1. Original Images' and '2. Groundtruths'",
    "synthetic": "any folder",
}


def check_choice(source: str, option: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is none of those an option takes."""
    if value not in allowed:
        raise UserError(f"source={source}: {option} '{value}' is none of {', '.join(allowed)}")


def listing(folder: Path, limit: int = 8) -> str:
    """What a folder holds, in few words, for the message that says what was found instead."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"


def _nearest(folder: Path) -> str:
    """The closest parent that does exist, and its contents: most often a part of the path is misspelt."""
    parent = next(parent for parent in folder.absolute().parents if parent.is_dir())
    return f"no such folder ({parent} holds {listing(parent)})"


def _check_options(name: str, load: Loader, options: dict[str, object]) -> None:
    parameters = list(inspect.signature(load).parameters.values())[1:]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = {parameter.name: parameter.default for parameter in parameters}
    for option, value in options.items():
        if option not in known:
            raise UserError(f"source={name} has no option '{option}': it has {', '.join(known) or 'none'}")
        usual = known[option]
        if isinstance(usual, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"data.options.{option}={value} is no number; write one such as {usual}")
        if isinstance(usual, tuple) and isinstance(value, str):
            raise UserError(f"data.options.{option}={value} is no list; write [{value}]")
