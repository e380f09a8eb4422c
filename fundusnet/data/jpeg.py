"""The segments of a JPEG file: whether it is complete, and the file without its metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator

# In compressed data, a marker is FF followed by anything but 00 (a stuffed FF), D0 to D7 (restarts) and FF (padding).
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START, _SCAN, _END, _JFIF, _ADOBE = 0xD8, 0xDA, 0xD9, 0xE0, 0xEE
# Segments needed for decoding: frames and Huffman tables, scans, arithmetic conditioning, quantisation, restarts.
_PICTURE = {*range(0xC0, 0xD0), _SCAN, 0xDB, 0xDC, 0xDD}


def is_complete(data: bytes) -> bool:
    """Whether an end marker follows the first scan of a JPEG file; the thumbnail before it has one of its own."""
    first_scan = 2
    for marker, _, stop in _segments(data):
        if marker == _SCAN:
            break
        first_scan = stop
    return data.find(bytes((0xFF, _END)), first_scan) >= 0


def strip_metadata(data: bytes) -> bytes | None:
    """The same picture, bit for bit, without EXIF, comments, thumbnails and data after its end.

    Args:
        data: Content of a JPEG file.

    Returns:
        Content of the stripped file; None if ``data`` has an unusual structure.
    """
    if data[:2] != bytes((0xFF, _START)):
        return None
    kept = [data[:2]]
    for marker, start, stop in _segments(data):
        segment = data[start:stop]
        if marker == _END:
            return b"".join([*kept, segment])
        if marker == _JFIF and segment[4:9] == b"JFIF\0" and len(segment) >= 18:
            # The last two bytes are the size of a thumbnail that follows.
            kept.append(segment[:2] + (16).to_bytes(2, "big") + segment[4:16] + b"\0\0")
        elif marker in _PICTURE or (marker == _ADOBE and segment[4:9] == b"Adobe"):
            kept.append(segment)
        elif not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            return None
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and stop of each segment up to the end marker; a scan includes its compressed data.

    Stops early where ``data`` ends or no marker follows.
    """
    place = 2
    while place + 2 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _END:
            yield marker, place, place + 2
            return
        if marker == 0xFF:  # padding
            place += 1
            continue
        stop = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _SCAN:
            found = _MARKER.search(data, stop)
            stop = found.start() if found else len(data)
        yield marker, place, stop
        place = stop
