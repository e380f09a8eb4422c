"""Reading photographs with trained networks: what the ``predict`` verb does.

The output folder says at every moment what is done: ``prediction.yaml`` of what, the rows of ``predictions.csv`` and
``rejected.csv`` how far. Heat maps are written before the rows that tell of them. So a command that was killed goes on
where it stopped, and memory holds a few batches, however many photographs there are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.errors import UserError
from fundusnet.prediction.inputs import Entry, Shard, digest, find_inputs
from fundusnet.prediction.tables import (
    PREDICTIONS,
    RECORD,
    REJECTED,
    REJECTED_COLUMNS,
    GrowingTable,
    read_record,
    write_record,
)
from fundusnet.progress import progress_bar
from fundusnet.run_folder import alone_in, ending_in_order

if TYPE_CHECKING:
    from fundusnet.prediction.heatmaps import HeatMaps
    from fundusnet.prediction.predictor import Predictor
    from fundusnet.prediction.reading import Read

REPORT = "report.html"


def predict(cfg: DictConfig) -> Path:
    """Predict the photographs of ``cfg.input`` into the folder ``cfg.output``, or merge the parts ``cfg.merge``.

    Raises
    ------
    UserError: a checkpoint or the input is missing or unfit, ``output`` holds something else, and with ``cfg.strict``
        the first file that cannot be read.
    Interrupted: the process was asked to end; the same command goes on.
    """
    folder = Path(cfg.output)
    if cfg.merge is not None:
        from fundusnet.prediction.merging import merge

        for key in ("checkpoint", "input", "shard"):
            if cfg[key] is not None:
                raise UserError(f"merge puts finished parts together; leave out {key}={cfg[key]}")
        return merge(_list(cfg.merge), folder, int(cfg.report.pictures))
    for key in ("checkpoint", "input"):
        if cfg[key] is None:
            raise UserError(f"{key} is not given; add {key}=VALUE")
    shard, given = Shard.parsed(cfg.shard), Path(cfg.input)
    _check_apart(given, folder)
    root, entries = find_inputs(given)
    if shard.of > len(entries):
        raise UserError(f"shard={shard} of {len(entries)} photographs leaves parts empty; use fewer parts")
    mine = entries[shard.number - 1 :: shard.of]

    from fundusnet.prediction.predictor import load

    predictor = load(_list(cfg.checkpoint), cfg.device)
    record = _record(cfg, predictor, root, entries, shard)
    _check_output(folder, record)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder), ending_in_order():
        if not (folder / RECORD).exists():
            write_record(folder, record)
        fill(folder, predictor, root, mine, cfg)
        _write_report(folder, int(cfg.report.pictures))
        write_record(folder, record | {"state": "done"})
    return folder


def fill(folder: Path, predictor: Predictor[Any, Any], root: Path, entries: Sequence[Entry], cfg: DictConfig) -> None:
    """Predict those of ``entries`` that ``folder`` does not tell of yet, and write tables and heat maps.

    ``cfg`` holds ``strict``, ``batch_size``, ``workers`` and ``heatmaps``.
    """
    from fundusnet.prediction.reading import read_ahead

    workers = min(os.cpu_count() or 1, 8) if cfg.workers is None else int(cfg.workers)
    size = int(cfg.batch_size)
    columns = predictor.columns
    with (
        GrowingTable(folder / PREDICTIONS, columns, "image_id", predictor.rows_each) as predictions,
        GrowingTable(folder / REJECTED, REJECTED_COLUMNS, "path") as rejected,
        ThreadPoolExecutor(max(workers, 1)) as painters,
        progress_bar() as progress,
    ):
        waiting = [e for e in entries if e.image_id not in predictions.done and e.path not in rejected.done]
        bar = progress.add_task("predicting", total=len(entries), completed=len(entries) - len(waiting), remark="")
        easel = _Easel(folder, predictor, predictions, painters, cfg)
        start, seen = time.monotonic(), 0
        with closing(read_ahead(waiting, root, predictor.views, workers, size + 2 * workers)) as reading:
            while batch := list(islice(reading, size)):
                unreadable = [read for read in batch if read.picture is None]
                if unreadable and cfg.strict:
                    easel.finish()
                    first = unreadable[0]
                    raise UserError(f"{root / first.entry.path}: {first.reason}; strict=false lists it in {REJECTED}")
                rejected.add([(read.entry.path, read.reason) for read in unreadable])
                easel.take([read for read in batch if read.picture is not None])
                seen += len(batch)
                rate = seen / (time.monotonic() - start)
                progress.update(bar, advance=len(batch), remark=f"{rate:.1f} images/s")
        easel.finish()


class _Easel:
    """Heat maps of one batch are drawn while the network works on the next; rows are written when they are there."""

    def __init__(
        self,
        folder: Path,
        predictor: Predictor[Any, Any],
        predictions: GrowingTable,
        painters: ThreadPoolExecutor,
        cfg: DictConfig,
    ) -> None:
        from fundusnet.prediction import heatmaps

        self._predictor, self._predictions, self._painters = predictor, predictions, painters
        self._folder = folder / heatmaps.FOLDER
        self._style: HeatMaps | None = None
        if cfg.heatmaps.draw:
            blurred = predictor.networks[0].task == "findings"
            self._style = heatmaps.HeatMaps(blurred, bool(cfg.heatmaps.side_by_side), bool(cfg.heatmaps.raw))
            self._folder.mkdir(exist_ok=True)
        self._batch: list[tuple[Read, Any]] = []
        self._drawing: Iterator[None] = iter(())

    def take(self, batch: Sequence[Read]) -> None:
        """Score a batch of pictures, wait for the one before, and begin to draw this one."""
        pictures = [read.picture for read in batch if read.picture is not None]
        answers = self._predictor.answer(pictures) if pictures else []
        self.finish()
        self._batch = list(zip(batch, answers, strict=True))
        self._drawing = self._painters.map(self._draw, *zip(*self._batch, strict=True)) if self._batch else iter(())

    def finish(self) -> None:
        """Wait until the batch is drawn, and write its rows."""
        for _ in self._drawing:
            pass
        rows = [
            row
            for read, answer in self._batch
            if read.picture is not None
            for row in self._predictor.rows(read.entry, read.picture, answer)
        ]
        self._predictions.add(rows)
        self._batch = []

    def _draw(self, read: Read, answer: Any) -> None:
        if self._style is not None and read.picture is not None:
            pixels = read.picture.pixels[self._predictor.size]
            self._style.write(self._folder, read.entry.image_id, pixels, self._predictor.drawn(answer))


def _list(value: Any) -> list[str]:
    return [str(each) for each in value] if OmegaConf.is_list(value) else [str(value)]


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
