"""Networks that answer together, for photographs of any size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fundusnet.data.decode import Unreadable
from fundusnet.errors import UserError
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.networks import Network
from fundusnet.prediction.picture import Picture, Source, View, to_picture

Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Predictor(ABC, Generic[Answer, Result]):
    """Networks that answer together; each sees a photograph as its own training set was prepared.

    Attributes:
        networks: as they were opened.
        views: what each needs of a photograph.
        device: where they compute.
    """

    def __init__(self, networks: Sequence[Network], device: torch.device) -> None:
        self.networks = list(networks)
        self.views: list[View] = [network.view for network in networks]
        self.device = device
        for network in networks:
            network.module.to(device).eval()

    @overload
    def predict(self, images: Source, *, maps: bool = False, batch_size: int = 16) -> Result: ...  # type: ignore[overload-overlap]  # a str

    @overload
    def predict(self, images: Iterable[Source], *, maps: bool = False, batch_size: int = 16) -> list[Result]: ...

    def predict(self, images: Any, *, maps: bool = False, batch_size: int = 16) -> Any:
        """Predict one photograph, or each of several.

        Args:
            images: a photograph, or any iterable of them; each a uint8 RGB array ``(H, W, 3)`` of any size, a Pillow
                image or the path of a file. A path gives what ``fundusnet prepare`` would make of it.
            maps: whether results hold maps in the frame of the photograph, each ``(H, W)``.
            batch_size: photographs in one pass of the network.

        Returns:
            One result for one photograph, else a list in their order.

        Raises:
            UserError: a photograph cannot be read; says which.
        """
        single = isinstance(images, (str, Path, Image.Image)) or getattr(images, "ndim", 0) == 3
        results = list(self._results([images] if single else images, maps, batch_size))
        return results[0] if single else results

    def stream(self, images: Iterable[Source], *, maps: bool = False, batch_size: int = 16) -> Iterator[Result]:
        """As ``predict`` for several, one result after the other: memory holds a batch at a time."""
        return self._results(images, maps, batch_size)

    def answer(self, pictures: Sequence[Picture]) -> list[Answer]:
        """What the networks say of prepared ``pictures``, in one pass over each network."""
        with torch.inference_mode():
            return self._answers(pictures)

    def batch(self, pictures: Sequence[Picture], network: Network) -> Tensor:
        """uint8 ``(B, 3, S, S)`` on the device: a permuted view of HWC order, as in training."""
        pixels = np.stack([picture.pixels[network.view.size] for picture in pictures])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)

    @property
    def size(self) -> int:
        """Side in pixels of the pictures of the first network, in whose frame maps are drawn."""
        return self.views[0].size

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns of ``predictions.csv``."""

    @property
    @abstractmethod
    def rows_each(self) -> int:
        """Rows of ``predictions.csv`` a photograph."""

    @abstractmethod
    def rows(self, entry: Entry, picture: Picture, answer: Answer) -> list[tuple[object, ...]]:
        """Rows of ``predictions.csv`` for one photograph."""

    @abstractmethod
    def drawn(self, answer: Answer) -> dict[str, NDArray[np.float32]]:
        """Maps ``(h, w)`` to draw, by what tells their files apart."""

    @abstractmethod
    def described(self) -> dict[str, object]:
        """What ``prediction.yaml`` says of the answers."""

    @abstractmethod
    def _answers(self, pictures: Sequence[Picture]) -> list[Answer]: ...

    @abstractmethod
    def _result(self, answer: Answer, picture: Picture, maps: bool) -> Result: ...

    def _results(self, images: Iterable[Source], maps: bool, batch_size: int) -> Iterator[Result]:
        numbered = enumerate(images)
        while batch := list(islice(numbered, batch_size)):
            pictures = [self._picture(number, source) for number, source in batch]
            for answer, picture in zip(self.answer(pictures), pictures, strict=True):
                yield self._result(answer, picture, maps)

    def _picture(self, number: int, source: Source) -> Picture:
        try:
            return to_picture(source, self.views)
        except Unreadable as error:
            name = source if isinstance(source, (str, Path)) else f"photograph {number}"
            raise UserError(f"{name}: {error}") from error
