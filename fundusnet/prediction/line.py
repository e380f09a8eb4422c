"""The way of a batch: through a network, to the painters of heat maps, into the tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from fundusnet.prediction.heatmaps import FOLDER, HeatMaps
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.picture import Picture
from fundusnet.prediction.predictor import Predictor
from fundusnet.prediction.reading import Read
from fundusnet.prediction.tables import PREDICTIONS, REJECTED, REJECTED_COLUMNS, GrowingTable


@dataclass(frozen=True)
class _Answered:
    rows: list[tuple[object, ...]]
    drawing: list[Future[None]]


class Line:
    """Batches that networks, painters and tables work on at the same time; rows come in the order of the batches.

    The networks find the next batch waiting, whatever tables and painters do meanwhile. Rows are written when their
    heat maps are there.

    Args:
        folder: where ``predictions.csv``, ``rejected.csv`` and heat maps are; what stands there stays.
        predictors: the same networks on different devices, each of which takes the next batch when it is free.
        style: how heat maps are drawn; None = not at all.
        painters: threads that draw.

    Attributes:
        written: photographs that it has put into the tables.
    """

    def __init__(
        self, folder: Path, predictors: Sequence[Predictor[Any, Any]], style: HeatMaps | None, painters: int
    ) -> None:
        self._first, self._style, self._heatmaps = predictors[0], style, folder / FOLDER
        self._free: SimpleQueue[Predictor[Any, Any]] = SimpleQueue()
        for predictor in predictors:
            self._free.put(predictor)
        self._most = len(predictors) + 2  # one in each network, one before it and one behind it
        self._batches: deque[tuple[Sequence[Read], Future[_Answered]]] = deque()
        if style is not None:
            self._heatmaps.mkdir(exist_ok=True)
        columns, rows_each = self._first.columns, self._first.rows_each
        with ExitStack() as stack:
            table = GrowingTable(folder / PREDICTIONS, columns, "image_id", rows_each)
            self._predictions = stack.enter_context(table)
            self._rejected = stack.enter_context(GrowingTable(folder / REJECTED, REJECTED_COLUMNS, "path"))
            self._painters = stack.enter_context(ThreadPoolExecutor(painters))
            self._networks = stack.enter_context(ThreadPoolExecutor(len(predictors)))
            self._open = stack.pop_all()
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *cause: object) -> None:
        for _, answered in self._batches:
            answered.cancel()
        self._open.close()

    def tells_of(self, entry: Entry) -> bool:
        """Whether a row of it stood in a table before."""
        return entry.image_id in self._predictions.done or entry.path in self._rejected.done

    def take(self, batch: Sequence[Read]) -> None:
        """Put a batch on the line; waits while it is full. Raises UserError where a network or a file fails."""
        self._batches.append((batch, self._networks.submit(self._answer, batch)))
        while len(self._batches) > self._most:
            self._write()

    def finish(self) -> None:
        """Wait until every batch is in the tables; raises as ``take``."""
        while self._batches:
            self._write()

    def _write(self) -> None:
        batch, waited_for = self._batches.popleft()
        answered = waited_for.result()
        for drawn in answered.drawing:
            drawn.result()
        self._rejected.add([(read.entry.path, read.reason) for read in batch if read.picture is None])
        self._predictions.add(answered.rows)
        self.written += len(batch)

    def _answer(self, batch: Sequence[Read]) -> _Answered:
        seen = [(read.entry, read.picture) for read in batch if read.picture is not None]
        if not seen:
            return _Answered([], [])
        predictor = self._free.get()
        try:
            answers = predictor.answer([picture for _, picture in seen])
        finally:
            self._free.put(predictor)
        rows: list[tuple[object, ...]] = []
        drawing: list[Future[None]] = []
        for (entry, picture), answer in zip(seen, answers, strict=True):
            rows += predictor.rows(entry, picture, answer)
            if self._style is not None:
                drawing.append(self._painters.submit(self._draw, self._style, entry, picture, answer))
        return _Answered(rows, drawing)

    def _draw(self, style: HeatMaps, entry: Entry, picture: Picture, answer: Any) -> None:
        style.write(self._heatmaps, entry.image_id, picture.pixels[self._first.size], self._first.drawn(answer))
