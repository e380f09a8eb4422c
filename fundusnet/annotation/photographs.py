"""Photographs as the page shows them: only files inside the study's folder, upright, and without EXIF."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fundusnet.annotation.initial_points import guess_eye
from fundusnet.data.crop import find_field
from fundusnet.data.decode import DAMAGED, Photograph, Unreadable, picture_size, read_photograph
from fundusnet.data.jpeg import strip_metadata
from fundusnet.data.regions import eye_of
from fundusnet.landmarks.points import Landmarks
from fundusnet.system.files import replacing, write_text

SCREEN_SIDE = 1600
"""Longest side in pixels of the picture that is sent until the reader zooms in."""
SCREEN_QUALITY, FULL_QUALITY = 88, 95
VERSION = 1  # increase it when the same file gives a different picture
_CACHED = 4096
AWAY = "file is missing at the moment, or the folder of photographs is away; trying again"
# Says to programs that make backups, and to our own search for photographs, that these are not originals.
_CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Pictures of screen size, which can be made again.\n"


@dataclass(frozen=True)
class Geometry:
    """Geometry of a decoded photograph.

    Attributes:
        width: Of the upright photograph, in pixels.
        height: Of the upright photograph, in pixels.
        field: Left, top, right, bottom of the field of view in those pixels.
        eye: "left" or "right", guessed from the optic disc; None if that is unclear.
        points: Disc x and y, fovea x and y that the localiser found, in those pixels; None unless it is sure of both.
    """

    width: int
    height: int
    field: tuple[float, float, float, float]
    eye: str | None
    points: tuple[float, float, float, float] | None = None


class PhotographAway(Unreadable):
    """The photograph is not there at the moment: its folder or drive is away, or the file was moved."""


class Photographs:
    """The photographs below one folder, by their paths in the manifest."""

    def __init__(self, root: Path, cache: Path, locate: Callable[[NDArray[np.uint8]], Landmarks] | None = None) -> None:
        """Serve files below ``root``, cache pictures of screen size in ``cache``, find disc and fovea by ``locate``."""
        self._locate = locate
        self.root = root.resolve()
        self._cache = cache
        if not (cache / "CACHEDIR.TAG").is_file():
            write_text(cache / "CACHEDIR.TAG", _CACHE_TAG)
        self._geometries: OrderedDict[str, Geometry] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def study_folder(self) -> Path:
        """The folder that the cache lies in."""
        return self._cache.parent

    def file(self, path: str) -> Path:
        """The file at ``path``, with links followed.

        Raises:
            PhotographAway: It is missing.
            Unreadable: It lies outside the root.
        """
        try:
            file = (self.root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise PhotographAway(AWAY) from error
        if not file.is_relative_to(self.root) or not file.is_file():
            raise Unreadable("file lies outside the folder of photographs")
        return file

    def content_key(self, path: str) -> str:
        """A cache key that changes with the file's content; raises ``Unreadable``."""
        status = self.file(path).stat()
        return hashlib.sha256(f"{VERSION}|{path}|{status.st_mtime_ns}|{status.st_size}".encode()).hexdigest()[:32]

    def look_up(self, path: str) -> tuple[str, bool]:
        """Content key, and whether ``geometry`` and ``screen`` are fast since it is cached; raises ``Unreadable``."""
        key = self.content_key(path)
        return key, self._cached(key) is not None

    def geometry(self, path: str) -> Geometry:
        """Size, field of view and guessed eye of a photograph; raises ``Unreadable``."""
        key = self.content_key(path)
        return self._cached(key) or self._read(path, key)[0]

    def screen(self, path: str) -> bytes:
        """The photograph as JPEG with sides of at most ``SCREEN_SIDE`` pixels; raises ``Unreadable``."""
        key = self.content_key(path)
        try:
            return (self._cache / f"{key}.jpg").read_bytes()
        except OSError:
            return self._read(path, key)[1]

    def full(self, path: str) -> bytes:
        """The photograph as JPEG at full size; raises ``Unreadable``.

        An upright JPEG keeps the camera's compression; any other file is compressed again.
        """
        file = self.file(path)
        try:
            return _upright_jpeg(file) or _encode(read_photograph(file).pixels, FULL_QUALITY)
        except Unreadable:
            self._check_present(file)
            raise

    def _cached(self, key: str) -> Geometry | None:
        with self._lock:
            if (geometry := self._geometries.get(key)) is not None:
                self._geometries.move_to_end(key)
                return geometry
        try:
            found = json.loads((self._cache / f"{key}.json").read_text(encoding="utf-8"))
            return self._cache_geometry(key, _read_geometry(found))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _cache_geometry(self, key: str, geometry: Geometry) -> Geometry:
        with self._lock:
            self._geometries[key] = geometry
            while len(self._geometries) > _CACHED:
                self._geometries.popitem(last=False)
        return geometry

    def _read(self, path: str, key: str) -> tuple[Geometry, bytes]:
        """Geometry and screen picture of a photograph, which are cached."""
        file = self.file(path)
        try:
            longest = max(picture_size(file))
            reduction = next((power for power in (8, 4, 2) if longest // power >= SCREEN_SIDE), 1)
            photograph = read_photograph(file, reduction)
            screen = _shrink(photograph.pixels, SCREEN_SIDE)
            geometry = self._cache_geometry(key, _geometry(photograph, screen, self._locate and self._locate(screen)))
            picture = _encode(screen, SCREEN_QUALITY)
        except Unreadable:
            self._check_present(file)
            raise
        with suppress(OSError):  # a full disk is no reason not to show the photograph
            # The geometry last: if its file exists, the picture does too.
            self._write(f"{key}.jpg", picture)
            self._write(f"{key}.json", json.dumps(asdict(geometry)).encode())
        return geometry, picture

    def _check_present(self, file: Path) -> None:
        """Tell a drive that fails from a damaged file: raises ``PhotographAway`` if nothing can be read."""
        try:
            with file.open("rb") as stream:
                stream.read(1)
        except OSError as error:
            raise PhotographAway(AWAY) from error

    def _write(self, name: str, content: bytes) -> None:
        with replacing(self._cache / name, partial=self._cache / f".{uuid4().hex}") as partial:
            partial.write_bytes(content)


def _upright_jpeg(file: Path) -> bytes | None:
    """The file without EXIF, if it is a JPEG that browsers show as ``read_photograph`` decodes it; else None."""
    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            usual = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
            if not usual or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                return None
    except DAMAGED:  # read_photograph will raise with the reason
        return None
    return strip_metadata(data)


def _read_geometry(found: dict[str, Any]) -> Geometry:
    points = found.get("points")
    field = tuple(found["field"])
    return Geometry(found["width"], found["height"], field, found["eye"], points and tuple(points))


def _geometry(photograph: Photograph, screen: NDArray[np.uint8], found: Landmarks | None) -> Geometry:
    left, top, right, bottom = find_field(screen)
    scale = photograph.width / screen.shape[1]
    field = (left * scale, top * scale, right * scale, bottom * scale)
    width, height = photograph.width, photograph.height
    if found is None or found.disc is None or found.fovea is None:
        return Geometry(width, height, field, guess_eye(screen))
    disc, fovea = (
        # Pixel centres lie half a pixel inside their edges in both pictures.
        (min(max((each.x + 0.5) * scale - 0.5, 0.0), width), min(max((each.y + 0.5) * scale - 0.5, 0.0), height))
        for each in (found.disc, found.fovea)
    )
    return Geometry(width, height, field, eye_of(disc, fovea), (*disc, *fovea))


def _shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _encode(pixels: NDArray[np.uint8], quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise Unreadable("JPEG allows at most 65535 pixels a side")
    return bytes(data)
