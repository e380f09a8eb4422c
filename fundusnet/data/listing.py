"""Finding photographs in folders: every file that can be decoded, and what was left out."""

from __future__ import annotations

import logging
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from fundusnet.data import dicom

log = logging.getLogger(__name__)

#: formats of Pillow that hold documents, drawings, icons, films or fields of numbers rather than a photograph
_OTHER = frozenset(
    ("BLP", "BUFR", "CUR", "EPS", "FITS", "FLI", "FTEX", "GBR", "GRIB", "HDF5", "ICNS", "ICO", "IPTC", "MPEG", "PDF",
     "WMF", "XBM", "XPM")
)  # fmt: skip
#: folders of systems, which hold thumbnails, deleted or older files; so do hidden ones and those that begin with "@"
_SYSTEM = frozenset(("__macosx", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"))


#: files that together mark a folder as one of ours: a prepared set, one under way, predictions, a run; a study, its
#: pictures of screen size (and any other cache), its export
_OWN = (
    {"prepared.yaml", "pixels.npy"},
    {"journal.jsonl", "rows.npy"},
    {"prediction.yaml"},
    {"config.yaml", "status.json"},
    {"study.sqlite"},
    {"CACHEDIR.TAG"},
    {"study.json", "images.csv"},
)
_LONGEST = 180  # bytes of an image id in a file name; file systems allow 255 for the whole name


@cache
def suffixes() -> frozenset[str]:
    """Suffixes of photographs, in lower case with a dot; those of DICOM are not among them."""
    Image.init()
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in _OTHER
    )


def kinds() -> str:
    """The suffixes of photographs and DICOM files, for messages."""
    return ", ".join(sorted(suffixes() | dicom.SUFFIXES))


def photographs(folder: Path, say: bool = False) -> list[Path]:
    """Photographs and DICOM files below ``folder`` by name.

    Links are followed, but no folder is read twice. Hidden files (such as ``._x.jpg`` of macOS), and the folders in
    which systems keep thumbnails and deleted files, are left out. Folders that cannot be read are logged.

    Args:
        folder: Where to look.
        say: Log what else was left out.
    """
    found: list[Path] = []
    left = Counter[str]()
    for file in files_below(folder, left):
        if file.suffix.lower() in suffixes() or (dicom.looks_like_dicom(file) and file.name.upper() != "DICOMDIR"):
            found.append(file)
        else:
            left[f"{file.suffix.lower() or 'no suffix'}"] += 1
    if say and left:
        what = ", ".join(f"{name} ({count})" for name, count in left.most_common(8))
        more = f" and {len(left) - 8} other kinds" if len(left) > 8 else ""
        log.info("left out in %s, not photographs: %s%s", folder, what, more)
    return sorted(found)


def relative_path(file: Path, folder: Path) -> str:
    """The path of ``file`` below ``folder`` as tables hold it.

    Bytes of a name that is not UTF-8 become ``\\xNN``. No file has this name, so such a photograph is rejected.
    """
    text, base = str(file), f"{folder}/"  # pathlib takes ten times as long, which counts for 100,000 files
    below = text[len(base) :] if text.startswith(base) else file.relative_to(folder).as_posix()
    return below if below.isascii() else os.fsencode(below).decode("utf-8", "backslashreplace")


def unique_ids(paths: Sequence[str]) -> list[str]:
    """An id for each path: its parts joined by ``_``, with a checksum of the path if two would have the same id."""
    plain = [_without_suffix(path).replace("/", "_").replace("\\", "_") for path in paths]
    count = Counter(plain)
    return [
        name if count[name] == 1 else f"{name}-{zlib.crc32(path.encode()):08x}"
        for name, path in zip(plain, paths, strict=True)
    ]


def file_name(image_id: str, *parts: str, suffix: str = "png") -> str:
    """The name of a picture file; an id too long for a file system is cut and made unique by a checksum.

    Examples:
        >>> file_name("eye_01", "drusen", "raw")
        'eye_01.drusen.raw.png'
    """
    data = image_id.encode()
    if len(data) > _LONGEST:
        image_id = f"{data[:_LONGEST].decode(errors='ignore')}-{zlib.crc32(data):08x}"
    return ".".join(filter(None, [image_id, *parts, suffix]))


def _without_suffix(path: str) -> str:
    dot = path.rfind(".", path.rfind("/") + 2)  # a name may begin with a dot, and end with one
    return path if dot in (-1, len(path) - 1) else path[:dot]


def files_below(folder: Path, left: Counter[str] | None = None) -> Iterator[Path]:
    """The files below ``folder``; hidden ones, and the folders of systems and of our own results, are left out.

    Linked folders come last, so that a file is found where it lies.

    Args:
        folder: Where to look.
        left: Counts the folders that are left out, by name.
    """
    waiting, linked, seen = [folder], list[Path](), set[str]()
    while waiting or linked:
        place = waiting.pop() if waiting else linked.pop(0)
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            log.warning("%s cannot be read and is left out: %s", place, error.strerror)
            continue
        names = {entry.name for entry in entries}
        if place != folder and any(marks <= names for marks in _OWN):
            if left is not None:
                left[f"{place.name}/ of fundusnet"] += 1
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if entry.name.startswith("@") or entry.name.lower() in _SYSTEM:
                    if left is not None:
                        left[f"{entry.name}/"] += 1
                else:
                    (linked if entry.is_symlink() else waiting).append(Path(entry.path))
            else:  # a link to a file that is gone is listed: reading it says so
                yield Path(entry.path)
