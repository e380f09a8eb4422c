"""What is drawn of each photograph while it is predicted: heat maps, and the pictures of the page."""

from __future__ import annotations

from pathlib import Path

from fundusnet.data.decode import Unreadable, read_photograph
from fundusnet.data.regions import Point
from fundusnet.errors import UserError
from fundusnet.prediction.heatmaps import HEATMAPS, HeatmapStyle
from fundusnet.prediction.inputs import Entry
from fundusnet.prediction.map_geometry import Map
from fundusnet.prediction.page_pictures import LONGEST, PICTURES, PagePictures, shrunk
from fundusnet.prediction.preparation import PreparedPhotograph


class Drawing:
    """Draws photographs at their own size, for which it reads each file a second time.

    The networks get far smaller pictures, and whole photographs are too large to pass between processes.

    Args:
        folder: Output folder.
        root: Folder that the paths of photographs are relative to.
        heatmaps: How heat maps are drawn; None draws none.
        page: What is drawn for the page; None draws nothing.
    """

    def __init__(self, folder: Path, root: Path, heatmaps: HeatmapStyle | None, page: PagePictures | None) -> None:
        self._root = root
        self._heatmaps, self._page = heatmaps, page
        self._folders = folder / HEATMAPS, folder / PICTURES
        for place, wanted in zip(self._folders, (heatmaps, page), strict=True):
            if wanted is not None:
                place.mkdir(exist_ok=True)

    def __bool__(self) -> bool:
        return self._heatmaps is not None or self._page is not None

    def write(
        self,
        entry: Entry,
        picture: PreparedPhotograph,
        size: int,
        maps: dict[str, Map],
        points: tuple[Point, Point] | None,
    ) -> None:
        """Draw one photograph.

        Args:
            entry: The photograph.
            picture: It in the frame of the networks.
            size: Side in pixels of that frame.
            maps: Finding → map ``(h, w)`` in [0, 1]; "" for the mask of a network that grades.
            points: Disc and fovea in pixels of the upright photograph, for the lines of the regions; None = no lines.

        Raises:
            UserError: The file cannot be read again, or a picture cannot be written.
        """
        file = self._root / entry.path
        longest = max(picture.width, picture.height)
        drawn = [each.longest or longest for each in (self._heatmaps, self._page) if each is not None]
        needed = max(*drawn, LONGEST)
        reduction = next((power for power in (8, 4, 2) if longest // power >= needed), 1)
        try:
            pixels = read_photograph(file, reduction).pixels
        except Unreadable as error:
            raise UserError(f"{file} changed while it was predicted: {error}; run the same command again") from error
        if self._page is not None:
            self._page.write(self._folders[1], entry.image_id, pixels, picture, size, maps, points)
        if self._heatmaps is not None:
            pixels = shrunk(pixels, self._heatmaps.longest or longest)
            self._heatmaps.write(self._folders[0], entry.image_id, pixels, picture, size, maps)
