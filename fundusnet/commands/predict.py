"""Reading photographs with trained networks: what the ``predict`` verb does.

The output folder says at every moment what is done: ``prediction.yaml`` of what, the rows of ``predictions.csv`` and
``rejected.csv`` how far. Heat maps are written before the rows that tell of them. So a command that was killed goes on
where it stopped, and memory holds a few batches, however many photographs there are.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.config.compose import as_list
from fundusnet.errors import UserError
from fundusnet.prediction.inputs import Entry, checkpoint_file, digest, find_inputs
from fundusnet.prediction.tables import RECORD, REJECTED, read_record, read_rows, write_record
from fundusnet.runs.folder import folder_lock, graceful_sigterm
from fundusnet.system.progress import progress_bar
from fundusnet.system.shard import Shard

if TYPE_CHECKING:
    from fundusnet.prediction.predictor import Predictor

REPORT = "report.html"
log = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> Path:
    """Predict the photographs of ``cfg.input`` into the folder ``cfg.output``, or merge the parts ``cfg.merge``.

    Raises
    ------
    UserError: a checkpoint or the input is missing or unfit, ``output`` holds something else, and with ``cfg.strict``
        the first file that cannot be read, or none of all can be.
    Interrupted: the process was asked to end; the same command goes on.
    """
    folder = Path(cfg.output)
    if cfg.merge is not None:
        from fundusnet.prediction.merging import merge

        for key in ("checkpoint", "input", "shard"):
            if cfg[key] is not None:
                raise UserError(f"merge puts finished parts together; leave out {key}={cfg[key]}")
        return merge(as_list(cfg.merge), folder, int(cfg.report.pictures))
    for key in ("checkpoint", "input"):
        if cfg[key] is None:
            raise UserError(f"{key} is not given; add {key}=VALUE")
    for each in as_list(cfg.checkpoint):
        checkpoint_file(Path(each))  # said before torch is imported, which takes seconds
    shard, given = Shard.parsed(cfg.shard), Path(cfg.input)
    _check_apart(given, folder)
    root, entries = find_inputs(given)
    shard.check_filled(len(entries))
    mine = entries[shard.number - 1 :: shard.of]

    predictors = _predictors(cfg)
    record = _record(cfg, predictors[0], root, entries, shard)
    _check_output(folder, record)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder), graceful_sigterm():
        if not (folder / RECORD).exists():
            write_record(folder, record)
        fill(folder, predictors, root, mine, cfg)
        rejected = sum(1 for _ in read_rows(folder / REJECTED))
        if rejected:
            log.warning("%d of %d files could not be read, see %s", rejected, len(mine), folder / REJECTED)
        _write_report(folder, int(cfg.report.pictures))
        write_record(folder, record | {"state": "done"})
    if rejected == len(mine) and shard.of == 1:
        raise UserError(f"none of the {len(mine)} files could be read; {folder / REJECTED} says why")
    return folder


def fill(
    folder: Path, predictors: Sequence[Predictor[Any, Any]], root: Path, entries: Sequence[Entry], cfg: DictConfig
) -> None:
    """Predict those of ``entries`` that ``folder`` does not tell of yet, and write tables and heat maps.

    ``predictors`` are the same networks on different devices. ``cfg`` holds ``strict``, ``batch_size``, ``workers``
    and ``heatmaps``.
    """
    from fundusnet.prediction.heatmaps import HeatMaps
    from fundusnet.prediction.line import Line
    from fundusnet.prediction.reading import read_ahead

    workers = min(os.cpu_count() or 1, 8) if cfg.workers is None else int(cfg.workers)
    size, views = int(cfg.batch_size), predictors[0].views
    style = None
    if cfg.heatmaps.draw:
        blurred = predictors[0].networks[0].task == "findings"
        style = HeatMaps(blurred, bool(cfg.heatmaps.side_by_side), bool(cfg.heatmaps.raw))
    with Line(folder, predictors, style, max(workers, 1)) as line, progress_bar() as progress:
        waiting = [entry for entry in entries if not line.tells_of(entry)]
        before, start = len(entries) - len(waiting), time.monotonic()
        bar = progress.add_task("predicting", total=len(entries), completed=before, remark="")

        def show() -> None:
            rate = line.written / max(time.monotonic() - start, 1e-3)
            progress.update(bar, completed=before + line.written, remark=f"{rate:.1f} images/s")

        with closing(read_ahead(waiting, root, views, workers, size + 2 * workers)) as reading:
            while batch := list(islice(reading, size)):
                unreadable = [read for read in batch if read.picture is None]
                if unreadable and cfg.strict:
                    line.take([read for read in batch if read.picture is not None])
                    line.finish()
                    first = unreadable[0]
                    raise UserError(f"{root / first.entry.path}: {first.reason}; strict=false lists it in {REJECTED}")
                line.take(batch)
                show()
        line.finish()
        show()


def _predictors(cfg: DictConfig) -> list[Predictor[Any, Any]]:
    """The same networks on each of the devices."""
    from fundusnet.prediction.loading import load
    from fundusnet.system.devices import all_devices, named_device

    devices = all_devices() if cfg.device == "auto" else [named_device(name) for name in as_list(cfg.device)]
    if not devices:
        raise UserError(f"device={cfg.device} names none; use auto")
    return [load(as_list(cfg.checkpoint), device) for device in devices]


def _check_apart(given: Path, folder: Path) -> None:
    """Heat maps among the photographs would be predicted the next time."""
    inside, outside = folder.resolve(), given.resolve()
    if given.is_dir() and (inside == outside or outside in inside.parents):
        raise UserError(f"output={folder} lies in input={given}; choose a folder outside of it")


def _record(
    cfg: DictConfig, predictor: Predictor[Any, Any], root: Path, entries: Sequence[Entry], shard: Shard
) -> dict[str, object]:
    """The content of ``prediction.yaml``: what is predicted of what, and under which name it goes on."""
    from fundusnet.prediction.networks import sum_of

    heatmaps: Any = OmegaConf.to_container(cfg.heatmaps, resolve=True)
    networks = [
        {
            "file": str(network.file.resolve()),
            "sha256": sum_of(network.file),
            "names": list(network.names),
            "size": network.view.size,
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
        **predictor.described(),
        "heatmaps": heatmaps,
        "versions": {name: version(name) for name in ("fundusnet", "torch")},
    }


def _check_output(folder: Path, record: dict[str, Any]) -> None:
    """Refuse a folder that holds something else than predictions of the same of the same."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / RECORD).is_file():
        raise UserError(f"output={folder} exists and holds no predictions; choose another folder")
    before: dict[str, Any] = read_record(folder)
    sums = [[each["sha256"] for each in one.get("checkpoints") or ()] for one in (before, record)]
    different = None
    if sums[0] != sums[1]:
        different = "with other checkpoints"
    elif before.get("digest") != record["digest"]:
        different = "of other photographs, or some changed since"
    else:
        for key in ("shard", "heatmaps"):
            if before.get(key) != record[key]:
                different = f"with {key}={before.get(key)}"
    if different:
        raise UserError(f"output={folder} was begun {different}; choose another folder")


def _write_report(folder: Path, pictures: int) -> None:
    from fundusnet.prediction.page import write_page

    write_page(folder, folder / REPORT, pictures)
