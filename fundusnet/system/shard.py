"""Work that several machines share: the part of one of them, and finding the parts to merge."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from fundusnet.errors import UserError


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (1 … ``of``) of the photographs."""

    number: int = 1
    of: int = 1

    @classmethod
    def parsed(cls, text: str | None) -> Shard:
        """From ``i/n``; None = all. Raises UserError."""
        if text is None:
            return cls()
        found = re.fullmatch(r"(\d+)/(\d+)", str(text))
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"shard={text} is not a part i/n; shard=1/4 to shard=4/4 are the four parts of four")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def check_filled(self, count: int) -> None:
        """Refuse more parts than there are photographs."""
        if self.of > count:
            raise UserError(f"shard={self} of {count} photographs leaves parts empty; use fewer parts")


def find_parts(patterns: Sequence[str], is_part: Callable[[Path], bool], what: str) -> list[Path]:
    """The folders that ``patterns`` (folders, or patterns such as ``parts/*``) match and that are parts, each once.

    Raises:
        UserError: A pattern matches none; ``what`` says what it should have matched.
    """
    parts: dict[Path, None] = {}
    for pattern in patterns:
        found = [Path(path) for path in sorted(glob(pattern))]  # noqa: PTH207 - the pattern may be absolute
        found = [path for path in found if is_part(path)]
        if not found:
            raise UserError(f"merge={pattern} matches no {what}; check the path")
        parts.update(dict.fromkeys(found))
    if not parts:
        raise UserError(f"merge=[] matches no {what}; give folders or a pattern such as 'parts/*'")
    return list(parts)


def in_order(parts: Iterable[tuple[Path, Shard]], verb: str) -> list[Path]:
    """The folders of all parts of one division, in order.

    Raises:
        UserError: Parts of several divisions, a duplicate part, or a missing one, which ``verb`` would make.
    """
    found: dict[int, tuple[Path, Shard]] = {}
    for part, shard in parts:
        first, division = next(iter(found.values()), (part, shard))
        if shard.of != division.of:
            raise UserError(f"{first} is part {division} and {part} part {shard}; merge parts of one division")
        if shard.number in found:
            raise UserError(f"{found[shard.number][0]} and {part} are both part {shard}; name one of them")
        found[shard.number] = part, shard
    of = next(iter(found.values()))[1].of
    if missing := [f"{number}/{of}" for number in range(1, of + 1) if number not in found]:
        raise UserError(f"part {', '.join(missing)} is missing; {verb} it, or name it too")
    return [found[number][0] for number in sorted(found)]


def link(source: Path, target: Path) -> None:
    """Give ``source`` another name: a hard link if the file system supports it, else a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copy2(source, target)
