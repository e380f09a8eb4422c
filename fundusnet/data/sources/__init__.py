"""Sources: one module per public set, each of which reads the set's own layout into a manifest."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_origin, get_type_hints

from fundusnet.errors import UserError

if TYPE_CHECKING:  # pandas, which is not needed to miss a folder
    from fundusnet.data.manifest import Manifest

Loader = Callable[..., "Manifest"]


def load_source(name: str, root: Path | str, options: Mapping[str, object] | None = None) -> Manifest:
    """The manifest of the photographs under ``root``.

    Args:
        name: One of ``SOURCES``, or the dotted name of a function of the user's own that takes the folder and the
            options and returns a manifest.
        root: Folder of the unpacked set (synthetic draws its own photographs and may create it).
        options: Keyword arguments of the source's ``load``.

    Raises:
        UserError: The name, an option or the folder is wrong; names what was expected and found.
    """
    if "." in name:
        folder, load = Path(root).expanduser(), _import_loader(name)
        _check_options(name, load, dict(options or {}))
        return _checked(name, load(folder, **(options or {})))
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(f"unknown source '{name}': {hint}choose one of {', '.join(SOURCES)}")
    check_root(name, root)
    folder = Path(root).expanduser()
    load = _import_loader(f"fundusnet.data.sources.{name}.load")
    options = dict(options or {})
    _check_options(name, load, options)
    return _checked(name, load(folder, **options))


def check_root(name: str, root: Path | str) -> None:
    """Raise UserError if the folder of a source does not exist; synthetic and functions of the user's own need none."""
    folder = Path(root).expanduser()
    if name in SOURCES and name != "synthetic" and not folder.is_dir():
        found = "a file" if folder.exists() else _nearest(folder)
        raise UserError(f"root={root}: source={name} expects {SOURCES[name]}, found {found}")


def _checked(name: str, manifest: Manifest) -> Manifest:
    """The manifest; raises UserError if a photograph is in it twice, under one id or by one path."""
    for column in ("image_id", "path"):
        repeated = manifest.images[column][manifest.images[column].duplicated()]
        if len(repeated):
            raise UserError(
                f"source={name}: {column} '{repeated.iloc[0]}' is listed twice under {manifest.root}; remove the row "
                "that repeats it from the set's table"
            )
    return manifest


# What each source expects as its root; its module has its name and is imported on demand.
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


def _import_loader(name: str) -> Loader:
    module, _, function = name.rpartition(".")
    try:
        loader: Loader = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"data.source={name} cannot be imported: {error}; install its package, or add the folder that holds it to "
            "PYTHONPATH"
        ) from error
    return loader


def listing(folder: Path, limit: int = 8) -> str:
    """The first names in a folder, for errors about what is missing in it."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"


def found_near(place: Path) -> str:
    """ "found in FOLDER: NAMES" of ``place`` or its nearest parent that exists, for errors about what is missing."""
    folder = next(folder for folder in (place, *place.parents) if folder.is_dir())
    return f"found in {folder}: {listing(folder)}"


def eye_side(disc_x: float | None, fovea_x: float | None) -> str:
    """ "right" or "left" from two x in pixels: the disc is nasal, right of the fovea in a right eye; "" = unknown."""
    if disc_x is None or fovea_x is None or disc_x == fovea_x:
        return ""
    return "right" if disc_x > fovea_x else "left"


def _nearest(folder: Path) -> str:
    """The closest parent that exists, and its contents: often a part of the path is misspelt."""
    parent = next(parent for parent in folder.absolute().parents if parent.is_dir())
    return f"no such folder ({parent} holds {listing(parent)})"


def _check_options(name: str, load: Loader, options: Mapping[str, object]) -> None:
    known = {each.name: each.default for each in list(inspect.signature(load).parameters.values())[1:]}
    hints = get_type_hints(load)
    for option, value in options.items():
        if option not in known:
            raise UserError(f"source={name} has no option '{option}'; it has {', '.join(known) or 'none'}")
        default = known[option]
        if get_origin(hints.get(option)) is Literal and value not in get_args(hints[option]):
            raise UserError(
                f"source={name}: data.options.{option}={value} is not valid; use {' or '.join(get_args(hints[option]))}"
            )
        if isinstance(default, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"data.options.{option}={value} is not a number; use one such as {default}")
        if isinstance(default, tuple) and isinstance(value, str):
            raise UserError(f"data.options.{option}={value} is not a list; write [{value}]")
