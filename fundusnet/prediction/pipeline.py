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

from fundusnet.data import dicom
from fundusnet.prediction.dicom_objects import DicomWriter
from fundusnet.prediction.drawing import Drawing
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.output_files import PREDICTIONS, REJECTED, REJECTED_COLUMNS, ResumableTable
from fundusnet.prediction.predictor import Predictor
from fundusnet.prediction.prefetch import ReadResult


@dataclass(frozen=True)
class _Output:
    """Table rows of one batch, and the drawing tasks of its pictures."""

    rows: list[tuple[object, ...]]
    drawings: list[Future[None]]


class Pipeline:
    """Batches in flight between the networks, the threads that draw and the tables.

    Rows are written in the order of the batches, and after their pictures, so that a row means that all is done.

    Args:
        folder: Output folder with ``predictions.csv``, ``rejected.csv`` and pictures; existing rows are kept.
        predictors: The same networks on different devices; each takes the next batch when it is free.
        drawing: What is drawn of each photograph.
        threads: Threads that draw.
        objects: Writes objects of the study of each DICOM photograph; None writes none.

    Attributes:
        written: Photographs whose rows this object has written.
    """

    def __init__(
        self,
        folder: Path,
        predictors: Sequence[Predictor[Any, Any]],
        drawing: Drawing,
        threads: int,
        objects: DicomWriter | None = None,
    ) -> None:
        self._first, self._draws, self._objects = predictors[0], drawing, objects
        self._free: SimpleQueue[Predictor[Any, Any]] = SimpleQueue()
        for predictor in predictors:
            self._free.put(predictor)
        self._limit = len(predictors) + 2  # one in each network, one waiting for it, one being written
        self._batches: deque[tuple[Sequence[ReadResult], Future[_Output]]] = deque()
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
            if self._draws:
                size, maps, points = self._first.size, self._first.maps_of(answer), self._first.points_of(answer)
                drawings.append(self._drawing.submit(self._draws.write, entry, picture, size, maps, points))
            if self._objects is not None and dicom.looks_like_dicom(self._objects.root / entry.path):
                statements = self._first.statements(answer, picture)
                drawings.append(self._drawing.submit(self._objects.write, entry, statements))
        return _Output(rows, drawings)
