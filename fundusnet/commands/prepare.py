"""From the files of a source to a prepared set: the ``prepare`` verb, and ``train`` on first use."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from fundusnet.config.compose import as_list
from fundusnet.data.journal import preparation_identity
from fundusnet.data.manifest import COORDINATES, Manifest
from fundusnet.data.merging import finished_parts, merge_parts
from fundusnet.data.prepare import prepare, prepare_jobs
from fundusnet.data.prepare_one import Locate
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.set_folders import following, newest, prepared_folder, source_options
from fundusnet.data.sources import load_source
from fundusnet.data.versions import Record, changes, source_state
from fundusnet.errors import UserError
from fundusnet.system.files import write_text
from fundusnet.system.locks import folder_lock
from fundusnet.system.shard import Shard
from fundusnet.system.workers import cores

log = logging.getLogger(__name__)


def prepare_set(cfg: DictConfig, shard: Shard | None = None) -> PreparedSet:
    """Open the prepared set that ``cfg.data`` describes, or this part of it; make what is missing first.

    Where photographs or tables of the source changed, another version is made beside the set, which stays as it is for
    the runs that use it. Photographs that did not change are taken over.

    Raises:
        UserError: The source's folder is missing or holds something else, no photograph can be read, or the existing
            set has images of another size or is only a part.
    """
    base = prepared_folder(cfg, shard)
    folder = newest(base)
    prepared = _open_checked(cfg, folder, shard) if (folder / "prepared.yaml").exists() else None
    root = Path(cfg.data.root).expanduser()
    if prepared and not _may_have_changed(cfg, prepared, root):
        return prepared
    data = cfg.data
    state = source_state(root) if root.is_dir() else ""
    manifest = load_source(data.source, root, source_options(cfg))
    if prepared:
        jobs = prepare_jobs(manifest, Path(), data.size, locator(cfg, manifest))
        record = Record(prepared)
        same = prepared.info["identity"] == preparation_identity(manifest, _identity_parameters(cfg, prepared))
        if same and (record.is_current(jobs) or not record or shard):
            _remember(prepared, state or source_state(root))
            return prepared
        if shard:
            raise UserError(
                f"{folder} was prepared before photographs or tables changed; remove it to prepare it again"
            )
        what = changes(prepared.manifest, record, manifest, jobs)
        base = following(base)
        log.info("changed in %s since %s was prepared: %s; preparing %s", root, folder, what, base)
    else:
        what = f"part {shard} of {data.source}" if shard else data.source
        log.info("preparing %s into %s (first use of these settings)", what, base)
    locate = locator(cfg, manifest)
    made = prepare(
        manifest,
        base,
        size=data.size,
        workers=cores() if data.workers is None else data.workers,
        source=data.source,
        options=source_options(cfg),
        shard=shard,
        earlier=prepared,
        state=state or source_state(root),
        locate=locate,
    )
    _report(made)
    return made


def locator(cfg: DictConfig, manifest: Manifest) -> Locate | None:
    """What finds the points that ``manifest`` lacks; None where none is missing or nothing needs regions.

    Regions are needed where findings are, as readings or as lesion masks.
    """
    needed = cfg.data.points == "auto" and (len(manifest.readings) or len(manifest.lesions))
    if not needed or not manifest.images[list(COORDINATES)].isna().any(axis=None):
        return None
    from fundusnet.landmarks.localizer import locate_in_prepared

    return locate_in_prepared


def _open_checked(cfg: DictConfig, folder: Path, shard: Shard | None = None) -> PreparedSet:
    """The finished set in ``folder``; raises UserError unless it has the size and is the part that are asked for."""
    prepared = open_prepared(folder)
    if prepared.size != cfg.data.size:
        raise UserError(
            f"{folder} holds pictures of {prepared.size} pixels, and data.size={cfg.data.size}; use "
            f"data.size={prepared.size}, or another data.folder"
        )
    prepared.check_shard(shard)
    return prepared


def _may_have_changed(cfg: DictConfig, prepared: PreparedSet, root: Path) -> bool:
    """Whether the source is here, and not certainly as it was when the set was prepared.

    Raises:
        UserError: The set was made from another source, other options, or another folder that is still there.
    """
    info = prepared.info
    if not root.is_dir() or not info.get("source"):
        return False  # the photographs are gone, or Python made the set: it is all there is
    asked = {"source": cfg.data.source, "options": source_options(cfg), "root": str(root.resolve())}
    moved = not Path(info["root"]).is_dir()
    for key, value in asked.items():
        if info.get(key) != value and not (key == "root" and moved):
            raise UserError(
                f"{prepared.folder} was prepared with data.{key}={info.get(key)}, and this command says {value}; "
                "choose another data.folder, or leave it out"
            )
    if moved:
        return False
    # A source of the user's own may read what does not lie below its root.
    return "." in cfg.data.source or info.get("state") != source_state(root)


def _identity_parameters(cfg: DictConfig, prepared: PreparedSet) -> dict[str, Any]:
    """What the identity of the set depends on besides its tables."""
    return {**prepared.info["parameters"], "size": cfg.data.size, "source": cfg.data.source}


def _remember(prepared: PreparedSet, state: str) -> None:
    """Note that the set is what its source holds in this ``state``."""
    if prepared.info.get("state") == state:
        return
    text = yaml.safe_dump({**prepared.info, "state": state}, sort_keys=False, allow_unicode=True)
    with suppress(OSError):  # a set that may not be written to is compared again each time
        write_text(prepared.folder / "prepared.yaml", text)


def _report(prepared: PreparedSet) -> None:
    counts = prepared.info["counts"]
    rejected = counts["rejected"] + counts["rejected_masks"]
    which = f"rejected: {rejected}, see {prepared.folder / 'rejected.csv'}" if rejected else "none was rejected"
    taken = counts.get("taken_over", 0)
    how = f" ({counts['listed'] - taken} anew, {taken} taken over)" if taken else ""
    log.info("prepared %d photographs%s; %s", len(prepared), how, which)
    if found := counts["localised"]:
        readings = counts["readings_on_localised"]
        rest = f"; the regions of {readings} readings rest on them" if readings else ""
        log.info("disc or fovea found in %d photographs that come without%s", found, rest)
    if flagged := counts["flagged"]:
        log.warning("flagged: %d, see %s", flagged, prepared.folder / "flagged.csv")


def describe_classes(manifest: Manifest) -> list[str]:
    """Photographs of each grade, and with and without each finding, as lines for people."""
    grades, lines = manifest.images["grade"], list[str]()
    for grade in sorted(set(grades.dropna())):
        name = manifest.classes[int(grade)] if grade < len(manifest.classes) else f"{grade:g}"
        lines.append(f"  grade {name}: {int((grades == grade).sum())}")
    if lines and grades.isna().any():
        lines.append(f"  without a grade: {int(grades.isna().sum())}")
    readings, lesions = manifest.readings, manifest.lesions
    read = set(readings["image_id"])
    for finding in sorted({*readings["finding"], *lesions["finding"]} - {""}):
        marked = set(readings.loc[readings["finding"] == finding, "image_id"])
        masks = lesions[lesions["finding"] == finding]
        present = marked | set(masks.loc[masks["path"] != "", "image_id"])
        examined = set(masks["image_id"]) | (read if marked else set())
        lines.append(f"  {finding}: marked in {len(present)}, not in {len(examined - present)}")
    return lines


def prepare_once(cfg: DictConfig) -> PreparedSet:
    """``prepare_set``; other processes that want the same wait and then open it."""
    folder = newest(prepared_folder(cfg))
    if (folder / "prepared.yaml").exists():  # in use by others, perhaps while another set is made beside it
        prepared = _open_checked(cfg, folder)
        if not _may_have_changed(cfg, prepared, Path(cfg.data.root).expanduser()):
            return prepared
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(parent, patience=math.inf):
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
        prepared = prepare_set(cfg, shard) if shard else prepare_once(cfg)
        for line in [f"{prepared.folder} holds {len(prepared)} photographs:", *describe_classes(prepared.manifest)]:
            log.info("%s", line)
        return prepared.folder
    if shard:
        raise UserError(f"merge puts finished parts together; leave out shard={shard}")
    parts = finished_parts(as_list(cfg.merge))
    _check_settings(cfg, *next(iter(parts.items())))
    folder, info = newest(prepared_folder(cfg)), next(iter(parts.values()))
    if (folder / "prepared.yaml").exists():
        there = open_prepared(folder).info
        settings = ("source", "root", "options", "parameters")
        if there["identity"] != info["identity"] and all(there.get(key) == info[key] for key in settings):
            folder = following(prepared_folder(cfg))  # of the same source, which changed
    merged = merge_parts(parts, folder)
    log.info("merged %d photographs of %d parts", len(merged), len(parts))
    return merged.folder


def _check_settings(cfg: DictConfig, part: Path, info: Mapping[str, Any]) -> None:
    """Refuse parts that were prepared with settings other than those of ``cfg.data``."""
    data = cfg.data
    there = {"source": info["source"], "root": info["root"], "options": info["options"]} | info["parameters"]
    asked = {"source": data.source, "root": str(Path(data.root).expanduser().resolve()), "options": source_options(cfg)}
    for key, value in {**asked, "size": data.size}.items():
        if there[key] != value:
            raise UserError(
                f"{part} was prepared with data.{key}={there[key]}, and this command says {value}; give the data "
                "settings of the parts"
            )
