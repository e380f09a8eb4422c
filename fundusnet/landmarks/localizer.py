"""Disc and fovea of any photograph, by the trained localiser in this package or one of the user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from fundusnet.data.crop import crop_square, find_field
from fundusnet.data.decode import Photograph, Pixels, Unreadable
from fundusnet.errors import UserError
from fundusnet.landmarks.module import LandmarkModule
from fundusnet.landmarks.points import LANDMARKS, SHIPPED, Landmarks, Point
from fundusnet.networks.fusing import fuse, fused
from fundusnet.runs.checkpoints import KEY, best_checkpoint, load_checkpoint, load_module
from fundusnet.system.files import write_json


class Localizer:
    """Finds the centres of optic disc and fovea.

    Args:
        module: The trained network.
        thresholds: The confidence from which on disc and fovea are sure, 0 to 1.
        device: Where it computes.
    """

    def __init__(
        self, module: LandmarkModule, thresholds: Mapping[str, float], device: torch.device | str = "cpu"
    ) -> None:
        self.module = module.to(device).eval()
        self.thresholds = [float(thresholds[name]) for name in LANDMARKS]
        self.size = module.size
        self.device = torch.device(device)

    @classmethod
    def from_run(cls, place: Path | str, device: torch.device | str = "cpu") -> Localizer:
        """The localiser of a run folder, a checkpoint, or exported weights.

        Raises:
            UserError: There is none, or it is unfinished or damaged.
        """
        localizer = cls._load(place, device)
        noise = torch.Generator().manual_seed(0)  # of its own: the caller's random numbers stay as they are
        picture = torch.rand(1, 3, localizer.size, localizer.size, generator=noise).to(localizer.device)
        localizer.module.network = fused(localizer.module.network, lambda network: network(picture))
        return localizer

    @classmethod
    def _load(cls, place: Path | str, device: torch.device | str) -> Localizer:
        file = best_checkpoint(Path(place))
        content = load_checkpoint(file)
        stored = content.get(KEY) or {}
        if stored.get("task") != "landmarks":
            raise UserError(f"{file} is not a localiser of disc and fovea; train one with experiment=landmarks")
        return cls(load_module(file, LandmarkModule, content), stored["thresholds"], device)

    def __call__(self, image: Pixels) -> Landmarks:
        """Locate both points in a photograph.

        Args:
            image: uint8 RGB ``(H, W, 3)`` of any size, with or without a black border.

        Returns:
            Points in pixels of ``image``; None for one that is not in it, or of which the network is not sure. Both are
            None of a black picture.
        """
        photograph = Photograph(np.ascontiguousarray(image), image.shape[1], image.shape[0], 1)
        try:
            pixels, frame = crop_square(photograph, find_field(photograph.pixels), self.size)
        except Unreadable:
            return Landmarks(None, None)
        return Landmarks(
            *(point and Point(*frame.original(point.x, point.y), point.confidence) for point in self._locate(pixels))
        )

    def in_prepared(self, pixels: Pixels) -> Landmarks:
        """Locate both points in a prepared picture, uint8 RGB ``(S, S, 3)``, in its pixels."""
        side = pixels.shape[0]
        way = cv2.INTER_AREA if side >= self.size else cv2.INTER_LINEAR
        resized = np.asarray(cv2.resize(pixels, (self.size, self.size), interpolation=way), dtype=np.uint8)
        scale = side / self.size
        return Landmarks(
            *(
                point and Point((point.x + 0.5) * scale - 0.5, (point.y + 0.5) * scale - 0.5, point.confidence)
                for point in self._locate(resized)
            )
        )

    @torch.inference_mode()
    def _locate(self, pixels: Pixels) -> tuple[Point | None, Point | None]:
        """Disc and fovea in a picture of the network's size, None where it is not sure."""
        picture = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None]
        points, confidence = (values[0].cpu().tolist() for values in self.module(picture))
        disc, fovea = (
            Point(x, y, sure) if sure >= threshold else None
            for (x, y), sure, threshold in zip(points, confidence, self.thresholds, strict=True)
        )
        return disc, fovea


def write_weights(run: Path, file: Path) -> None:
    """Write the localiser of a run as ``SHIPPED`` is: half-precision weights, the rest in JSON beside them."""
    content = load_checkpoint(best_checkpoint(run))
    halved = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in content["state_dict"].items()
        if name.startswith("network.")
    }
    save_file(halved, file)
    file.chmod(0o644)  # which the library makes private
    write_json(file.with_suffix(".json"), {"hyper_parameters": content["hyper_parameters"], KEY: content[KEY]})


@lru_cache(maxsize=4)
def shipped(device: str = "cpu") -> Localizer:
    """The localiser that comes with the package, loaded once for each device."""
    localizer = Localizer._load(SHIPPED, device)
    fuse(localizer.module.network)  # known to fit, so that nothing has to be tried
    return localizer


def locate_in_prepared(pixels: Pixels) -> tuple[float, float, float, float]:
    """Disc x and y, fovea x and y in a prepared picture; NaN where the shipped localiser is not sure."""
    found = shipped().in_prepared(pixels)
    unknown = Point(math.nan, math.nan, 0.0)
    disc, fovea = found.disc or unknown, found.fovea or unknown
    return disc.x, disc.y, fovea.x, fovea.y
