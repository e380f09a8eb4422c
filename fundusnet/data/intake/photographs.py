"""Which photograph a cell of a table means."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from fundusnet.data import dicom
from fundusnet.data.listing import photographs, suffixes

_MANGLED = re.compile(r"\d[.,]\d+e\+?\d+", re.IGNORECASE)


class Photographs:
    """The photographs below a folder, found by what tables call them.

    A cell may be a path of another machine, in either convention and any case of letters; the suffix may be missing or
    another one; a number may have lost its leading zeros, or gained ".0", in a spreadsheet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = photographs(folder)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_number: dict[str, list[Path]] = defaultdict(list)
        for file in self.files:
            for name in {file.name.lower(), _stem(file.name.lower())}:
                self._by_name[name].append(file)
            if _stem(file.name).isdecimal():
                self._by_number[_stem(file.name).lstrip("0")].append(file)

    def candidates(self, cell: str) -> list[Path]:
        """The photographs that a cell may mean: of those with its name, the ones that share most of its folders."""
        parts = [
            part for part in cell.strip().strip("\"'").replace("\\", "/").lower().split("/") if part not in ("", ".")
        ]
        if not parts:
            return []
        name = parts[-1]
        found = self._by_name.get(name) or self._by_name.get(_stem(name)) or []
        if not found and (number := re.fullmatch(r"#?(\d+)(?:[.,]0+)?", _stem(name))):
            found = self._by_number.get(number[1].lstrip("0"), [])
        if len(found) < 2:
            return found
        shared = {file: _shared(parts[:-1], file.parent) for file in found}
        most = max(shared.values())
        return [file for file in found if shared[file] == most]

    def match(self, cells: Sequence[str]) -> list[Path | None]:
        """The photograph of each cell, None where there is none or where two are as likely.

        Of several with one name the one counts whose folder has most of the photographs: masks often have the names of
        their photographs.
        """
        found = [self.candidates(cell) for cell in cells]
        votes = Counter(folder for files in found for folder in {file.parent for file in files})
        chosen: list[Path | None] = []
        for files in found:
            best = max((votes[file.parent] for file in files), default=0)
            likely = [file for file in files if votes[file.parent] == best]
            chosen.append(likely[0] if len(likely) == 1 else None)
        return chosen


def is_mangled(cell: str) -> bool:
    """Whether a spreadsheet shortened a long number: 2.01704E+16."""
    return bool(_MANGLED.fullmatch(cell.strip()))


def _stem(name: str) -> str:
    """A file name without the suffix of a photograph; other ends, such as that of ``IM.0012``, stay."""
    suffix = Path(name).suffix.lower()
    return name[: -len(suffix)] if suffix and (suffix in suffixes() or suffix in dicom.SUFFIXES) else name


def _shared(folders: Sequence[str], place: Path) -> int:
    """How many folders, from the innermost, a path of a table and one on disk have in common."""
    count = 0
    for here, there in zip(reversed(folders), reversed(place.parts), strict=False):
        if here != there.lower():
            break
        count += 1
    return count
