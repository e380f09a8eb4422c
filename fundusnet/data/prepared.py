"""A prepared set: photographs of one size in one memory-mapped file, with their tables and masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from fundusnet.data.decode import Mask, Pixels, Unreadable, read_mask
from fundusnet.data.manifest import ORIGIN_COLUMNS, Manifest, read_manifest
from fundusnet.errors import UserError
from fundusnet.system.shard import Shard


@dataclass(frozen=True)
class PreparedSet:
    """An opened prepared set.

    Attributes:
        folder: Its folder.
        manifest: Its tables; row n of ``images`` is row n of ``pixels``; points and masks in the prepared frame.
        pixels: uint8 RGB ``(N, S, S, 3)``, memory-mapped, read only.
        info: Contents of ``prepared.yaml``.
        duplicate_group: int ``(N,)``, photographs of one number are near-identical; -1 = unlike any other.
    """

    folder: Path
    manifest: Manifest
    pixels: Pixels
    info: dict[str, Any]
    duplicate_group: npt.NDArray[np.int64]
    _lesions: dict[tuple[str, str], str] = field(repr=False)

    @property
    def localised(self) -> npt.NDArray[np.bool_]:
        """Which of disc and fovea were found by a localiser rather than given, bool ``(N, 2)``."""
        images = self.manifest.images
        columns = [images.get(name, pd.Series("", index=images.index)) == "localised" for name in ORIGIN_COLUMNS]
        return np.stack([column.to_numpy(dtype=bool) for column in columns], axis=1)

    @property
    def scale(self) -> npt.NDArray[np.float64]:
        """Prepared pixels per original pixel ``(N,)``; NaN in a set that was made before this was recorded."""
        images = self.manifest.images
        return images["scale"].to_numpy(dtype=float) if "scale" in images else np.full(len(images), np.nan)

    @property
    def size(self) -> int:
        """Side S of the prepared frame in pixels."""
        return int(self.pixels.shape[1])

    def __len__(self) -> int:
        return len(self.pixels)

    def check_shard(self, shard: Shard | None) -> None:
        """Raise UserError unless this is the part ``shard``, or the complete set for None."""
        there = self.info.get("shard")
        if there == (shard and str(shard)):
            return
        if not there:
            raise UserError(f"{self.folder} is a complete prepared set and not its part {shard}; choose another folder")
        if shard:
            raise UserError(f"{self.folder} is part {there} and not part {shard}; choose another folder")
        raise UserError(
            f"{self.folder} is only part {there} of a prepared set; merge the parts with "
            "`fundusnet prepare merge=…` and use the complete set"
        )

    def lesion_mask(self, image_id: str, finding: str) -> Mask | None:
        """Lesion pixels in the prepared frame, bool ``(S, S)``; none if examined and absent; None if never examined."""
        path = self._lesions.get((image_id, finding))
        if path is None:
            return None
        if not path:
            return np.zeros((self.size, self.size), dtype=bool)
        try:
            mask = read_mask(self.manifest.root / path)
        except Unreadable as error:
            raise UserError(f"{self.manifest.root / path}: {error}; prepare the set again") from error
        return mask


def open_prepared(folder: Path | str) -> PreparedSet:
    """Open the prepared set in ``folder``.

    Raises:
        UserError: The folder is not a prepared set, unfinished, or damaged.
    """
    root = Path(folder)
    if not (root / "prepared.yaml").is_file():
        partial = root.with_name(root.name + ".partial").is_dir()
        state = (
            "was not finished: run the same prepare command again to resume it"
            if partial
            else ("is not a prepared set (no prepared.yaml): make one with `fundusnet prepare`")
        )
        raise UserError(f"{root} {state}")
    try:
        info = yaml.safe_load((root / "prepared.yaml").read_text(encoding="utf-8"))
        pixels = np.load(root / "pixels.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{root} is damaged ({error}): prepare it again") from error
    manifest = read_manifest(root / "manifest", tuple(info.get("classes", ())))
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or len(pixels) != len(manifest.images):
        raise UserError(
            f"{root} is damaged: pixels.npy is {pixels.dtype} {pixels.shape} for {len(manifest.images)} "
            "rows of images.csv; prepare it again"
        )
    groups = dict[str, int]()
    if (file := root / "duplicates.csv").is_file():
        table = pd.read_csv(file, dtype={"image_id": str, "group": int}, keep_default_na=False)
        groups = dict(zip(table["image_id"], table["group"], strict=True))
    group = np.array([groups.get(image_id, -1) for image_id in manifest.images["image_id"]], dtype=np.int64)
    rows = zip(manifest.lesions["image_id"], manifest.lesions["finding"], manifest.lesions["path"], strict=True)
    lesions = {(image_id, finding): path for image_id, finding, path in rows}
    return PreparedSet(root, manifest, pixels, info, group, lesions)
