"""Networks that predict together, for photographs of any size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fundusnet.data.decode import Unreadable
from fundusnet.data.regions import Point
from fundusnet.errors import UserError
from fundusnet.networks.fusing import fused
from fundusnet.prediction.dicom_objects import Statement
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.map_geometry import Map
from fundusnet.prediction.preparation import InputSpec, PhotographSource, PreparedPhotograph, prepare_photograph
from fundusnet.prediction.trained_network import TrainedNetwork

PredictionPrecision = Literal["32-true", "bf16-mixed"]
#: attributes of a module that are networks
NETWORKS = ("network", "stage1")
# Side of the picture on which a fused network is compared; a whole one would take as long as predicting two.
TRIED = 128
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Predictor(ABC, Generic[Answer, Result]):
    """Networks that predict together; each sees a photograph prepared as its own training set was.

    Attributes:
        networks: The opened checkpoints.
        specs: What each network expects of a photograph.
        device: Where they compute.
        precision: In which precision.
    """

    def __init__(
        self, networks: Sequence[TrainedNetwork], device: torch.device, precision: PredictionPrecision = "32-true"
    ) -> None:
        self.networks = list(networks)
        self.specs: list[InputSpec] = [network.spec for network in networks]
        self.device = device
        self.precision = precision
        for network in networks:
            network.module.to(device).eval()
            self._fuse(network)

    @overload
    def predict(self, images: PhotographSource, *, maps: bool = False, batch_size: int = 16) -> Result: ...  # type: ignore[overload-overlap]  # a str

    @overload
    def predict(
        self, images: Iterable[PhotographSource], *, maps: bool = False, batch_size: int = 16
    ) -> list[Result]: ...

    def predict(self, images: Any, *, maps: bool = False, batch_size: int = 16) -> Any:
        """Predict one photograph, or each of several.

        Args:
            images: A photograph, or any iterable of them; each a uint8 RGB array ``(H, W, 3)`` of any size, a Pillow
                image or the path of a file. A path is prepared exactly as ``fundusnet prepare`` would.
            maps: Whether results hold maps in the frame of the photograph, each ``(H, W)``.
            batch_size: Photographs in one pass of the network.

        Returns:
            One result for one photograph, else a list in their order.

        Raises:
            UserError: A photograph cannot be read; the message says which.
        """
        single = isinstance(images, (str, Path, Image.Image)) or getattr(images, "ndim", 0) == 3
        results = list(self.stream([images] if single else images, maps=maps, batch_size=batch_size))
        return results[0] if single else results

    def stream(
        self, images: Iterable[PhotographSource], *, maps: bool = False, batch_size: int = 16
    ) -> Iterator[Result]:
        """Predict several photographs and yield one result at a time, with one batch in memory.

        Args:
            images: As for ``predict``.
            maps: As for ``predict``.
            batch_size: As for ``predict``.

        Raises:
            UserError: A photograph cannot be read.
        """
        numbered = enumerate(images)
        while batch := list(islice(numbered, batch_size)):
            pictures = [self._prepare(number, source) for number, source in batch]
            for answer, picture in zip(self.answer(pictures), pictures, strict=True):
                yield self._result(answer, picture, maps)

    def answer(self, pictures: Sequence[PreparedPhotograph]) -> list[Answer]:
        """What the networks predict for prepared ``pictures``, in one pass through each network."""
        with torch.inference_mode():
            return self._answers(pictures)

    def result_of(self, picture: PreparedPhotograph, *, maps: bool = False) -> Result:
        """The result for one prepared picture; ``maps`` as for ``predict``."""
        (answer,) = self.answer([picture])
        return self._result(answer, picture, maps)

    def autocast(self) -> torch.autocast:
        """The context in which networks are called."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def batch(self, pictures: Sequence[PreparedPhotograph], network: TrainedNetwork) -> Tensor:
        """The input of ``network``: uint8 ``(B, 3, S, S)`` on the device, in channels-last order as in training."""
        pixels = np.stack([picture.pixels[network.spec.size] for picture in pictures])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)

    @property
    def size(self) -> int:
        """Side in pixels of the first network's input, the frame in which heat maps are drawn."""
        return self.specs[0].size

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``predictions.csv``."""
        return ("image_id", "path", "patient_id", "eye", *self._answer_columns, "flags")

    def rows(self, entry: Entry, picture: PreparedPhotograph, answer: Answer) -> list[tuple[object, ...]]:
        """Rows of ``predictions.csv`` for one photograph."""
        about, flags = (entry.image_id, entry.path, entry.patient_id, entry.eye), ";".join(picture.flags)
        return [(*about, *cells, flags) for cells in self._answer_rows(answer)]

    @property
    @abstractmethod
    def rows_per_photograph(self) -> int:
        """Rows of ``predictions.csv`` for each photograph."""

    @abstractmethod
    def maps_of(self, answer: Answer) -> dict[str, Map]:
        """Maps ``(h, w)`` to draw; the keys become part of the file names."""

    @property
    def levels(self) -> dict[str, float]:
        """Activation that counts in a map: the operating point of each finding; empty for masks."""
        return {}

    def points_of(self, answer: Answer) -> tuple[Point, Point] | None:
        """Disc and fovea in pixels of the upright photograph; None if unknown."""
        return None

    @abstractmethod
    def statements(self, answer: Answer, picture: PreparedPhotograph) -> list[Statement]:
        """What an answer says of a photograph, for objects of its study."""

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """Entries of ``prediction.yaml`` about the findings or grades."""

    @property
    @abstractmethod
    def _answer_columns(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _answer_rows(self, answer: Answer) -> list[tuple[object, ...]]: ...

    @abstractmethod
    def _answers(self, pictures: Sequence[PreparedPhotograph]) -> list[Answer]: ...

    @abstractmethod
    def _result(self, answer: Answer, picture: PreparedPhotograph, maps: bool) -> Result: ...

    def _fuse(self, network: TrainedNetwork) -> None:
        side = min(network.spec.size, TRIED)
        noise = torch.Generator().manual_seed(0)  # of its own: the caller's random numbers stay as they are
        picture = torch.rand(1, 3, side, side, generator=noise).to(self.device)
        for name, part in network.module.named_children():
            if name in NETWORKS:
                setattr(network.module, name, fused(part, lambda one: one(picture)))

    def _prepare(self, number: int, source: PhotographSource) -> PreparedPhotograph:
        try:
            return prepare_photograph(source, self.specs)
        except Unreadable as error:
            name = source if isinstance(source, (str, Path)) else f"photograph {number}"
            raise UserError(f"{name}: {error}") from error


def check_finite(probability: NDArray[Any], network: TrainedNetwork) -> None:
    """Refuse NaN and infinite probabilities.

    Raises:
        UserError: Names the checkpoint.
    """
    if not np.isfinite(probability).all():
        raise UserError(
            f"{network.file} predicts NaN or infinite values: its training diverged; give another checkpoint"
        )


def none_if_nan(value: float) -> float | None:
    """``value``, or None for NaN."""
    return None if np.isnan(value) else float(value)
