"""The round field of view on its black background, and the two frames of a photograph (S1.5).

Points are pixels ``(x, y)``, x to the right and y down; the pixel in row i and column j has its centre at (j, i). The
*original frame* is the photograph of the file at full size, turned upright by its EXIF orientation: points and masks of
a source are in it. The *prepared frame* is the square of S pixels that the field of view is cropped and resized to:
points, masks and cues of a prepared set are in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fundusnet.data.decode import Mask, Photograph, Pixels, Unreadable

Box = tuple[int, int, int, int]

# Side at which the field is searched for: fine enough for the usual prepared size, and fast.
_SEARCH = 512
# A pixel belongs to the field when it is brighter than this share of the picture's bright end.
_RELATIVE = 0.10
# A photograph whose bright end is below this grey level is black.
_BLACK = 12.0


@dataclass(frozen=True)
class Frame:
    """The affine map from the original to the prepared frame: ``x' = scale x + dx``, ``y' = scale y + dy``.

    Attributes:
        scale: Prepared pixels per original pixel.
        dx, dy: Shift in prepared pixels.
    """

    scale: float
    dx: float
    dy: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the original frame in the prepared frame; NaN stays NaN."""
        return self.scale * x + self.dx, self.scale * y + self.dy

    def original(self, x: float, y: float) -> tuple[float, float]:
        """A point of the prepared frame in the original frame."""
        return (x - self.dx) / self.scale, (y - self.dy) / self.scale

    def mask(self, mask: Mask, size: int) -> Mask:
        """A lesion mask ``(H, W)`` of the original frame in the prepared frame, bool ``(size, size)``.

        A prepared pixel is set when any original lesion pixel falls in it, so that no lesion inside the field is lost.
        """
        if self.scale > 1:
            matrix = np.array([[self.scale, 0, self.dx], [0, self.scale, self.dy]])
            larger = cv2.warpAffine(mask.astype(np.uint8), matrix, (size, size), flags=cv2.INTER_NEAREST)
            return np.asarray(larger, dtype=bool)
        rows, columns = np.nonzero(mask)
        x = np.floor(self.scale * columns + self.dx + 0.5).astype(int)
        y = np.floor(self.scale * rows + self.dy + 0.5).astype(int)
        inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        moved = np.zeros((size, size), dtype=bool)
        moved[y[inside], x[inside]] = True
        return moved


def find_field(pixels: Pixels) -> Box:
    """The field of view in ``pixels`` as the first that ``find_fields`` returns; raises ``Unreadable`` as it does."""
    return find_fields(pixels)[0]


def find_fields(pixels: Pixels) -> list[Box]:
    """Bounding boxes ``(left, top, right, bottom)`` in ``pixels`` (RGB ``(H, W, 3)``), right and bottom exclusive: of
    the field of view, and of other parts at least half as large, such as the other eye.

    The field is the largest connected part brighter than a share of the picture's own bright end, so labels burnt into
    the border, hot pixels and compression noise do not widen it.

    Raises:
        Unreadable: The picture is black.
    """
    height, width = pixels.shape[:2]
    shrink = min(1.0, _SEARCH / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    # The brightest channel: a fundus is red, and its dim border is nearly black in grey.
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    bright = brightest_channel(small)
    bright = np.asarray(cv2.medianBlur(bright, 5), dtype=np.uint8) if min(size) >= 5 else bright
    top_end = float(np.percentile(bright, 99))
    if top_end < _BLACK:
        raise Unreadable("picture is black: no field of view in it")
    lit = (bright > _RELATIVE * top_end).astype(np.uint8)
    count, _, boxes, _ = cv2.connectedComponentsWithStats(lit)
    if count < 2:
        raise Unreadable("no field of view found")
    areas = boxes[1:, cv2.CC_STAT_AREA]
    order = [int(part) for part in np.argsort(-areas, kind="stable") if areas[part] >= areas.max() / 2]
    across, down = width / size[0], height / size[1]

    def box(part: int) -> Box:
        left, top, wide, high, _ = (int(value) for value in boxes[1 + part])
        right, bottom = int(np.ceil((left + wide) * across)), int(np.ceil((top + high) * down))
        return int(left * across), int(top * down), min(width, right), min(height, bottom)

    return [box(part) for part in order]


def brightest_channel(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """The largest of the three channels of RGB ``(H, W, 3)``, uint8 ``(H, W)``."""
    # Not pixels.max(axis=2), which takes twelve times as long over an axis this short.
    brightest: npt.NDArray[np.uint8] = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return brightest


def crop_square(photograph: Photograph, box: Box, size: int) -> tuple[Pixels, Frame]:
    """The field ``box`` (decoded pixels), padded with black to a square and resized to uint8 ``(size, size, 3)``."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    pad_x, pad_y = (side - (right - left)) // 2, (side - (bottom - top)) // 2
    square: npt.NDArray[np.uint8] = np.zeros((side, side, 3), dtype=np.uint8)
    square[pad_y : pad_y + bottom - top, pad_x : pad_x + right - left] = photograph.pixels[top:bottom, left:right]
    way = cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(square, (size, size), interpolation=way), dtype=np.uint8)
    # Pixel centres lie half a pixel inside their edges in the original, decoded and prepared pictures alike.
    scale = size / (side * photograph.reduction)
    dx = 0.5 * scale - (left - pad_x) * size / side - 0.5
    dy = 0.5 * scale - (top - pad_y) * size / side - 0.5
    return resized, Frame(scale, dx, dy)
