"""Photographs as the page shows them: found inside the study's folder only, upright, and without their EXIF."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fundusnet.annotation.initial_points import guess_eye
from fundusnet.annotation.jpeg_metadata import bare
from fundusnet.data.crop import find_field
from fundusnet.data.decode import DAMAGED, Photograph, Unreadable, picture_size, read_photograph

SCREEN_SIDE = 1600
"""Longest side in pixels of what is sent before anybody zooms in."""
SCREEN_QUALITY, FULL_QUALITY = 88, 95
VERSION = 1  # raise it when the same file gives other pictures
_REMEMBERED = 4096


@dataclass(frozen=True)
class View:
    """What is known of a photograph once it was decoded.

    Attributes:
        width, height: pixels of the file's picture, upright.
        field: left, top, right, bottom of the lit area in those pixels.
        eye: side guessed from where the disc shines; None where that is not plain.
    """

    width: int
    height: int
    field: tuple[float, float, float, float]
    eye: str | None


class Photographs:
    """The photographs below one folder, by their paths in the manifest."""

    def __init__(self, root: Path, cache: Path) -> None:
        """Serve files below ``root`` and keep pictures of screen size in ``cache``."""
        self._root = root.resolve()
        self._cache = cache
        self._views: OrderedDict[str, View] = OrderedDict()
        self._lock = threading.Lock()

    def file(self, path: str) -> Path:
        """The file that ``path`` names, links followed; raises ``Unreadable`` where none lies inside the root."""
        try:
            file = (self._root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise Unreadable("file is missing") from error
        if not file.is_relative_to(self._root) or not file.is_file():
            raise Unreadable("file lies outside the folder of photographs")
        return file

    def mark(self, path: str) -> str:
        """A name of the file's present content, for caches; raises ``Unreadable``."""
        status = self.file(path).stat()
        return hashlib.sha256(f"{VERSION}|{path}|{status.st_mtime_ns}|{status.st_size}".encode()).hexdigest()[:32]

    def known(self, path: str) -> bool:
        """Whether it was decoded before, so that ``view`` and ``screen`` are quick; raises ``Unreadable``."""
        return self._remembered(self.mark(path)) is not None

    def view(self, path: str) -> View:
        """Size, field and guessed eye of a photograph; raises ``Unreadable``."""
        mark = self.mark(path)
        return self._remembered(mark) or self._remember(mark, self._develop(path, mark))

    def screen(self, path: str) -> bytes:
        """JPEG of at most ``SCREEN_SIDE`` pixels a side; raises ``Unreadable``."""
        mark = self.mark(path)
        file = self._cache / f"{mark}.jpg"
        if not file.is_file():
            self._remember(mark, self._develop(path, mark))
        return file.read_bytes()

    def full(self, path: str) -> bytes:
        """The photograph at its own size, as JPEG; raises ``Unreadable``.

        A JPEG that stands upright is sent as it was compressed by the camera, any other one compressed anew.
        """
        file = self.file(path)
        return _upright_jpeg(file) or _encode(read_photograph(file).pixels, FULL_QUALITY)

    def _remembered(self, mark: str) -> View | None:
        with self._lock:
            if (view := self._views.get(mark)) is not None:
                self._views.move_to_end(mark)
                return view
        try:
            found = json.loads((self._cache / f"{mark}.json").read_text(encoding="utf-8"))
            return self._remember(mark, View(found["width"], found["height"], tuple(found["field"]), found["eye"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, mark: str, view: View) -> View:
        with self._lock:
            self._views[mark] = view
            while len(self._views) > _REMEMBERED:
                self._views.popitem(last=False)
        return view

    def _develop(self, path: str, mark: str) -> View:
        file = self.file(path)
        longest = max(picture_size(file))
        reduction = next((power for power in (8, 4, 2) if longest // power >= SCREEN_SIDE), 1)
        photograph = read_photograph(file, reduction)
        screen = _shrink(photograph.pixels, SCREEN_SIDE)
        view = _view(photograph, screen)
        self._cache.mkdir(parents=True, exist_ok=True)
        # The description last: where it lies, the picture does too.
        self._write(f"{mark}.jpg", _encode(screen, SCREEN_QUALITY))
        self._write(f"{mark}.json", json.dumps(asdict(view)).encode())
        return view

    def _write(self, name: str, content: bytes) -> None:
        temporary = self._cache / f".{uuid4().hex}"
        temporary.write_bytes(content)
        temporary.replace(self._cache / name)


def _upright_jpeg(file: Path) -> bytes | None:
    """The file without its EXIF, if it is a JPEG that every browser shows as ``read_photograph`` reads it."""
    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            usual = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
            if not usual or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                return None
    except DAMAGED:  # read_photograph says how
        return None
    return bare(data)


def _view(photograph: Photograph, screen: NDArray[np.uint8]) -> View:
    left, top, right, bottom = find_field(screen)
    scale = photograph.width / screen.shape[1]
    field = (left * scale, top * scale, right * scale, bottom * scale)
    return View(photograph.width, photograph.height, field, guess_eye(screen))


def _shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _encode(pixels: NDArray[np.uint8], quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise Unreadable("picture cannot be sent: JPEG holds at most 65535 pixels a side")
    return bytes(data)
