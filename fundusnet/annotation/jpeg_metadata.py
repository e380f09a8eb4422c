"""Strips a JPEG of everything but its picture: EXIF, comments, thumbnails, and data after its end."""

from __future__ import annotations

import re

# In compressed data, a marker is FF followed by anything but 00 (a stuffed FF), D0 to D7 (restarts) and FF (padding).
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START, _SCAN, _END, _JFIF, _ADOBE = 0xD8, 0xDA, 0xD9, 0xE0, 0xEE
# Segments needed for decoding: frames and Huffman tables, arithmetic conditioning, quantisation, restarts.
_PICTURE = {*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD}


def strip_metadata(data: bytes) -> bytes | None:
    """The same picture, bit for bit, without metadata.

    Args:
        data: Content of a JPEG file.

    Returns:
        Content of the stripped file; None if ``data`` has an unusual structure.
    """
    if data[:2] != bytes((0xFF, _START)):
        return None
    kept, place = [data[:2]], 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == _END:
            break
        length = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place : place + length]
        place += length
        if marker == _JFIF and segment[4:9] == b"JFIF\0" and length >= 18:
            # The last two bytes are the size of a thumbnail that follows.
            kept.append(segment[:2] + (16).to_bytes(2, "big") + segment[4:16] + b"\0\0")
        elif marker in _PICTURE or (marker == _ADOBE and segment[4:9] == b"Adobe"):
            kept.append(segment)
        elif marker == _SCAN:
            found = _MARKER.search(data, place)
            if found is None:
                return None
            kept += [segment, data[place : found.start()]]
            place = found.start()
        elif not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            return None
    if data[place : place + 2] != bytes((0xFF, _END)):
        return None
    return b"".join([*kept, data[place : place + 2]])
