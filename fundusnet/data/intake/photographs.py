"""Which photograph a cell of a table means."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from fundusnet.data import dicom
from fundusnet.data.intake import words
from fundusnet.data.listing import photographs, suffixes

_MANGLED = re.compile(r"\d[.,]\d+e\+?\d+", re.IGNORECASE)
#: 12_left, RET002OD, 7001-R, 7001_OS_2: a patient, an eye, and what else there is
_PATIENT_AND_EYE = re.compile(
    r"(.+?)(?:[\s_.-]*(left|right)|[\s_.-]*(?<=[\d\s_.-])(od|os)|[\s_.-]([lr]))(?:[\s_.-].*)?", re.IGNORECASE
)


class Photographs:
    """The photographs below a folder, found by what tables call them.

    A cell may be a path of another machine, in either convention and any case of letters, with an umlaut as one sign or
    two; the suffix may be missing or another one; a number may have lost its leading zeros, or gained ".0", in a
    spreadsheet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = photographs(folder)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_number: dict[str, list[Path]] = defaultdict(list)
        for file in self.files:
            for name in {_plain(file.name), _stem(_plain(file.name))}:
                self._by_name[name].append(file)
            if _stem(file.name).isdecimal():
                self._by_number[_stem(file.name).lstrip("0")].append(file)

    def candidates(self, cell: str) -> list[Path]:
        """The photographs that a cell may mean: of those with its name, the ones that share most of its folders.

        Of files in one folder that differ in the case of letters or in the suffix, it means that of its own name.
        """
        path = cell.strip().strip("\"'").replace("\\", "/")
        parts = [part for part in _plain(path).split("/") if part not in ("", ".")]
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
        folders: dict[Path, list[Path]] = defaultdict(list)
        for file in found:
            if shared[file] == most:
                folders[file.parent].append(file)
        return [file for files in folders.values() for file in _of_name(path.rpartition("/")[2], files)]

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

    def of_eye(self, patient: str, eye: str) -> list[Path]:
        """The photographs whose names are of a patient, as tables call him (7001, #002), and of an eye."""
        number = re.fullmatch(r"#?(\d+)(?:[.,]0+)?", patient)
        names = {_plain(patient)} if _plain(patient) in self._patients else set[str]()
        if not names and number:
            names = self._patient_numbers.get(number[1].lstrip("0"), names)
        return self._patients[next(iter(names))][eye] if len(names) == 1 else []

    def is_patient(self, cell: str) -> bool:
        """Whether the names of photographs begin with what a cell calls a patient."""
        return any(self.of_eye(cell, eye) for eye in ("left", "right"))

    @cached_property
    def _patients(self) -> dict[str, dict[str, list[Path]]]:
        """Patient → eye → photographs, by their names; of the same names in several folders those of the largest."""
        sizes = Counter(file.parent for file in self.files)
        chosen: dict[str, Path] = {}
        for file in sorted(self.files, key=lambda file: -sizes[file.parent]):
            chosen.setdefault(_plain(file.stem), file)
        patients: dict[str, dict[str, list[Path]]] = defaultdict(lambda: {"left": [], "right": []})
        for name, file in chosen.items():
            if found := patient_and_eye(name):
                patients[found[0]][found[1]].append(file)
        return dict(patients)

    @cached_property
    def _patient_numbers(self) -> dict[str, set[str]]:
        """The last number in the name of each patient → the patients with that number."""
        numbers: dict[str, set[str]] = defaultdict(set)
        for patient in self._patients:
            if digits := re.findall(r"\d+", patient):
                numbers[digits[-1].lstrip("0")].add(patient)
        return dict(numbers)


def patient_and_eye(stem: str) -> tuple[str, str] | None:
    """The patient and the eye that the name of a photograph may be of: "12_left" → ("12", "left")."""
    found = _PATIENT_AND_EYE.fullmatch(stem)
    return (found[1], words.eye_of(found[2] or found[3] or found[4])) if found else None


def is_mangled(cell: str) -> bool:
    """Whether a spreadsheet shortened a long number: 2.01704E+16."""
    return bool(_MANGLED.fullmatch(cell.strip()))


def _plain(name: str) -> str:
    """A name by which files are compared: any case of letters, umlauts as one sign, one space for several."""
    return " ".join(unicodedata.normalize("NFC", name).lower().split())


def _of_name(name: str, files: Sequence[Path]) -> Sequence[Path]:
    """Those of the files of one folder that have exactly this name, with its suffix or without; all if none has."""
    for part in (str, _stem):
        wanted = part(unicodedata.normalize("NFC", name))
        if same := [file for file in files if part(unicodedata.normalize("NFC", file.name)) == wanted]:
            return same
    return files


def _stem(name: str) -> str:
    """A file name without the suffix of a photograph; other ends, such as that of ``IM.0012``, stay."""
    suffix = Path(name).suffix.lower()
    return name[: -len(suffix)] if suffix and (suffix in suffixes() or suffix in dicom.SUFFIXES) else name


def _shared(folders: Sequence[str], place: Path) -> int:
    """How many folders, from the innermost, a path of a table and one on disk have in common."""
    count = 0
    for here, there in zip(reversed(folders), reversed(place.parts), strict=False):
        if here != _plain(there):
            break
        count += 1
    return count
