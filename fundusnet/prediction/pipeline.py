"""Runs batches through the networks while earlier ones are drawn and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from fundusnet.prediction.heatmaps import HEATMAPS, HeatmapStyle
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.output_files import PREDICTIONS, REJECTED, REJECTED_COLUMNS, ResumableTable
from fundusnet.prediction.predictor import Predictor
from fundusnet.prediction.prefetch import ReadResult
from fundusnet.prediction.preparation import PreparedPhotograph


@dataclass(frozen=True)
class _Output:
    """Table rows of one batch, and the drawing tasks of its heat maps."""

    rows: list[tuple[object, ...]]
    drawings: list[Future[None]]


class Pipeline:
    """Batches in flight between the networks, the threads that draw heat maps and the tables.

    Rows are written in the order of the batches, and after their heat maps, so that a row means that all is done.

    Args:
        folder: Output folder with ``predictions.csv``, ``rejected.csv`` and heat maps; existing rows are kept.
        predictors: The same networks on different devices; each takes the next batch when it is free.
        style: How heat maps are drawn; None draws none.
        threads: Threads that draw heat maps.

    Attributes:
        written: Photographs whose rows this object has written.
    """

    def __init__(
        self, folder: Path, predictors: Sequence[Predictor[Any, Any]], style: HeatmapStyle | None, threads: int
    ) -> None:
        self._first, self._style, self._heatmaps = predictors[0], style, folder / HEATMAPS
        self._free: SimpleQueue[Predictor[Any, Any]] = SimpleQueue()
        for predictor in predictors:
            self._free.put(predictor)
        self._limit = len(predictors) + 2  # one in each network, one waiting for it, one being written
        self._batches: deque[tuple[Sequence[ReadResult], Future[_Output]]] = deque()
        if style is not None:
            self._heatmaps.mkdir(exist_ok=True)
        columns, group = self._first.columns, self._first.rows_per_photograph
        with ExitStack() as stack:
            table = ResumableTable(folder / PREDICTIONS, columns, "image_id", group)
            self._predictions = stack.enter_context(table)
            self._rejected = stack.enter_context(ResumableTable(folder / REJECTED, REJECTED_COLUMNS, "path"))
            self._drawing = stack.enter_context(ThreadPoolExecutor(threads))
            self._networks = stack.enter_context(ThreadPoolExecutor(len(predictors)))
            self._open = stack.pop_all()
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *cause: object) -> None:
        for _, output in self._batches:
            output.cancel()
        self._open.close()

    def is_done(self, entry: Entry) -> bool:
        """Whether the tables held a row of this photograph when they were opened."""
        return entry.image_id in self._predictions.done or entry.path in self._rejected.done

    def add(self, batch: Sequence[ReadResult]) -> None:
        """Add a batch; waits while the pipeline is full.

        Raises:
            UserError: A network gave NaN, or a file cannot be written.
        """
        self._batches.append((batch, self._networks.submit(self._predict, batch)))
        while len(self._batches) > self._limit:
            self._write_next()

    def finish(self) -> None:
        """Wait until every batch is written; raises as ``add``."""
        while self._batches:
            self._write_next()

    def _write_next(self) -> None:
        batch, future = self._batches.popleft()
        output = future.result()
        for drawing in output.drawings:
            drawing.result()
        self._rejected.add([(read.entry.path, read.reason) for read in batch if read.picture is None])
        self._predictions.add(output.rows)
        self.written += len(batch)

    def _predict(self, batch: Sequence[ReadResult]) -> _Output:
        seen = [(read.entry, read.picture) for read in batch if read.picture is not None]
        if not seen:
            return _Output([], [])
        predictor = self._free.get()
        try:
            answers = predictor.answer([picture for _, picture in seen])
        finally:
            self._free.put(predictor)
        rows: list[tuple[object, ...]] = []
        drawings: list[Future[None]] = []
        for (entry, picture), answer in zip(seen, answers, strict=True):
            rows += predictor.rows(entry, picture, answer)
            if self._style is not None:
                drawings.append(self._drawing.submit(self._draw, self._style, entry, picture, answer))
        return _Output(rows, drawings)

    def _draw(self, style: HeatmapStyle, entry: Entry, picture: PreparedPhotograph, answer: Any) -> None:
        style.write(self._heatmaps, entry.image_id, picture.pixels[self._first.size], self._first.maps_of(answer))
