"""The pictures of the report page: each photograph in up to three sizes, and layers to lay over it.

They are written while photographs are predicted, when the pixels are at hand, and shown by ``report_page``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fundusnet.data.decode import Pixels
from fundusnet.data.listing import file_name
from fundusnet.data.regions import Arc, HalfLine, Outline, Point, Segment, outlines
from fundusnet.evaluation.overlays import palette
from fundusnet.prediction.heatmaps import write_bytes, write_picture
from fundusnet.prediction.map_geometry import Map, warp_to_photograph
from fundusnet.prediction.preparation import PreparedPhotograph

PICTURES = "report"
MASK = "mask"  # name of the layer of a network that grades
WHOLE = "whole"
REGIONS = "regions"  # name of the layer with the regions, disc and fovea
LONGEST = 1280  # pixels, of a photograph as it is opened; larger ones follow at their own size
SMALL = 256  # pixels, of a photograph among others
HEAT = 256  # pixels, of the colours of a map, which are smooth
LINE = 640  # pixels, of the picture in which the line around a level is found


@dataclass(frozen=True)
class PagePictures:
    """What is drawn for the page.

    Attributes:
        levels: Finding → operating point, around which a line is drawn.
        longest: Longest side in pixels of a photograph at its own size; None does not limit it.
    """

    levels: Mapping[str, float] = field(default_factory=dict)
    longest: int | None = None

    def write(
        self,
        folder: Path,
        image_id: str,
        pixels: Pixels,
        picture: PreparedPhotograph,
        size: int,
        maps: dict[str, Map],
        points: tuple[Point, Point] | None = None,
    ) -> None:
        """Write the photograph in two sizes or three, and a layer for each map and for the regions.

        Args:
            folder: Where the files go.
            image_id: Start of their names.
            pixels: The upright photograph, uint8 RGB ``(H, W, 3)``, perhaps reduced.
            picture: The photograph in the frame of the networks.
            size: Side in pixels of that frame.
            maps: Finding → map ``(h, w)`` in [0, 1]; "" for the mask of a network that grades.
            points: Disc and fovea in pixels of the upright photograph; None if unknown.

        Raises:
            UserError: A file cannot be written.
        """
        whole = shrunk(pixels, self.longest) if self.longest else pixels
        if max(whole.shape) > LONGEST:
            write_picture(folder / whole_name(image_id), whole[:, :, ::-1], 88)
        large = shrunk(pixels, LONGEST)
        write_picture(folder / photograph_name(image_id), large[:, :, ::-1], 85)
        write_picture(folder / small_name(image_id), shrunk(large, SMALL)[:, :, ::-1], 80)
        for name, cells in maps.items():
            layer = map_layer(cells, picture, size, self.levels.get(name))
            write_bytes(folder / layer_name(image_id, name or MASK), layer.encode())
        if points is not None:
            lines = regions_layer(picture.width, picture.height, *points)
            write_bytes(folder / layer_name(image_id, REGIONS), lines.encode())


def photograph_name(image_id: str) -> str:
    """The file of a photograph, up to ``LONGEST`` pixels."""
    return file_name(image_id, suffix="jpg")


def whole_name(image_id: str) -> str:
    """The file of a photograph at its own size, if that is larger than ``LONGEST`` pixels."""
    return file_name(image_id, WHOLE, suffix="jpg")


def small_name(image_id: str) -> str:
    """The file of a photograph among others, up to ``SMALL`` pixels."""
    return file_name(image_id, "small", suffix="jpg")


def layer_name(image_id: str, name: str) -> str:
    """The file of a layer: of a finding, ``MASK`` or ``REGIONS``."""
    return file_name(image_id, name, suffix="svg")


def shrunk(pixels: Pixels, longest: int) -> Pixels:
    """The picture with its longest side at most ``longest`` pixels."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def map_layer(cells: Map, picture: PreparedPhotograph, size: int, level: float | None) -> str:
    """An SVG in pixels of the photograph: the map in colours, transparent at 0, and the line around ``level``."""
    longest = max(picture.width, picture.height)
    small, fine = (
        warp_to_photograph(cells, picture, size, max(1, round(picture.width * min(1, side / longest))))
        for side in (HEAT, LINE)
    )
    place = f'width="{picture.width}" height="{picture.height}" preserveAspectRatio="none"'
    parts = [f'<image {place} href="{_png(small)}"/>']
    if level is not None and (path := _line_around(fine >= level, picture.width / fine.shape[1])):
        parts += [_line(path, "#111", 4.5), _line(path, "#fff", 2)]
    return _svg(picture.width, picture.height, parts)


def regions_layer(width: int, height: int, disc: Point, fovea: Point) -> str:
    """An SVG in pixels of the photograph: the lines between the regions, and the centres of disc and fovea."""
    far = 2 * (width + height)
    path = " ".join(_path(outline, far) for outline in outlines(disc, fovea))
    radius = max(width, height) / 160
    edge = f'r="{radius:.1f}" stroke="#111" stroke-width="{radius / 4:.1f}"'
    marks = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" fill="{color}" {edge}/>'
        for (x, y), color in ((disc, "#ffd24a"), (fovea, "#78dcff"))
    ]
    return _svg(width, height, [_line(path, "#111", 3.5), _line(path, "#78dcff", 1.5), *marks])


def _path(outline: Outline, far: float) -> str:
    if isinstance(outline, Arc):
        (x, y), r = outline.center, outline.radius
        start, stop = ((x + r * np.cos(angle), y + r * np.sin(angle)) for angle in (outline.start, outline.stop))
        large = int(outline.stop - outline.start > np.pi)
        return f"M{start[0]:.1f} {start[1]:.1f}A{r:.1f} {r:.1f} 0 {large} 1 {stop[0]:.1f} {stop[1]:.1f}"
    if isinstance(outline, Segment):
        start, stop = outline.start, outline.stop
    else:
        assert isinstance(outline, HalfLine)
        start = outline.start
        stop = (start[0] + far * outline.direction[0], start[1] + far * outline.direction[1])
    return f"M{start[0]:.1f} {start[1]:.1f}L{stop[0]:.1f} {stop[1]:.1f}"


def _line_around(inside: np.ndarray, scale: float) -> str:
    """The outlines of a mask, bool ``(H, W)``, as an SVG path of the picture ``scale`` times as large."""
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    paths = []
    for contour in contours:
        points = (cv2.approxPolyDP(contour, 0.7, True)[:, 0] + 0.5) * scale
        if len(points) > 2:
            paths.append("M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points) + "Z")
    return "".join(paths)


def _line(path: str, color: str, width: float) -> str:
    how = f'stroke="{color}" stroke-width="{width}" stroke-linejoin="round" vector-effect="non-scaling-stroke"'
    return f'<path d="{path}" fill="none" {how}/>'


def _svg(width: int, height: int, parts: list[str]) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'


def _png(heat: Map) -> str:
    """The colours of heat ``(H, W)`` as the data URI of a PNG with 256 colours and their opacity."""
    shades = palette()
    image = Image.fromarray(np.rint(heat.clip(0, 1) * 255).astype(np.uint8), mode="L")
    image.putpalette(shades[:, :3].tobytes())
    stream = BytesIO()
    image.save(stream, "PNG", transparency=shades[:, 3].tobytes())
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
