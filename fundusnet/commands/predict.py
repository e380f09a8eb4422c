"""Predicts photographs with trained networks: the ``predict`` verb.

The output folder always says what is done: ``prediction.yaml`` records the networks and the photographs, the rows of
``predictions.csv`` and ``rejected.csv`` how far the work has come. Heat maps are written before their rows. A killed
command therefore resumes where it stopped, and memory holds a few batches however many photographs there are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.config.compose import as_list
from fundusnet.data import dicom
from fundusnet.errors import UserError
from fundusnet.prediction.inputs import Entry, digest, find_checkpoint, find_inputs
from fundusnet.prediction.output_files import (
    RECORD,
    REJECTED,
    REPORT,
    checkpoint_hashes,
    read_record,
    read_rows,
    write_record,
)
from fundusnet.runs.folder import graceful_sigterm
from fundusnet.system.locks import folder_lock
from fundusnet.system.progress import progress_bar
from fundusnet.system.shard import Shard
from fundusnet.system.workers import cores

if TYPE_CHECKING:
    from fundusnet.prediction.dicom_objects import DicomWriter
    from fundusnet.prediction.heatmaps import HeatmapStyle
    from fundusnet.prediction.page_pictures import PagePictures
    from fundusnet.prediction.predictor import Predictor

log = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> Path:
    """Predict the photographs of ``cfg.input`` into the folder ``cfg.output``, or merge the parts ``cfg.merge``.

    Returns:
        The output folder.

    Raises:
        UserError: A checkpoint or the input is missing or unsuitable, ``output`` holds something else, no file can be
            read, or with ``cfg.strict`` one cannot.
        Interrupted: The process was asked to end; the same command resumes.
    """
    folder = Path(cfg.output)
    if cfg.merge is not None:
        from fundusnet.prediction.parts import merge_parts

        for key in ("checkpoint", "input", "shard"):
            if cfg[key] is not None:
                raise UserError(f"merge joins finished parts; leave out {key}={cfg[key]}")
        return merge_parts(as_list(cfg.merge), folder, int(cfg.report.pictures))
    for key in ("checkpoint", "input"):
        if cfg[key] is None:
            raise UserError(f"{key} is not given; add {key}=VALUE")
    for each in as_list(cfg.checkpoint):
        find_checkpoint(Path(each))  # before torch is imported, which takes seconds
    shard, given = Shard.parsed(cfg.shard), Path(cfg.input)
    _check_separate(given, folder)
    root, entries = find_inputs(given)
    shard.check_filled(len(entries))
    mine = entries[shard.number - 1 :: shard.of]

    from fundusnet.prediction.report_page import write_page

    predictors = _predictors(cfg)
    record = _record(cfg, predictors[0], root, entries, shard)
    _check_output(folder, record)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder), graceful_sigterm():
        if not (folder / RECORD).exists():
            write_record(folder, record)
        predict_missing(folder, predictors, root, mine, cfg)
        rejected = sum(1 for _ in read_rows(folder / REJECTED))
        if rejected:
            log.warning("%d of %d files could not be read, see %s", rejected, len(mine), folder / REJECTED)
        write_page(folder, folder / REPORT, int(cfg.report.pictures))
        write_record(folder, record | {"state": "done"})
    if rejected == len(mine) and shard.of == 1:
        raise UserError(f"none of the {len(mine)} files could be read; {folder / REJECTED} says why")
    return folder


def predict_missing(
    folder: Path, predictors: Sequence[Predictor[Any, Any]], root: Path, entries: Sequence[Entry], cfg: DictConfig
) -> None:
    """Predict those of ``entries`` that the tables in ``folder`` do not hold yet.

    Args:
        folder: Output folder.
        predictors: The same networks on different devices.
        root: Folder that the paths of ``entries`` are relative to.
        entries: Photographs.
        cfg: Has ``strict``, ``batch_size``, ``workers``, ``heatmaps`` and ``report``.

    Raises:
        UserError: With ``cfg.strict``, a file cannot be read.
    """
    from fundusnet.prediction.drawing import Drawing
    from fundusnet.prediction.pipeline import Pipeline
    from fundusnet.prediction.prefetch import prefetch

    workers = min(cores(), 8) if cfg.workers is None else int(cfg.workers)
    size, specs = int(cfg.batch_size), predictors[0].specs
    drawing = Drawing(folder, root, *_drawn(cfg, predictors[0]))
    objects = _objects(folder, predictors[0], root, entries) if cfg.dicom else None
    with Pipeline(folder, predictors, drawing, max(workers, 1), objects) as pipeline, progress_bar() as progress:
        missing = [entry for entry in entries if not pipeline.is_done(entry)]
        before, start = len(entries) - len(missing), time.monotonic()
        bar = progress.add_task("predicting", total=len(entries), completed=before, remark="")

        def show_progress() -> None:
            rate = pipeline.written / max(time.monotonic() - start, 1e-3)
            progress.update(bar, completed=before + pipeline.written, remark=f"{rate:.1f} images/s")

        with closing(prefetch(missing, root, specs, workers, size + 2 * workers)) as results:
            while batch := list(islice(results, size)):
                unreadable = [read for read in batch if read.picture is None]
                if unreadable and cfg.strict:
                    pipeline.add([read for read in batch if read.picture is not None])
                    pipeline.finish()
                    first = unreadable[0]
                    raise UserError(f"{root / first.entry.path}: {first.reason}; strict=false lists it in {REJECTED}")
                pipeline.add(batch)
                show_progress()
        pipeline.finish()
        show_progress()


def _drawn(cfg: DictConfig, predictor: Predictor[Any, Any]) -> tuple[HeatmapStyle | None, PagePictures | None]:
    """How heat maps and the pictures of the page are drawn; None where they are not."""
    from fundusnet.prediction.heatmaps import HeatmapStyle
    from fundusnet.prediction.page_pictures import PagePictures

    levels, heatmaps = predictor.levels, cfg.heatmaps
    style = HeatmapStyle(
        masks=predictor.networks[0].task == "grading",
        relative=heatmaps.scale == "relative",
        longest=heatmaps.size,
        side_by_side=bool(heatmaps.side_by_side),
        raw=bool(heatmaps.raw),
        levels=levels,
    )
    page = PagePictures(levels, cfg.report.size) if cfg.report.pictures else None
    return style if heatmaps.draw and predictor.networks[0].task != "landmarks" else None, page


def _objects(folder: Path, predictor: Predictor[Any, Any], root: Path, entries: Sequence[Entry]) -> DicomWriter:
    """What writes objects of the study of each DICOM photograph; other photographs have none."""
    from fundusnet.prediction.dicom_objects import FOLDER, DicomWriter
    from fundusnet.prediction.trained_network import sha256_of

    if predictor.networks[0].task == "landmarks":
        raise UserError("dicom=true writes findings and grades, and this network finds disc and fovea; leave it out")
    if find_spec("highdicom") is None:
        raise UserError("dicom=true needs highdicom; pip install 'fundusnet[dicom]'")
    if others := sum(not dicom.looks_like_dicom(root / entry.path) for entry in entries):
        log.warning("dicom=true: %d of %d photographs are not DICOM and get no objects", others, len(entries))
    checksums = tuple(sha256_of(network.file) for network in predictor.networks)
    (folder / FOLDER).mkdir(exist_ok=True)
    return DicomWriter(folder / FOLDER, root, version("fundusnet"), checksums)


def _predictors(cfg: DictConfig) -> list[Predictor[Any, Any]]:
    """The same networks on each device."""
    from fundusnet.networks.build import import_network
    from fundusnet.prediction.loading import load
    from fundusnet.system.devices import all_devices, named_device

    devices = all_devices() if cfg.device == "auto" else [named_device(name) for name in as_list(cfg.device)]
    if not devices:
        raise UserError(f"device={cfg.device} names no device; use auto")
    network = import_network(cfg.network)
    return [load(as_list(cfg.checkpoint), device, network, cfg.points, cfg.precision) for device in devices]


def _check_separate(given: Path, folder: Path) -> None:
    """Refuse an output folder inside the input: its heat maps would be taken for photographs the next time."""
    inside, outside = folder.resolve(), given.resolve()
    if given.is_dir() and (inside == outside or outside in inside.parents):
        raise UserError(f"output={folder} is inside input={given}; choose a folder outside it")


def _record(
    cfg: DictConfig, predictor: Predictor[Any, Any], root: Path, entries: Sequence[Entry], shard: Shard
) -> dict[str, object]:
    """The content of ``prediction.yaml``: networks, photographs and settings, by which a command is resumed."""
    from fundusnet.prediction.provenance import run_of
    from fundusnet.prediction.trained_network import sha256_of

    heatmaps: Any = OmegaConf.to_container(cfg.heatmaps, resolve=True)
    networks = [
        {
            "file": str(network.file.resolve()),
            "sha256": sha256_of(network.file),
            "names": list(network.names),
            "size": network.spec.size,
            "run": run_of(network.file),
        }
        for network in predictor.networks
    ]
    return {
        "state": "running",
        "task": predictor.networks[0].task,
        "input": str(root.resolve()),
        "photographs": len(entries),
        "digest": digest(root, entries),
        "shard": str(shard),
        "checkpoints": networks,
        **predictor.describe(),
        "heatmaps": heatmaps,
        "dicom": bool(cfg.dicom),
        "precision": predictor.precision,
        "started": datetime.now().isoformat(sep=" ", timespec="minutes"),
        "versions": {name: version(name) for name in ("fundusnet", "torch")},
    }


def _check_output(folder: Path, record: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but predictions of these photographs by these networks."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / RECORD).is_file():
        raise UserError(f"output={folder} exists and holds no predictions; choose another folder")
    before: dict[str, Any] = read_record(folder)
    different = None
    if checkpoint_hashes(before) != checkpoint_hashes(record):
        different = "with other checkpoints"
    elif before.get("digest") != record["digest"]:
        different = "with other photographs, or some have changed since"
    else:
        before = {"dicom": False, "precision": "32-true", **before}  # older records have neither
        for key in ("shard", "heatmaps", "dicom", "precision", "points"):  # those of grades have no points
            if before.get(key) != record.get(key):
                different = f"with {key}={before.get(key)}"
    if different:
        raise UserError(f"output={folder} was started {different}; choose another folder")
